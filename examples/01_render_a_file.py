"""A recording becomes a video.

python examples/01_render_a_file.py [RECORDING [VIDEO.mp4]]
"""

import sys
from fractions import Fraction

import av
import miravox


def main(recording: str | None = None, video: str = "talk.mp4") -> None:
    avatar = miravox.load("ada")
    with (
        av.open(video, "w") as file,
        avatar.render(recording or avatar.sample) as frames,  # left early, it is closed as well
    ):
        file.metadata["comment"] = avatar.marking  # whoever sees it must be told that it is synthetic
        picture = file.add_stream("libx264", rate=25)
        picture.width = picture.height = avatar.size
        picture.pix_fmt = "yuv420p"
        sound = file.add_stream("aac", rate=16_000, layout="mono")
        for frame in frames:
            image = av.VideoFrame.from_ndarray(frame.rgb, format="rgb24")
            image.pts, image.time_base = frame.index, Fraction(1, 25)
            file.mux(picture.encode(image))
            speech = av.AudioFrame.from_ndarray(frame.samples[None], format="fltp", layout="mono")
            speech.sample_rate, speech.pts, speech.time_base = 16_000, 640 * frame.index, Fraction(1, 16_000)
            file.mux(sound.encode(speech))
        for stream in (picture, sound):
            file.mux(stream.encode(None))
    print(f"{len(frames)} frames: {video}")


if __name__ == "__main__":
    main(*sys.argv[1:])
