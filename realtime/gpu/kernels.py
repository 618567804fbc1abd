"""The CUDA kernels of shaders/*.cu, a method for each: launched with checked arguments.

Their sources say what they compute and what every parameter means; SIGNATURES repeats the parameters' types, since a
wrong number or type would not be noticed by CUDA.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Protocol

from ..face.compositor import CELL

P, N = ctypes.c_void_p, ctypes.c_int  # a pointer, a number
# Parameters of each kernel, in order.
SIGNATURES: dict[str, tuple[type[ctypes.c_void_p] | type[ctypes.c_int], ...]] = {
    "displace": (P, P, P, N),
    "gather": (P, N, P, P, P, P, N, N, N, N, N, P, P, P),
    "scatter": (P, P, P, P, N),
    "layers": (P, P, P, P, P, N, N),
    "shrink_to_cells": (P, P, P, N, N, N, N),
    "fill_cells": (P, P, N, N),
    "fill_unknown": (P, P, P, N, N, N, N),
    "shrink": (P, P, N, N, N),
    "blend": (P, P, P, P, P, P, N, N, N, N),
    "nv12_to_rgb": (P, N, N, P, P, N, N),
    "rgb_to_nv12": (P, P, P, P, N, N, N, N),
}

Extent = tuple[int, int, int]
LINE: Extent = (256, 1, 1)  # threads of a block
TILE: Extent = (32, 8, 1)  # wide, since neighbours in a row share their memory accesses


def grid(block: Extent, width: int, height: int = 1) -> Extent:
    """How many blocks cover width x height threads."""
    return (-(-width // block[0]), -(-height // block[1]), 1)


def cell_counts(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the cells of a box, as `fill_unknown` of realtime/face/compositor.py has them."""
    return max(1, height // CELL), max(1, width // CELL)


def fill_passes(rows: int, columns: int) -> int:
    """Passes of `fill_cells` that leave no cell empty, whatever is known; an even number, so that the last one writes
    where the first one read.
    """
    return max(rows, columns) // 2 * 2


class Launcher(Protocol):
    """What launching needs of `Cuda` (realtime/gpu/cuda.py)."""

    def load_module(self, image: bytes) -> int: ...

    def unload_module(self, module: int) -> None: ...

    def kernel(self, module: int, name: str) -> int: ...

    def launch(self, kernel: int, grid: Extent, block: Extent, arguments: Sequence[Any], stream: int) -> None: ...


class Kernels:
    """The kernels on one GPU, a method for each. `stream` is the stream that a kernel is put on; other arguments are
    addresses of device memory (shapes and types: see the sources in shaders/) and sizes: `width` and `height` of the
    box in pixels, `rows` and `columns` of its cells.
    """

    def __init__(self, cuda: Launcher, image: bytes) -> None:
        self.cuda = cuda
        self.module = cuda.load_module(image)
        try:
            self.kernels = {name: cuda.kernel(self.module, name) for name in SIGNATURES}
        except BaseException:  # whatever it is, the module goes
            self.close()
            raise

    def close(self) -> None:
        """Unloads them. Graphs that hold a launch of one must be gone."""
        self.cuda.unload_module(self.module)

    def _launch(self, name: str, stream: int, block: Extent, extent: tuple[int, int], *values: int) -> None:
        """`extent`: how many threads there must be, across and down."""
        arguments = [kind(value) for kind, value in zip(SIGNATURES[name], values, strict=True)]
        self.cuda.launch(self.kernels[name], grid(block, *extent), block, arguments, stream)

    def displace(self, stream: int, *, neutral: int, displacement: int, vertices: int, values: int) -> None:
        """vertices = neutral + displacement, float32; `values` of them, three for a vertex."""
        self._launch("displace", stream, LINE, (values, 1), neutral, displacement, vertices, values)

    def gather(
        self,
        stream: int,
        *,
        positions: int,
        frame_width: int,
        place: int,
        mask: int,
        low: int,
        high: int,
        width: int,
        height: int,
        frequencies: int,
        padded: int,
        capacity: int,
        count: int,
        index: int,
        encoded: int,
    ) -> None:
        """The covered pixels' numbers and encoded positions, float16 [capacity, padded], in any order; `count`, int32,
        must be 0 before and is how many were found, even if that is more than `capacity`.
        """
        inputs, box, sizes = (positions, frame_width, place, mask, low, high), (width, height), (frequencies, padded)
        self._launch("gather", stream, TILE, box, *inputs, *box, *sizes, capacity, count, index, encoded)

    def scatter(self, stream: int, *, rgb: int, index: int, count: int, face: int, capacity: int) -> None:
        """The gathered points' colours, float32 [capacity, 3], into the face, uint8 [h, w, 4], which must be 0 before.

        `capacity`: of this call; points beyond it are left out.
        """
        self._launch("scatter", stream, LINE, (capacity, 1), rgb, index, count, face, capacity)

    def layers(
        self, stream: int, *, rgb: int, face: int, mask: int, layers: int, known: int, width: int, height: int
    ) -> None:
        """What the composition network is given, float32 [6, h, w], with gaps; where there are none, uint8 [h, w]."""
        self._launch("layers", stream, TILE, (width, height), rgb, face, mask, layers, known, width, height)

    def fill(
        self,
        stream: int,
        *,
        layers: int,
        known: int,
        cells: int,
        spare: int,
        width: int,
        height: int,
        rows: int,
        columns: int,
    ) -> None:
        """Fills the gaps of `layers` in place, by way of two buffers float32 [4, rows, columns]."""
        box, counts = (width, height), (rows, columns)
        self._launch("shrink_to_cells", stream, TILE, (columns, rows), layers, known, cells, *box, *counts)
        for _ in range(fill_passes(rows, columns) // 2):
            self._launch("fill_cells", stream, TILE, (columns, rows), cells, spare, *counts)
            self._launch("fill_cells", stream, TILE, (columns, rows), spare, cells, *counts)
        self._launch("fill_unknown", stream, TILE, box, layers, known, cells, *box, *counts)

    def shrink(self, stream: int, *, layers: int, small: int, width: int, height: int, side: int) -> None:
        """The layers at the composition network's size, float32 [6, side, side]."""
        self._launch("shrink", stream, TILE, (side, side), layers, small, width, height, side)

    def blend(
        self,
        stream: int,
        *,
        layers: int,
        rgb: int,
        small: int,
        refined: int,
        mask: int,
        painted: int,
        width: int,
        height: int,
        side: int,
        refine: int = 1,
    ) -> None:
        """The finished box, uint8 [h, w, 3]; `refine` 0: only blended in; then `small` and `refined` may be 0."""
        box, buffers = (width, height), (layers, rgb, small, refined, mask, painted)
        self._launch("blend", stream, TILE, box, *buffers, *box, side, refine)

    def nv12_to_rgb(
        self, stream: int, *, frame: int, pitch: int, frame_height: int, place: int, rgb: int, width: int, height: int
    ) -> None:
        """The box of an NV12 frame as RGB, uint8 [h, w, 3]."""
        box = (width, height)
        self._launch("nv12_to_rgb", stream, TILE, box, frame, pitch, frame_height, place, rgb, *box)

    def rgb_to_nv12(
        self,
        stream: int,
        *,
        painted: int,
        mask: int,
        place: int,
        frame: int,
        pitch: int,
        frame_height: int,
        width: int,
        height: int,
    ) -> None:
        """RGB, uint8 [h, w, 3], into the box of an NV12 frame, where the mask is above 0."""
        threads, picture = (width // 2, height // 2), (frame, pitch, frame_height)
        self._launch("rgb_to_nv12", stream, TILE, threads, painted, mask, place, *picture, width, height)
