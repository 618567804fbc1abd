"""A GPU is opened with everything on it, or closed again."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import moderngl
import pytest

from realtime.avatar import Avatar, load_avatar
from realtime.errors import MiravoxError
from realtime.gpu import opened_gpu
from realtime.gpu.cuda import Cuda
from realtime.gpu.opened_gpu import open_gpu
from realtime.gpu.plan_cache import GpuModel
from tests.fake_cuda import FakeCuda


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A machine with a GPU, as far as CUDA is concerned."""
    machine = FakeCuda()
    monkeypatch.setattr(opened_gpu, "Cuda", lambda index: Cuda(index, machine.runtime, machine.driver))
    return machine


def test_everything_is_made_for_the_gpu_at_hand(
    fake: FakeCuda, ada: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def compile_kernels(compute_capability: int, cache: Path) -> bytes:
        asked.append((compute_capability, cache))
        return b"kernels"

    def avatar_plans(trt: Any, avatar: Avatar, model: GpuModel, size: int) -> dict[str, bytes]:
        asked.append((trt, avatar.name, model, size))
        return {"color": b"plan"}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(opened_gpu, "compile_kernels", compile_kernels)
    monkeypatch.setattr(opened_gpu, "avatar_plans", avatar_plans)
    trt = ModuleType("tensorrt")
    gpu = open_gpu(trt=trt)
    assert gpu.plans(load_avatar(ada), 640) == {"color": b"plan"} and gpu.image == b"kernels" and gpu.trt is trt
    assert asked == [(89, tmp_path / "miravox" / "kernels"), (trt, "Ada", GpuModel("Fake GPU", 89, 13010), 640)]
    context = gpu.create_context()
    assert isinstance(context, moderngl.Context)
    context.release()
    gpu.cuda.close()
    fake.check_leaks()


def test_other_plans_are_taken_instead(fake: FakeCuda, ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened_gpu, "compile_kernels", lambda *_: b"kernels")
    gpu = open_gpu(trt=ModuleType("torch"), plans=lambda avatar, size: {"of": b"torch"})
    assert gpu.plans(load_avatar(ada), 640) == {"of": b"torch"}


def test_a_gpu_whose_kernels_cannot_be_compiled_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    card = SimpleNamespace(compute_capability=61, close=lambda: closed.append(True))
    monkeypatch.setattr(opened_gpu, "Cuda", lambda index: card)
    with pytest.raises(MiravoxError, match="compute capability 6.1|NVRTC"):
        open_gpu(trt=ModuleType("tensorrt"))
    assert closed == [True]


def test_a_gpu_that_rtx_does_not_run_on_is_not_opened(trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    card = SimpleNamespace(compute_capability=90, close=lambda: closed.append(True))
    monkeypatch.setattr(opened_gpu, "Cuda", lambda index: card)
    with pytest.raises(MiravoxError, match="capability 9.0"):
        open_gpu(trt=trt)
    assert closed == [True]
