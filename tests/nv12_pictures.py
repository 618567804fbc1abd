"""Pictures in NV12 on the host, which stand for those in a GPU's memory."""

from __future__ import annotations

import av
import numpy as np

from realtime.arrays import ByteArray
from realtime.gpu.device_frame import CPU, DeviceFrame
from realtime.stream.encoders import Packet

SIZE, PITCH = 160, 192  # pixels, bytes


def nv12(k: int, size: int = SIZE, pitch: int = PITCH) -> ByteArray:
    """uint8 [3 size / 2, pitch]: a smooth picture that moves, with rubbish beyond its width."""
    found = np.full((size * 3 // 2, pitch), 255, np.uint8)
    wave = np.sin((np.arange(size) + 3 * k) / 20)[None, :] * np.cos(np.arange(size) / 17)[:, None]
    found[:size, :size] = 126 + 90 * wave
    found[size:, :size] = 128 + 60 * wave[::2]
    return found


def on_host(picture: ByteArray, size: int = SIZE) -> DeviceFrame:
    return DeviceFrame(picture.ctypes.data, picture.shape[1], size, size, 0, CPU, owner=picture)


def decoded(packets: list[Packet]) -> list[av.VideoFrame]:
    context = av.CodecContext.create("h264", "r")
    assert isinstance(context, av.VideoCodecContext)
    return [frame for packet in [*packets, None] for frame in context.decode(packet)]
