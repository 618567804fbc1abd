"""Pictures as the GPU has them: NV12, which keeps U and V interleaved in one plane where yuv420p has two."""

from __future__ import annotations

import av

from ..arrays import ByteArray
from ..face.yuv import planes


def write_nv12(picture: av.VideoFrame, nv12: ByteArray) -> None:
    """A picture of S x S pixels, yuv420p, into uint8 [3 S / 2, S]: Y, then U and V interleaved."""
    y, u, v = planes(picture)
    nv12[: len(y)] = y
    nv12[len(y) :, 0::2] = u
    nv12[len(y) :, 1::2] = v


def picture_of(nv12: ByteArray) -> av.VideoFrame:
    """The reverse: a new picture, yuv420p, from uint8 [3 S / 2, S]."""
    size = nv12.shape[1]
    picture = av.VideoFrame(size, size, "yuv420p")
    y, u, v = planes(picture)
    y[:] = nv12[:size]
    u[:] = nv12[size:, 0::2]
    v[:] = nv12[size:, 1::2]
    return picture
