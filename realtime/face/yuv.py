"""Pictures in YUV 4:2:0, BT.709, limited range: what the source loop holds and what encoders take. Of a frame, only the
box that is painted is ever converted to RGB and back.

A box is left, top, right, bottom in pixels, all even: two by two pixels share their colour.
"""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from numpy.typing import NDArray

from ..arrays import ByteArray

BT709_MATRIX = 1  # as video streams number it (ITU-T H.273); Colorspace holds swscale's own numbers


def flag_bt709(video: av.VideoCodecContext | av.VideoFrame) -> None:
    """Says of a stream or a frame what all pictures here are: BT.709, limited range."""
    video.color_range, video.colorspace = ColorRange.MPEG, BT709_MATRIX
    video.color_primaries, video.color_trc = ColorPrimaries.BT709, ColorTrc.BT709


class FrameConverter:
    """RGB -> YUV 4:2:0, BT.709, limited range, flagged so."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()  # keeps its tables from frame to frame

    def __call__(self, image: ByteArray) -> av.VideoFrame:
        """uint8 [H, W, 3] sRGB -> yuv420p."""
        return self._reformatter.reformat(
            av.VideoFrame.from_ndarray(image, format="rgb24"),
            format="yuv420p",
            interpolation=Interpolation.BICUBIC,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_primaries=ColorPrimaries.BT709,
            dst_color_trc=ColorTrc.BT709,
            threads=1,
        )


class RgbConverter:
    """YUV 4:2:0, BT.709, limited range -> RGB."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> ByteArray:
        """yuv420p -> uint8 [H, W, 3] sRGB."""
        rgb = self._reformatter.reformat(
            picture,
            format="rgb24",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        return np.asarray(rgb.to_ndarray(), np.uint8)


def planes(picture: av.VideoFrame) -> tuple[ByteArray, ByteArray, ByteArray]:
    """Y [H, W], U and V [H / 2, W / 2] of a yuv420p frame: views that can be written to."""
    y, u, v = [
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in picture.planes
    ]
    return y, u, v


def copy_of(picture: av.VideoFrame) -> av.VideoFrame:
    """The pixels of a yuv420p frame in one of its own."""
    return _picture_of(planes(picture))


def _picture_of(parts: Sequence[ByteArray]) -> av.VideoFrame:
    """A yuv420p frame of its own of these three planes."""
    height, width = parts[0].shape
    picture = av.VideoFrame(width, height, "yuv420p")
    for into, part in zip(planes(picture), parts, strict=True):
        into[:] = part
    return picture


def _parts(picture: av.VideoFrame, box: NDArray[np.int32]) -> list[ByteArray]:
    """The three planes within a box."""
    left, top, right, bottom = (int(x) for x in box)
    assert not (left | top | right | bottom) & 1, "an even box"
    y, *halves = planes(picture)
    rows, columns = slice(top // 2, bottom // 2), slice(left // 2, right // 2)
    return [y[top:bottom, left:right], *(half[rows, columns] for half in halves)]


def crop(picture: av.VideoFrame, box: NDArray[np.int32]) -> av.VideoFrame:
    """A copy of what is within a box."""
    return _picture_of(_parts(picture, box))


def paste(picture: av.VideoFrame, box: NDArray[np.int32], painted: av.VideoFrame, where: NDArray[np.bool_]) -> None:
    """Puts `painted` into a box of the picture, in place, but only `where` [h, w]: elsewhere the picture stays exactly
    as it was.
    """
    rows = where[::2] | where[1::2]
    colors = rows[:, ::2] | rows[:, 1::2]
    for into, part, changed in zip(_parts(picture, box), planes(painted), (where, colors, colors), strict=True):
        np.copyto(into, part, where=changed)
