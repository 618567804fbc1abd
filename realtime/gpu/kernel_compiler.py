"""The CUDA kernels of shaders/*.cu, compiled by NVRTC for the GPU at hand and kept in the user's cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import MiravoxError
from ..face.gl import load_shader
from .cache import keep, kept

SOURCES = ("face.cu", "layers.cu", "blend.cu", "nv12.cu")
HEADER = "frame.cuh"
# No fused multiply-add: the kernels then give what their sources give on a CPU, where they are tested. They wait for
# memory, not for arithmetic.
OPTIONS = ("--std=c++17", "--fmad=false")
INSTALL = "Install it with: pip install 'cuda-python>=13' 'nvidia-cuda-nvrtc>=13'."
DIGEST_BYTES = 32  # of the SHA-256 that stands before an image in the cache


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
    if (stored := kept(path)) is not None:
        digest, image = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
        if hashlib.sha256(image).digest() == digest:
            return image
    image = compile_image(sources, target)
    keep(path, hashlib.sha256(image).digest() + image)
    return image


def read_sources() -> dict[str, str]:
    """The text of every CUDA source by its name, header included."""
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

    Raises MiravoxError for a GPU that is older than all that NVRTC knows.
    """
    if compute_capability in supported:
        return f"sm_{compute_capability}"
    older = [a for a in supported if a < compute_capability]
    if not older:
        raise MiravoxError(
            "the GPU",
            found=f"compute capability {compute_capability / 10}",
            wanted=f"{min(supported) / 10} or more, as this NVRTC compiles for",
            remedy="Use --target onnx or baked.",
        )
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
                f"kernels for {target}",
                found=log.rstrip(b"\0 \n").decode(errors="replace"),
                wanted="sources that NVRTC compiles",
                remedy="Get shaders/ again, or another version of NVRTC.",
            )
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
