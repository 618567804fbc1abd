"""A picture as the GPU has it, and back."""

from __future__ import annotations

import av
import numpy as np

from realtime.face.yuv import planes
from realtime.gpu.nv12 import picture_of, write_nv12

SIZE = 34  # pixels: rows of a frame of FFmpeg's are longer


def test_nv12_is_what_ffmpeg_makes_of_a_picture_and_gives_it_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE * 3 // 2, SIZE), dtype=np.uint8)
    picture, nv12 = av.VideoFrame.from_ndarray(pixels, format="yuv420p"), np.zeros_like(pixels)
    write_nv12(picture, nv12)
    assert np.array_equal(nv12, picture.reformat(format="nv12").to_ndarray())
    again = picture_of(nv12)
    assert (again.width, again.height, again.format.name) == (SIZE, SIZE, "yuv420p")
    assert all(np.array_equal(a, b) for a, b in zip(planes(again), planes(picture), strict=True))
