"""Plans: TensorRT-RTX builds every network without a GPU; what cannot be built is told; what was built is kept."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from conftest import lacking
from networks.contract import PLAN_NETWORKS
from realtime import gpu, plans
from realtime.avatar import load_avatar
from realtime.errors import MiravoxError
from realtime.inpaint_boxes import InpaintBoxes
from realtime.plans import Gpu, Profile, avatar_plans, bucket_of, buckets, build, cached_plan, plan_key, profiles

GPU = Gpu("NVIDIA Test", 89, 13000)
NETWORKS = tuple(network.name for network in PLAN_NETWORKS)


@pytest.fixture(scope="module")
def trt() -> ModuleType:
    try:
        return importlib.import_module("tensorrt_rtx")
    except ImportError:
        lacking("tensorrt_rtx (pip install -e .[dev])")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the plans, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "miravox" / "plans"


def standing_in(trt: ModuleType, name: str = plans.RTX, **changed: Any) -> ModuleType:
    """TensorRT with other things in it."""
    module = ModuleType(name)
    vars(module).update({**vars(trt), "__name__": name, **changed})
    return module


class Builds:
    """Takes the place of `build`: plans are b"plan 1", b"plan 2", ..."""

    def __init__(self) -> None:
        self.count = 0
        self.timings: Path | None = None
        self.compute_capability: int | None = None

    def __call__(
        self, trt: Any, path: Path, profile: Profile, timing_cache: Path | None = None,
        progress: Callable[[float], None] | None = None, compute_capability: int | None = None,
    ) -> bytes:  # fmt: skip
        self.count += 1
        self.timings, self.compute_capability = timing_cache, compute_capability
        if progress:
            progress(1.0)
        return b"plan %d" % self.count


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    made = Builds()
    monkeypatch.setattr(plans, "build", made)
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


def write_model(
    path: Path, nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], output: tuple[int, list[Any]]
) -> Path:
    """An ONNX file of these nodes; types are onnx.TensorProto's, the output is `y`."""
    import onnx
    from onnx import helper

    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info(n, *v) for n, v in inputs.items()],
        [helper.make_tensor_value_info("y", *output)],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def relu(path: Path, free: bool = True) -> Path:
    from onnx import helper

    shape = ["N" if free else 8, 4]
    return write_model(path / "relu.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": (1, shape)}, (1, shape))


def test_buckets_hold_every_box() -> None:
    assert buckets(1) == (4096,) and buckets(4096) == (4096,) and buckets(4097) == (4096, 6144)
    assert buckets(20_000) == (4096, 6144, 8192, 12288, 16384, 24576)
    sizes = buckets(2048 * 2048)
    assert sizes[-2] < 2048 * 2048 <= sizes[-1] and all(size % 1024 == 0 for size in sizes)
    assert all(1.3 < b / a <= 1.5 for a, b in zip(sizes[:-1], sizes[1:], strict=True))
    assert bucket_of(0, sizes) == 4096 and bucket_of(4097, sizes) == 6144 and bucket_of(sizes[-1], sizes) == sizes[-1]


@pytest.mark.parametrize("size", [512, 1024])
def test_profiles_fit_the_avatar(ada: Path, size: int) -> None:
    avatar = load_avatar(ada)
    found = profiles(avatar, size)
    assert tuple(found) == NETWORKS
    vertices = (len(avatar.template), 3)
    assert found["deformation"] == {"points": (vertices, vertices, vertices)}
    smallest, usual, largest = found["color"]["encoded"]
    width, height = InpaintBoxes(avatar, size).box_size
    assert smallest == (4096, 64) and largest[0] >= width * height and smallest <= usual <= largest
    assert usual[0] in buckets(width * height)
    assert not found["composition"] and not found["projection"] and not found["audio_encoder"]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_ada_is_built(trt: ModuleType, ada: Path, name: str) -> None:
    told: list[float] = []
    path = ada / "targets" / "tensorrt" / f"{name}.onnx"
    plan = build(trt, path, profiles(load_avatar(ada), 512)[name], progress=told.append)
    assert len(plan) > 0.5 * path.stat().st_size
    assert told == sorted(told) and told[-1] == 1 and told[0] < 0.3 and len(set(told)) > 5


def test_float16_and_float32_do_not_mix(trt: ModuleType, tmp_path: Path) -> None:
    from onnx import helper

    nodes = [helper.make_node("Add", ["x", "b"], ["y"], "mixed")]
    path = write_model(tmp_path / "mixed.onnx", nodes, {"x": (10, [8, 4]), "b": (1, [8, 4])}, (10, [8, 4]))
    with pytest.raises(MiravoxError, match=r"mixed\.onnx: found .*mixed.*type"):
        build(trt, path, {})


def test_an_unsupported_operator_is_named(trt: ModuleType, tmp_path: Path) -> None:
    from onnx import helper

    path = write_model(tmp_path / "det.onnx", [helper.make_node("Det", ["x"], ["y"])], {"x": (1, [4, 4])}, (1, []))
    with pytest.raises(MiravoxError, match="found .*Det.*; wanted a network that TensorRT can parse. Export") as error:
        build(trt, path, {})
    assert "no reason given" not in str(error.value)


def test_a_file_that_is_none_is_told(trt: ModuleType, ada: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes((ada / "targets" / "tensorrt" / "projection.onnx").read_bytes()[:1000])
    with pytest.raises(MiravoxError, match="cut.onnx: found .*[Pp]arse.*; wanted"):
        build(trt, cut, {})
    with pytest.raises(MiravoxError, match="No such file .* --target tensorrt"):
        build(trt, tmp_path / "none.onnx", {})


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({}, "profile"),
        ({"x": ((8, 4), (4, 4), (16, 4))}, "profile"),
        ({"x": ((1, 4), (4, 4))}, None),
        ({"x": ((1,), (4,), (16,))}, "profile"),
        ({"x": ((1, 5), (4, 5), (16, 5))}, "profile|dimension"),
        ({"z": ((1, 4), (4, 4), (16, 4))}, "profile"),
    ],
    ids=["missing", "smallest above usual", "two shapes", "other rank", "other extent", "other input"],
)  # fmt: skip
def test_a_wrong_profile_is_told(trt: ModuleType, tmp_path: Path, profile: Any, words: str | None) -> None:
    path = relu(tmp_path)
    if words is None:
        with pytest.raises(MiravoxError, match="smallest, usual and largest"):
            build(trt, path, profile)
        return
    with pytest.raises(MiravoxError, match=words) as error:
        build(trt, path, profile)
    assert "no reason given" not in str(error.value)
    assert build(trt, path, {"x": ((1, 4), (4, 4), (16, 4))}), "the right one is built after it"


def test_rtx_builds_for_the_gpu_at_hand(trt: ModuleType, tmp_path: Path) -> None:
    """Of itself it builds for none before 8.0; and there are GPUs that it does not run on."""
    path = relu(tmp_path)
    profile: Profile = {"x": ((1, 4), (4, 4), (16, 4))}
    plan_of = {c: build(trt, path, profile, compute_capability=c) for c in (None, 75, 89, 120, 999)}
    assert len({plan_of[c] for c in (None, 75, 89, 120)}) == 4 and plan_of[999] == plan_of[None]
    assert build(trt, path, profile, compute_capability=89) == plan_of[89], "nothing else makes them differ"
    for refused in (90, 100):
        with pytest.raises(MiravoxError, match=rf"{refused / 10}; wanted a GeForce.*Install TensorRT itself"):
            build(trt, path, profile, compute_capability=refused)
    assert plans.rtx_target(standing_in(trt, "tensorrt"), 90) is None, "TensorRT itself runs there"


def test_a_gpu_that_rtx_does_not_run_on_is_not_opened(trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    card = SimpleNamespace(compute_capability=90, close=lambda: closed.append(True))
    monkeypatch.setattr(gpu, "Cuda", lambda index: card)
    with pytest.raises(MiravoxError, match="capability 9.0"):
        gpu.open_device(trt=trt)
    assert closed == [True]


def test_no_driver_is_told(trt: ModuleType, tmp_path: Path) -> None:
    def builder(log: Any) -> None:
        log.log(trt.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    with pytest.raises(MiravoxError, match="no builder .*error: 35.*wanted a GPU and its driver"):
        build(standing_in(trt, Builder=builder), relu(tmp_path), {})


def test_timings_are_kept(trt: ModuleType, tmp_path: Path) -> None:
    """As TensorRT proper does. RTX measures nothing and warns that it does not, but has the same functions."""
    path, timings = relu(tmp_path, free=False), tmp_path / "a.timings"
    assert build(trt, path, {}, timings) and not timings.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for kept in (None, b"something else"):
            if kept:
                timings.write_bytes(kept)
            assert build(standing_in(trt, "tensorrt"), path, {}, timings)
            assert len(timings.read_bytes()) > 100
    assert set(tmp_path.iterdir()) == {path, timings}


def test_one_logger_a_process(trt: ModuleType) -> None:
    log = plans.logger(trt)
    assert plans.logger(trt) is log
    log.messages.clear()
    assert plans.complaints(trt) == "no reason given"
    log.log(trt.ILogger.Severity.INFO, "so it goes")
    assert not log.messages and plans.complaints(trt) == "no reason given"
    log.log(trt.ILogger.Severity.WARNING, "beware")
    assert plans.complaints(trt) == "beware"
    log.log(trt.ILogger.Severity.ERROR, "broken")
    log.log(trt.ILogger.Severity.INTERNAL_ERROR, "very")
    assert plans.complaints(trt) == "broken; very"


def test_the_key_changes_with_each_part() -> None:
    profile: Profile = {"x": ((1, 4), (4, 4), (16, 4))}
    keys = {
        plan_key("a", "tensorrt 11.4.0", GPU, profile), plan_key("b", "tensorrt 11.4.0", GPU, profile),
        plan_key("a", "tensorrt 11.4.1", GPU, profile), plan_key("a", "tensorrt_rtx 11.4.0", GPU, profile),
        plan_key("a", "tensorrt 11.4.0", replace(GPU, name="other"), profile),
        plan_key("a", "tensorrt 11.4.0", replace(GPU, compute_capability=90), profile),
        plan_key("a", "tensorrt 11.4.0", replace(GPU, driver_version=13010), profile),
        plan_key("a", "tensorrt 11.4.0", GPU, {}), plan_key("a", "tensorrt 11.4.0", GPU, {"z": profile["x"]}),
        plan_key("a", "tensorrt 11.4.0", GPU, {"x": ((1, 4), (5, 4), (16, 4))}),
    }  # fmt: skip
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
) -> None:  # fmt: skip
    """A full disk: a clear error, nothing left behind, and what was there stays."""
    path = relu(tmp_path)
    cached_plan(loading, path, {}, GPU)
    before = {p: p.read_bytes() for p in cache.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(MiravoxError, match="No space left.*wanted room .*XDG_CACHE_HOME"):
            cached_plan(loading, path, {}, replace(GPU, name="other"))
    assert {p: p.read_bytes() for p in cache.iterdir()} == before
    assert cached_plan(loading, path, {}, replace(GPU, name="other")) == b"plan 3"


def test_nothing_is_built_where_nothing_can_be_kept(
    loading: ModuleType, builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    (tmp_path / "miravox").write_text("a file in the folder's place")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(MiravoxError, match="the right to write. Make room"):
        cached_plan(loading, relu(tmp_path), {}, GPU)
    assert builds.count == 0


def test_the_bar_is_drawn_on_stderr(
    loading: ModuleType, cache: Path, builds: Builds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
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


def test_the_cache_is_where_the_user_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/somewhere")
    assert plans.plan_folder() == Path("/var/somewhere/miravox/plans")
    for value in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert plans.cache_folder() == Path.home() / ".cache" / "miravox"


def test_tensorrt_comes_before_rtx(trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    proper = ModuleType("tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", proper)
    assert plans.load_tensorrt() is proper
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert plans.load_tensorrt() is trt
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MiravoxError, match="TensorRT: found .*tensorrt.*; wanted .*pip install"):
        plans.load_tensorrt()


def test_what_is_not_wanted_is_not_imported() -> None:
    """A machine without TensorRT and CUDA imports this module."""
    import subprocess

    command = (
        "import sys; sys.modules.update({'tensorrt': None, 'tensorrt_rtx': None, 'cuda': None}); "
        "import realtime.plans; sys.exit('torch' in sys.modules)"
    )  # fmt: skip
    assert subprocess.run([sys.executable, "-c", command], cwd=Path(plans.__file__).parents[1]).returncode == 0
