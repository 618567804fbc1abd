"""Frames as NumPy arrays: sixteen of a recording on one sheet.

python examples/02_contact_sheet.py [RECORDING [SHEET.png]]
"""

import sys

import av
import miravox
import numpy as np

COLUMNS, ROWS = 4, 4


def main(recording: str | None = None, sheet: str = "sheet.png") -> None:
    avatar = miravox.load("ada")
    frames = np.stack([frame.rgb for frame in avatar.render(recording or avatar.sample, size=256)])  # [n, 256, 256, 3]
    chosen = np.linspace(0, len(frames) - 1, ROWS * COLUMNS).round().astype(int)
    rows = frames[chosen].reshape(ROWS, COLUMNS, *frames.shape[1:])
    image = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])

    with av.open(sheet, "w", format="image2") as file:
        png = file.add_stream("png")
        png.width, png.height, png.pix_fmt = image.shape[1], image.shape[0], "rgb24"
        file.mux(png.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(png.encode(None))
    print(f"frames {', '.join(map(str, chosen))} of {len(frames)}: {sheet}")


if __name__ == "__main__":
    main(*sys.argv[1:])
