"""Pictures in YUV 4:2:0: colours survive, and only what is painted changes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.face.yuv import FrameConverter, RgbConverter, copy_of, crop, paste, planes

SIZE = 64


def smooth(shift: float) -> NDArray[np.uint8]:
    x = np.linspace(0, 1, SIZE)
    waves = [128 + 90 * np.sin(x[:, None] * a + x[None] * b + shift) for a, b in ((1, 2), (2, -1), (-1, 1))]
    return np.stack(waves, -1).astype(np.uint8)


def test_colours_survive_there_and_back() -> None:
    image = smooth(0)
    back = RgbConverter()(FrameConverter()(image))
    assert np.abs(back.astype(int) - image).max() <= 8 and np.abs(back.astype(int) - image).mean() < 2


def test_a_box_is_cut_out_and_only_what_was_painted_is_put_back() -> None:
    to_yuv = FrameConverter()
    picture, other = to_yuv(smooth(0)), to_yuv(smooth(2))
    before, box = [p.copy() for p in planes(picture)], np.array([10, 20, 42, 46], np.int32)
    part = crop(other, box)
    assert (part.width, part.height) == (32, 26)
    for found, whole, step in zip(planes(part), planes(other), (1, 2, 2), strict=True):
        assert np.array_equal(found, whole[20 // step : 46 // step, 10 // step : 42 // step])
    where = np.zeros((26, 32), bool)
    where[3, 5] = where[10:14, 10:20] = True
    paste(picture, box, part, where)
    inside = np.zeros((SIZE, SIZE), bool)
    inside[20:46, 10:42] = where
    colors = inside.reshape(SIZE // 2, 2, SIZE // 2, 2).any((1, 3))
    assert colors.sum() == 1 + 2 * 5
    for plane, old, new, changed in zip(planes(picture), before, planes(other), (inside, colors, colors), strict=True):
        assert np.array_equal(plane[changed], new[changed]) and np.array_equal(plane[~changed], old[~changed])


def test_an_odd_box_is_refused() -> None:
    with pytest.raises(AssertionError, match="even box"):
        crop(FrameConverter()(smooth(0)), np.array([1, 0, 33, 32], np.int32))


def test_a_copy_has_the_same_pixels_in_memory_of_its_own() -> None:
    picture = FrameConverter()(smooth(0.5)[:, :50])  # rows that FFmpeg pads
    copied = copy_of(picture)
    assert all((a == b).all() and a.shape == b.shape for a, b in zip(planes(copied), planes(picture), strict=True))
    planes(copied)[0][:] = 0
    assert planes(picture)[0].any()
