"""Fixtures of the tests of the GPU's code."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import moderngl
import pytest

from tests.conftest import lacking
from tests.fake_cuda import FakeCuda


@pytest.fixture(scope="module")
def trt() -> ModuleType:
    """TensorRT-RTX, which builds plans without a GPU."""
    try:
        return importlib.import_module("tensorrt_rtx")
    except ImportError:
        lacking("tensorrt_rtx (pip install -e .[dev])")


@pytest.fixture
def guarded(gl: moderngl.Context, fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Iterator[moderngl.Context]:
    """OpenGL that refuses what is forbidden while CUDA, the test's own `fake`, has something."""
    with monkeypatch.context() as patch:
        fake.guard_gl(patch)
        yield gl
