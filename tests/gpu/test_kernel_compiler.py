"""The CUDA kernels compile for every kind of GPU, take the parameters that they are given, and are compiled once."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from realtime.errors import MiravoxError
from realtime.gpu import kernel_compiler
from realtime.gpu.kernel_compiler import OPTIONS, architecture, compile_image, compile_kernels, read_sources
from realtime.gpu.kernels import SIGNATURES
from tests.conftest import lacking

ARCHITECTURES = ("sm_75", "sm_86", "sm_89", "sm_90", "sm_120", "compute_75")
WARNINGS_ARE_ERRORS = (*OPTIONS, "--warning-as-error=all-warnings")


@pytest.fixture(scope="session")
def nvrtc() -> Any:
    try:
        return kernel_compiler.load_nvrtc()
    except MiravoxError as error:
        lacking(str(error))


def signatures(ptx: str) -> dict[str, tuple[str, ...]]:
    """Types of each kernel's parameters, as the compiler understood them."""
    entries = re.findall(r"\.visible \.entry (\w+)\(([^)]*)\)", ptx)
    return {name: tuple(re.findall(r"\.param \.(\w+)", parameters)) for name, parameters in entries}


WANTED = {
    name: tuple({ctypes.c_void_p: "u64", ctypes.c_int: "u32"}[kind] for kind in kinds)
    for name, kinds in SIGNATURES.items()
}


@pytest.mark.parametrize("target", ARCHITECTURES)
def test_every_gpu_gets_its_kernels(nvrtc: Any, target: str) -> None:
    image = compile_image(read_sources(), target, WARNINGS_ARE_ERRORS)
    if target.startswith("sm_"):
        assert image[:4] == b"\x7fELF"
        assert all(f".text.{name}\0".encode() in image for name in SIGNATURES)
        return
    ptx = image.decode()
    assert ptx.endswith("\0"), "the driver reads text up to its end"
    assert signatures(ptx) == WANTED
    assert not re.search(r"\.f64\b", ptx), "doubles are slow on most GPUs"
    bodies = {body.split("(")[0]: body for body in ptx.split(".visible .entry ")[1:]}
    fused = {name for name, body in bodies.items() if re.search(r"\bfma\.", body)}
    assert fused <= {"gather"}, "only the compiler's own sines, or a GPU would not compute as the twins do"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (
            "const byte* frame, int pitch, int frame_height, const int* place",
            "const byte* frame, const int* place, int pitch, int frame_height",
        ),
        ("KERNEL nv12_to_rgb", "KERNEL nv12_to_rgba"),
        (
            "int width, int height) {\n    int x = across()",
            "int width, int height, int more) {\n    int x = across() + more",
        ),
    ],
    ids=["order", "name", "count"],
)
def test_a_changed_signature_is_seen(nvrtc: Any, right: str, wrong: str) -> None:
    sources = read_sources()
    assert sources["nv12.cu"].count(right) == 1
    sources["nv12.cu"] = sources["nv12.cu"].replace(right, wrong)
    assert signatures(compile_image(sources, "compute_75").decode()) != WANTED


def test_the_compilers_words_reach_the_user(nvrtc: Any) -> None:
    sources = read_sources()
    sources["blend.cu"] = sources["blend.cu"].replace("float change[3]", "flaot change[3]")
    with pytest.raises(MiravoxError, match=r'kernels for sm_86: found .*blend\.cu\(\d+\): error.*"flaot"'):
        compile_image(sources, "sm_86")
    with pytest.raises(MiravoxError, match=r"kernels for sm_1:.*gpu-architecture"):
        compile_image(read_sources(), "sm_1")


def test_the_newest_gpu_gets_what_its_driver_compiles_on() -> None:
    known = [75, 80, 86, 90]
    assert [architecture(c, known) for c in (75, 86, 89, 121)] == ["sm_75", "sm_86", "compute_86", "compute_90"]
    with pytest.raises(MiravoxError, match=r"compute capability 6\.1; wanted 7\.5 or more"):
        architecture(61, known)


def test_a_machine_without_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MiravoxError, match=r"NVRTC.*wanted it installed.*pip install"):
        compile_kernels(86, tmp_path)


def test_kernels_are_compiled_once(nvrtc: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled: list[str] = []

    def compile_again(sources: dict[str, str], target: str, options: Sequence[str] = OPTIONS) -> bytes:
        compiled.append(target)
        return f"image {len(compiled)}".encode()

    monkeypatch.setattr(kernel_compiler, "compile_image", compile_again)
    cache = tmp_path / "a" / "b"
    assert compile_kernels(86, cache) == compile_kernels(86, cache) == b"image 1"
    assert compile_kernels(89, cache) == b"image 2" and compiled == ["sm_86", "sm_89"]
    for path in cache.iterdir():  # a file that was not written to its end
        path.write_bytes(path.read_bytes()[:-1])
    assert compile_kernels(86, cache) == compile_kernels(86, cache) == b"image 3"
    changed = {**read_sources(), "blend.cu": "// another"}
    monkeypatch.setattr(kernel_compiler, "read_sources", lambda: changed)
    assert compile_kernels(86, cache) == b"image 4"
    monkeypatch.setattr(kernel_compiler, "OPTIONS", ("--std=c++17",))
    assert compile_kernels(86, cache) == b"image 5"
    assert len(list(cache.iterdir())) == 4 and not list(cache.glob("tmp*"))


def test_a_cache_that_cannot_be_written(nvrtc: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernel_compiler, "compile_image", lambda *_: b"image")
    (tmp_path / "file").write_text("")
    with pytest.raises(MiravoxError, match=r"file/kernels: found .*; wanted a folder that can be written"):
        compile_kernels(86, tmp_path / "file" / "kernels")
