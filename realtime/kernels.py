"""The CUDA kernels of shaders/*.cu: compiled for the GPU at hand, kept in a cache, launched with checked arguments."""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from realtime.compositor import CELL
from realtime.errors import MiravoxError
from realtime.rasteriser import load_shader

SOURCES = ("face.cu", "layers.cu", "blend.cu", "nv12.cu")
HEADER = "frame.cuh"
# No fused multiply-add: the kernels then give what their sources give on a CPU, where they are tested. They wait for
# memory, not for arithmetic.
OPTIONS = ("--std=c++17", "--fmad=false")
INSTALL = "Install it with: pip install 'cuda-python>=13' 'nvidia-cuda-nvrtc>=13'."

POINTER, INT = ctypes.c_void_p, ctypes.c_int
# Parameters of each kernel, in order; the sources say what they mean.
SIGNATURES: dict[str, tuple[type[ctypes.c_void_p] | type[ctypes.c_int], ...]] = {
    "displace": (POINTER, POINTER, POINTER, INT),
    "gather": (
        POINTER, INT, POINTER, POINTER, POINTER, POINTER, INT, INT, INT, INT, INT, POINTER, POINTER, POINTER,
    ),
    "scatter": (POINTER, POINTER, POINTER, POINTER, INT),
    "layers": (POINTER, POINTER, POINTER, POINTER, POINTER, INT, INT),
    "shrink_to_cells": (POINTER, POINTER, POINTER, INT, INT, INT, INT),
    "fill_cells": (POINTER, POINTER, INT, INT),
    "fill_unknown": (POINTER, POINTER, POINTER, INT, INT, INT, INT),
    "shrink": (POINTER, POINTER, INT, INT, INT),
    "blend": (POINTER, POINTER, POINTER, POINTER, POINTER, POINTER, INT, INT, INT, INT),
    "nv12_to_rgb": (POINTER, INT, INT, POINTER, POINTER, INT, INT),
    "rgb_to_nv12": (POINTER, POINTER, POINTER, POINTER, INT, INT, INT, INT),
}  # fmt: skip

Extent = tuple[int, int, int]
LINE: Extent = (256, 1, 1)  # threads of a block
TILE: Extent = (32, 8, 1)  # wide, since neighbours in a row share their memory accesses


def grid(block: Extent, width: int, height: int = 1) -> Extent:
    """How many blocks cover width x height threads."""
    return (-(-width // block[0]), -(-height // block[1]), 1)


def cell_counts(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the cells of a box, as realtime.compositor.fill_unknown has them."""
    return max(1, height // CELL), max(1, width // CELL)


def fill_passes(rows: int, columns: int) -> int:
    """Passes of `fill_cells` that leave no cell empty, whatever is known; an even number, so that the last one writes
    where the first one read.
    """
    return max(rows, columns) // 2 * 2


# Compiling.


def read_sources() -> dict[str, str]:
    """The text of every CUDA source, header included."""
    return {name: load_shader(name) for name in (*SOURCES, HEADER)}


def load_nvrtc() -> Any:
    """The module cuda.bindings.nvrtc, with its library. Raises MiravoxError if either is missing."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()  # the first call looks for the library
    except (ImportError, RuntimeError) as error:
        raise MiravoxError(
            "NVRTC, which compiles the kernels", found=str(error)[:120], wanted="it installed", remedy=INSTALL
        ) from error
    return nvrtc


def architecture(compute_capability: int, supported: Sequence[int]) -> str:
    """What to compile for on a GPU of a compute capability (86 for 8.6): "sm_86", or, where NVRTC is older than the
    GPU, the newest "compute_.." that it knows, which the driver compiles on.
    """
    if compute_capability in supported:
        return f"sm_{compute_capability}"
    older = [a for a in supported if a < compute_capability]
    if not older:
        raise MiravoxError(
            "the GPU", found=f"compute capability {compute_capability / 10}",
            wanted=f"{min(supported) / 10} or more, as this NVRTC compiles for", remedy="Use --target onnx or baked.",
        )  # fmt: skip
    return f"compute_{max(older)}"


def compile_image(sources: dict[str, str], target: str, options: Sequence[str] = OPTIONS) -> bytes:
    """The kernels as a cubin for "sm_..", as PTX for "compute_..".

    Raises MiravoxError with the compiler's words.
    """
    nvrtc = load_nvrtc()
    main = "".join(f'#include "{name}"\n' for name in SOURCES)
    texts, names = [t.encode() for t in sources.values()], [n.encode() for n in sources]
    program = _checked(nvrtc, *nvrtc.nvrtcCreateProgram(main.encode(), b"kernels.cu", len(names), texts, names))
    try:
        words = [f"--gpu-architecture={target}".encode(), *(o.encode() for o in options)]
        (error,) = nvrtc.nvrtcCompileProgram(program, len(words), words)
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = _text(nvrtc, program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
            raise MiravoxError(
                f"kernels for {target}", found=log.rstrip(b"\0 \n").decode(errors="replace"),
                wanted="sources that NVRTC compiles", remedy="Get shaders/ again, or another version of NVRTC.",
            )  # fmt: skip
        if target.startswith("sm_"):
            return _text(nvrtc, program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
        return _text(nvrtc, program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _checked(nvrtc: Any, error: Any, *values: Any) -> Any:
    """What a call returned beside its error code. A fault of the caller, no user can mend it."""
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC: {nvrtc.nvrtcGetErrorString(error)[1].decode()}")
    return values[0] if values else None


def _text(nvrtc: Any, program: Any, size: Any, get: Any) -> bytes:
    """What a pair of NVRTC's functions, one for the size and one for the bytes, say of a program."""
    buffer = bytes(_checked(nvrtc, *size(program)))  # the binding writes into it
    _checked(nvrtc, *get(program, buffer))
    return buffer


def compile_kernels(compute_capability: int, cache: Path) -> bytes:
    """The kernels for a GPU of a compute capability (86 for 8.6), from the folder `cache` if they lie there.

    Raises MiravoxError if NVRTC is missing, does not know the GPU or refuses a source, and if the folder cannot be
    written.
    """
    nvrtc = load_nvrtc()
    _, *version = nvrtc.nvrtcVersion()
    target = architecture(compute_capability, _checked(nvrtc, *nvrtc.nvrtcGetSupportedArchs()))
    sources = read_sources()
    key = hashlib.sha256(repr((sorted(sources.items()), OPTIONS, version, target)).encode()).hexdigest()[:32]
    path = cache / f"{key}.kernels"
    if path.is_file():
        digest, image = path.read_bytes()[:32], path.read_bytes()[32:]
        if hashlib.sha256(image).digest() == digest:
            return image
    image = compile_image(sources, target)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
            file.write(hashlib.sha256(image).digest() + image)
        os.replace(file.name, path)  # another process may do the same
    except OSError as error:
        raise MiravoxError(
            str(cache), found=str(error), wanted="a folder that can be written",
            remedy="Free it, or set XDG_CACHE_HOME to another one.",
        ) from error  # fmt: skip
    return image


# Launching.


class Launcher(Protocol):
    """What launching needs of realtime.gl_cuda.Cuda."""

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
        self.cuda.unload_module(self.module)

    def _launch(self, name: str, stream: int, block: Extent, extent: tuple[int, int], *values: int) -> None:
        """`extent`: how many threads there must be, across and down."""
        arguments = [kind(value) for kind, value in zip(SIGNATURES[name], values, strict=True)]
        self.cuda.launch(self.kernels[name], grid(block, *extent), block, arguments, stream)

    def displace(self, stream: int, *, neutral: int, displacement: int, vertices: int, values: int) -> None:
        """vertices = neutral + displacement, float32; `values` of them, three for a vertex."""
        self._launch("displace", stream, LINE, (values, 1), neutral, displacement, vertices, values)

    def gather(
        self, stream: int, *, positions: int, frame_width: int, place: int, mask: int, low: int, high: int, width: int,
        height: int, frequencies: int, padded: int, capacity: int, count: int, index: int, encoded: int,
    ) -> None:  # fmt: skip
        """The covered pixels' numbers and encoded positions, float16 [capacity, padded], in any order; `count`, int32,
        must be 0 before and is how many were found, even if that is more than `capacity`.
        """
        self._launch(
            "gather", stream, TILE, (width, height), positions, frame_width, place, mask, low, high, width, height,
            frequencies, padded, capacity, count, index, encoded,
        )  # fmt: skip

    def scatter(self, stream: int, *, rgb: int, index: int, count: int, face: int, capacity: int) -> None:
        """The gathered points' colours, float32 [capacity, 3], into the face, uint8 [h, w, 4], which must be 0 before.

        `capacity`: of this call; points beyond it are left out.
        """
        self._launch("scatter", stream, LINE, (capacity, 1), rgb, index, count, face, capacity)

    def layers(
        self, stream: int, *, rgb: int, face: int, mask: int, layers: int, known: int, width: int, height: int
    ) -> None:  # fmt: skip
        """What the composition network is given, float32 [6, h, w], with gaps; where there are none, uint8 [h, w]."""
        self._launch("layers", stream, TILE, (width, height), rgb, face, mask, layers, known, width, height)

    def fill(
        self, stream: int, *, layers: int, known: int, cells: int, spare: int, width: int, height: int, rows: int,
        columns: int,
    ) -> None:  # fmt: skip
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
        self, stream: int, *, layers: int, rgb: int, small: int, refined: int, mask: int, painted: int, width: int,
        height: int, side: int, refine: int = 1,
    ) -> None:  # fmt: skip
        """The finished box, uint8 [h, w, 3]; `refine` 0: only blended in; then `small` and `refined` may be 0."""
        self._launch(
            "blend", stream, TILE, (width, height), layers, rgb, small, refined, mask, painted, width, height, side,
            refine,
        )  # fmt: skip

    def nv12_to_rgb(
        self, stream: int, *, frame: int, pitch: int, frame_height: int, place: int, rgb: int, width: int, height: int
    ) -> None:  # fmt: skip
        """The box of an NV12 frame as RGB, uint8 [h, w, 3]."""
        self._launch(
            "nv12_to_rgb", stream, TILE, (width, height), frame, pitch, frame_height, place, rgb, width, height
        )

    def rgb_to_nv12(
        self, stream: int, *, painted: int, mask: int, place: int, frame: int, pitch: int, frame_height: int,
        width: int, height: int,
    ) -> None:  # fmt: skip
        """RGB, uint8 [h, w, 3], into the box of an NV12 frame, where the mask is above 0."""
        self._launch(
            "rgb_to_nv12", stream, TILE, (width // 2, height // 2), painted, mask, place, frame, pitch, frame_height,
            width, height,
        )  # fmt: skip
