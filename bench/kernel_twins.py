"""The kernels of shaders/*.cu as C++, compiled by g++: the same source runs on a machine without a GPU.

A launch calls the kernel for every thread of every block, one after another.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from realtime.gpu.kernel_compiler import SOURCES, read_sources
from realtime.gpu.kernels import SIGNATURES
from realtime.whole_file import replacing

# CUDA's words in C++. Arguments come as CUDA takes them, an array of addresses.
SHIM = """
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>
#define __global__
#define __device__
#define sinpif(x) float(std::sin(3.14159265358979323846 * double(x)))
#define cospif(x) float(std::cos(3.14159265358979323846 * double(x)))
struct Place { unsigned x, y, z; };
static Place threadIdx, blockIdx, blockDim;
using std::size_t;
inline unsigned __float_as_uint(float value) { unsigned bits; std::memcpy(&bits, &value, 4); return bits; }
inline int atomicAdd(int* address, int value) { int before = *address; *address += value; return before; }
"""
LAUNCH = """
template <typename... P, std::size_t... I>
void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<P*>(arguments[I])...);
}
template <typename... P>
void launch(void (*kernel)(P...), const unsigned* grid, const unsigned* block, int backwards, void** arguments) {
    blockDim = {block[0], block[1], block[2]};
    size_t threads = size_t(block[0]) * block[1] * block[2], all = threads * grid[0] * grid[1] * grid[2];
    for (size_t i = 0; i < all; i++) {
        size_t n = backwards ? all - 1 - i : i, b = n / threads, t = n % threads;
        blockIdx = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])};
        threadIdx = {unsigned(t % block[0]), unsigned(t / block[0] % block[1]), unsigned(t / block[0] / block[1])};
        call(kernel, arguments, std::index_sequence_for<P...>());
    }
}
template <typename... P>
int parameters(void (*)(P...), int* sizes) { int n = 0; ((sizes[n++] = int(sizeof(P))), ...); return n; }
"""
ENTRY = """
extern "C" void launch_{name}(const unsigned* grid, const unsigned* block, int backwards, void** arguments) {{
    launch({name}, grid, block, backwards, arguments);
}}
extern "C" int parameters_{name}(int* sizes) {{ return parameters({name}, sizes); }}
"""
FLAGS = ("-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC")


def compile_twins(sources: dict[str, str], flags: Sequence[str] = FLAGS, extra: str = "") -> Path:
    """Compiles the kernels (file name: text) as C++; the library lies in a temporary folder until sources change.

    `extra` is C++ that may call what the sources define. Raises AssertionError with the compiler's words.
    """
    included = (f'#include "{name}"\n' for name in SOURCES)
    main = [SHIM, *included, LAUNCH, *(ENTRY.format(name=n) for n in SIGNATURES), extra]
    texts = {**sources, "twins.cpp": "".join(main)}
    digest = hashlib.sha256(repr((sorted(texts.items()), list(flags))).encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"miravox-twins-{os.getuid()}" / f"{digest}.so"
    if library.is_file():
        return library
    library.parent.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, replacing(library) as partial:  # another process may do the same
        for name, text in texts.items():
            (Path(folder) / name).write_text(text)
        command = ["g++", *flags, "-o", str(partial), f"{folder}/twins.cpp"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return library


@cache
def load_twins(library: Path | None = None) -> ctypes.CDLL:
    """The compiled twins; of the sources as they are by default."""
    return ctypes.CDLL(str(library or compile_twins(read_sources())))


def parameter_sizes(name: str, twins: ctypes.CDLL | None = None) -> list[int]:
    """Bytes of each parameter of a kernel, as the C++ compiler sees them."""
    sizes = (ctypes.c_int * 64)()
    count = getattr(twins or load_twins(), f"parameters_{name}")(sizes)
    return list(sizes[:count])


def launch(
    name: str,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Any],
    *,
    backwards: bool = False,
    twins: ctypes.CDLL | None = None,
) -> None:
    """Runs a kernel on host memory.

    Args:
        name: of SIGNATURES.
        grid, block: as CUDA has them, three extents each.
        arguments: one for each parameter: a ctypes value, or a number (an address, where SIGNATURES has a pointer).
        backwards: the last thread first; no result may depend on it but the order of `gather`'s points.

    Raises ValueError for what CUDA would refuse or fault on.
    """
    types = SIGNATURES[name]
    if len(arguments) != len(types):
        raise ValueError(f"{name}: {len(arguments)} arguments; wanted {len(types)}")
    if len(grid) != 3 or len(block) != 3 or min(*grid, *block) < 1 or block[0] * block[1] * block[2] > 1024:
        raise ValueError(f"{name}: grid {tuple(grid)}, block {tuple(block)}")
    plain = [getattr(a, "value", a) or 0 for a in arguments]
    if name == "gather" and plain[-1] % 16:
        raise ValueError("gather: the encoded values must begin at a multiple of 16 bytes")
    values = [kind(value) for value, kind in zip(plain, types, strict=True)]
    addresses = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
    extents = [(ctypes.c_uint * 3)(*extent) for extent in (grid, block)]
    getattr(twins or load_twins(), f"launch_{name}")(*extents, int(backwards), addresses)
