"""Plans: TensorRT-RTX builds every network without a GPU, and what cannot be built is told."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from realtime.avatar import load_avatar
from realtime.contract import PLAN_NETWORKS
from realtime.errors import MiravoxError
from realtime.gpu import tensorrt_module
from realtime.gpu.plans import build
from realtime.gpu.profiles import Profile, profiles
from tests.conftest import ROOT
from tests.fake_tensorrt import standing_in
from tests.gpu.onnx_files import relu, write_model

NETWORKS = tuple(network.name for network in PLAN_NETWORKS)


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
)
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
    assert tensorrt_module.rtx_target(standing_in(trt, "tensorrt"), 90) is None, "TensorRT itself runs there"


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


def test_what_is_not_wanted_is_not_imported() -> None:
    """A machine without TensorRT and CUDA imports this module."""
    import subprocess

    command = (
        "import sys; sys.modules.update({'tensorrt': None, 'tensorrt_rtx': None, 'cuda': None}); "
        "import realtime.gpu.plans, realtime.gpu.plan_cache; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0
