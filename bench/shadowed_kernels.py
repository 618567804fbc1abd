"""ShadowedKernels: every launch of a kernel compared with its C++ twin, on the memory of a real frame."""

from __future__ import annotations

import ctypes

import numpy as np

from bench.kernel_twins import launch as launch_twin
from realtime.arrays import ByteArray
from realtime.gpu.buffers import Buffers
from realtime.gpu.cuda import Cuda
from realtime.gpu.kernels import SIGNATURES, Extent, Kernels

# How each buffer is read; the others are float32.
TYPES: dict[str, type[np.generic]] = {
    "encoded": np.float16,
    **dict.fromkeys(("count", "index", "place"), np.int32),
    **dict.fromkeys(("rgb", "face", "known", "painted", "frame"), np.uint8),
}


class ShadowedKernels(Kernels):
    """Runs every kernel twice, on the GPU and as C++ on copies of the same memory, and compares all buffers.

    Attributes:
        worst: the largest difference of each kernel that was launched: of values, of 255ths for bytes.
    """

    def __init__(self, kernels: Kernels, cuda: Cuda, buffers: Buffers) -> None:
        """The kernels stay whose they are: this object needs no closing."""
        self.cuda, self.module, self.kernels = kernels.cuda, kernels.module, kernels.kernels
        self.device, self.buffers = cuda, vars(buffers)
        self.worst: dict[str, float] = {}

    def _launch(self, name: str, stream: int, block: Extent, extent: tuple[int, int], *values: int) -> None:
        twin = self._memory(stream)
        super()._launch(name, stream, block, extent, *values)
        real = self._memory(stream)
        named = {int(address): buffer for buffer, address in self.buffers.items()}
        on_host = [
            twin[named[value]].ctypes.data if kind is ctypes.c_void_p else value
            for kind, value in zip(SIGNATURES[name], values, strict=True)
        ]
        blocks = tuple(-(-e // b) for e, b in zip((*extent, 1), block, strict=True))
        launch_twin(name, blocks, block, on_host)
        if name == "gather":  # in any order
            for memory in (twin, real):
                sort_points(memory)
        self.worst[name] = max(self.worst.get(name, 0.0), max(difference(b, twin[b], real[b]) for b in real))

    def _memory(self, stream: int) -> dict[str, ByteArray]:
        """A copy of every buffer."""
        copies = {name: np.empty(buffer.nbytes, np.uint8) for name, buffer in self.buffers.items()}
        for name, copy in copies.items():
            self.device.download(copy, self.buffers[name], stream)
        self.device.synchronize(stream)
        return copies


def sort_points(memory: dict[str, ByteArray]) -> None:
    """Brings the gathered points into the order of their pixels."""
    count = int(memory["count"].view(np.int32)[0])
    index = memory["index"].view(np.int32)
    encoded = memory["encoded"].reshape(len(index), -1)
    order = np.argsort(index[:count], kind="stable")
    index[:count], encoded[:count] = index[:count][order], encoded[:count][order]


def difference(buffer: str, wanted: ByteArray, found: ByteArray) -> float:
    """The largest one between two contents of a buffer."""
    dtype = TYPES.get(buffer, np.float32)
    a, b = wanted.view(dtype).astype(np.float64), found.view(dtype).astype(np.float64)
    scale = 255.0 if dtype is np.uint8 else 1.0  # a step of 255 is what float32 sums may differ by at a rounding's edge
    return float(np.abs(a - b).max() / scale)
