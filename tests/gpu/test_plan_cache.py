"""Plans in the user's cache: built once, kept whole, and made anew when they do not fit."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from realtime.avatar import load_avatar
from realtime.contract import PLAN_NETWORKS
from realtime.errors import MiravoxError
from realtime.gpu import plan_cache
from realtime.gpu.plan_cache import GpuModel, avatar_plans, cached_plan, plan_key
from realtime.gpu.profiles import Profile
from tests.fake_tensorrt import standing_in
from tests.gpu.onnx_files import relu

GPU = GpuModel("NVIDIA Test", 89, 13000)
NETWORKS = tuple(network.name for network in PLAN_NETWORKS)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the plans, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "miravox" / "plans"


class Builds:
    """Takes the place of `build`: plans are b"plan 1", b"plan 2", ..."""

    def __init__(self) -> None:
        self.count = 0
        self.timings: Path | None = None
        self.compute_capability: int | None = None

    def __call__(
        self,
        trt: Any,
        path: Path,
        profile: Profile,
        timing_cache: Path | None = None,
        progress: Callable[[float], None] | None = None,
        compute_capability: int | None = None,
    ) -> bytes:
        self.count += 1
        self.timings, self.compute_capability = timing_cache, compute_capability
        if progress:
            progress(1.0)
        return b"plan %d" % self.count


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    made = Builds()
    monkeypatch.setattr(plan_cache, "build", made)
    return made


@pytest.fixture
def loading(trt: ModuleType) -> ModuleType:
    """TensorRT that takes every plan that begins with "plan"."""

    class Runtime:
        def __init__(self, logger: Any) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes) -> object | None:
            return object() if plan.startswith(b"plan") else None

    return standing_in(trt, Runtime=Runtime)


def test_the_key_changes_with_each_part() -> None:
    profile: Profile = {"x": ((1, 4), (4, 4), (16, 4))}
    keys = {
        plan_key("a", "tensorrt 11.4.0", GPU, profile),
        plan_key("b", "tensorrt 11.4.0", GPU, profile),
        plan_key("a", "tensorrt 11.4.1", GPU, profile),
        plan_key("a", "tensorrt_rtx 11.4.0", GPU, profile),
        plan_key("a", "tensorrt 11.4.0", replace(GPU, name="other"), profile),
        plan_key("a", "tensorrt 11.4.0", replace(GPU, compute_capability=90), profile),
        plan_key("a", "tensorrt 11.4.0", replace(GPU, driver_version=13010), profile),
        plan_key("a", "tensorrt 11.4.0", GPU, {}),
        plan_key("a", "tensorrt 11.4.0", GPU, {"z": profile["x"]}),
        plan_key("a", "tensorrt 11.4.0", GPU, {"x": ((1, 4), (5, 4), (16, 4))}),
    }
    assert len(keys) == 10
    assert plan_key("a", "tensorrt 11.4.0", replace(GPU), dict(profile)) in keys, "and with nothing else"


def test_a_plan_is_built_once(loading: ModuleType, cache: Path, builds: Builds, tmp_path: Path) -> None:
    path = relu(tmp_path)
    assert cached_plan(loading, path, {}, GPU) == b"plan 1" and cached_plan(loading, path, {}, GPU) == b"plan 1"
    assert cached_plan(loading, path, {}, replace(GPU, name="other")) == b"plan 2"
    assert cached_plan(standing_in(loading, __version__="9.9"), path, {}, GPU) == b"plan 3"
    path.write_bytes(path.read_bytes() + b" ")
    assert cached_plan(loading, path, {}, GPU) == b"plan 4" and cached_plan(loading, path, {}, GPU) == b"plan 4"
    assert builds.count == 4 and len(list(cache.iterdir())) == 4
    assert builds.timings and builds.timings.parent == cache
    assert builds.compute_capability == GPU.compute_capability


def test_a_broken_plan_is_built_anew_once(loading: ModuleType, cache: Path, builds: Builds, tmp_path: Path) -> None:
    path = relu(tmp_path)
    cached_plan(loading, path, {}, GPU)
    (kept,) = cache.iterdir()
    for broken in (b"", b"pla", b"garbage"):
        kept.write_bytes(broken)
        assert cached_plan(loading, path, {}, GPU) == kept.read_bytes() == b"plan %d" % builds.count
    assert builds.count == 4 and list(cache.iterdir()) == [kept]


def test_a_new_plan_that_does_not_load_is_told(trt: ModuleType, cache: Path, builds: Builds, tmp_path: Path) -> None:
    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> None:
            self.logger.log(trt.ILogger.Severity.ERROR, "made for another planet")

    with pytest.raises(MiravoxError, match="does not load .*another planet.*NVIDIA Test"):
        cached_plan(standing_in(trt, Runtime=Runtime), relu(tmp_path), {}, GPU)
    assert builds.count == 1 and not list(cache.iterdir())


def test_half_a_plan_is_never_there(
    loading: ModuleType, cache: Path, builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: a clear error, nothing left behind, and what was there stays."""
    path = relu(tmp_path)
    cached_plan(loading, path, {}, GPU)
    before = {p: p.read_bytes() for p in cache.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(MiravoxError, match="No space left.*with room for 20 MB.*XDG_CACHE_HOME"):
            cached_plan(loading, path, {}, replace(GPU, name="other"))
    assert {p: p.read_bytes() for p in cache.iterdir()} == before
    assert cached_plan(loading, path, {}, replace(GPU, name="other")) == b"plan 3"


def test_nothing_is_built_where_nothing_can_be_kept(
    loading: ModuleType, builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "miravox").write_text("a file in the folder's place")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MiravoxError, match="wanted a folder that can be written.*Make room"):
        cached_plan(loading, relu(tmp_path), {}, GPU)
    assert builds.count == 0


def test_the_bar_is_drawn_on_stderr(
    loading: ModuleType, cache: Path, builds: Builds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cached_plan(loading, relu(tmp_path), {}, GPU)
    out, err = capsys.readouterr()
    assert not out and "plan of relu" in err and "100%" in err
    told: list[float] = []
    cached_plan(loading, relu(tmp_path), {}, replace(GPU, name="other"), told.append)
    assert told == [1.0] and capsys.readouterr() == ("", "")


def test_all_plans_of_an_avatar(loading: ModuleType, cache: Path, builds: Builds, ada: Path) -> None:
    avatar = load_avatar(ada)
    made = avatar_plans(loading, avatar, GPU, 512)
    assert tuple(made) == NETWORKS and len(set(made.values())) == 5
    assert avatar_plans(loading, avatar, GPU, 512) == made and builds.count == 5
    avatar_plans(loading, avatar, GPU, 640)
    assert builds.count == 6, "only the colour network's shapes change with the size"
