"""The GPU's self-test, on a fake GPU that is right, on one that is wrong, and on a machine without any."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import __main__ as command
from bench import gpu as bench_gpu
from bench import gpu_checks
from bench.gpu import failed, self_test
from bench.gpu_budget import budget, budget_table, roofline_ms
from bench.gpu_checks import FAILED, NOT_RUN, PASSED
from bench.kernel_twins import launch
from realtime.avatar import Avatar, load_avatar
from realtime.errors import MiravoxError
from realtime.face.neural_face import NeuralFace
from realtime.gpu.device_frame import CPU, DeviceFrame
from realtime.gpu.opened_gpu import OpenedGpu
from tests.fake_cuda import FakeCuda
from tests.fake_gpu import FakeGpu

SIDE = 128  # pixels


@pytest.fixture(scope="module")
def avatar(ada: Path) -> Avatar:
    """Ada at a quarter of her size and with a short loop."""
    whole = load_avatar(ada)
    corner = whole.source_box[:100, :2] // 4
    size = (whole.source_box[0, 2:] - whole.source_box[0, :2]) // 4
    return replace(
        whole,
        camera=whole.camera.scaled(SIDE, SIDE),
        source_box=np.concatenate([corner, corner + size], 1),
        source_pose=whole.source_pose[:100],
        source_mask=whole.source_mask[:100],
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_checks, "TIMED_FRAMES", 1)
    monkeypatch.setattr(gpu_checks, "GOLDEN_FRAMES", (10,))
    monkeypatch.setattr(gpu_checks, "MEMORY_WARM_UP_FRAMES", 1)


def test_what_runs_here_passes(avatar: Avatar, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, to_video_frame = FakeGpu(), DeviceFrame.to_video_frame
    # What is the GPU's memory elsewhere is the host's where CUDA is a fake.
    on_host = lambda frame: to_video_frame(replace(frame, device_type=CPU))  # noqa: E731
    monkeypatch.setattr(DeviceFrame, "to_video_frame", on_host)
    checks = self_test(avatar, gpu.open, frames=2)
    gpu.cuda.check_leaks()
    found = {name: check.status for name, check in checks.items()}
    expected = dict.fromkeys(("device", "interop", "kernels", "engines", "golden", "memory", "handover"), PASSED)
    assert {name: found[name] for name in expected} == expected, checks
    assert found["nvenc"] == NOT_RUN and "libx264" in checks["nvenc"].why  # there is no NVENC where CUDA is a fake
    assert set(checks["stages"].figures["stages_ms"]) == {"latent", "source", "face", "composition", "conversion"}
    assert set(checks["stages"].figures["median_ms"]) == {"deformation", "color", "composition", "graph", "frame"}
    assert len(checks["kernels"].figures["largest_difference"]) == 11


def test_wrong_kernels_fail(avatar: Avatar, quick: None) -> None:
    def wrong(name: str, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any]) -> None:
        launch(name, grid, block, arguments)
        if name == "blend":
            painted = arguments[5].value
            first = (ctypes.c_uint8 * 64).from_address(painted + 3 * 46 * 20)
            first[:] = [255 - value for value in first]

    gpu = FakeGpu(cuda=FakeCuda(launch=wrong))
    kernels, golden = gpu_checks.check_kernels(avatar, gpu.open), gpu_checks.check_golden(avatar, gpu.open)
    assert kernels.status == FAILED and "['blend']" in kernels.why
    assert golden.status == FAILED and golden.figures["largest_difference"] > 100


def test_vertices_elsewhere_fail(avatar: Avatar, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    displace = NeuralFace.displace
    monkeypatch.setattr(NeuralFace, "displace", lambda face, latent: displace(face, latent) + np.float32(0.006))
    monkeypatch.setattr(gpu_checks, "EDGE_SHARE", 1)  # whatever pixels it may change
    golden = gpu_checks.check_golden(avatar, FakeGpu().open)
    assert golden.status == FAILED and golden.figures["largest_difference"] <= gpu_checks.TOLERANCE
    assert golden.figures["vertices_cm"] == pytest.approx(0.006, abs=1e-3)


def test_an_error_is_a_failed_check_and_the_others_go_on(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("interop", "engines", "golden", "stages", "memory", "handover", "nvenc"):
        monkeypatch.setattr(gpu_checks, f"check_{name}", lambda *_: gpu_checks.Check(PASSED))
    gpu = FakeGpu()
    opened = 0

    def open_() -> OpenedGpu:
        nonlocal opened
        opened += 1
        if opened == 3:  # after the first look and the check of the device
            gpu.cuda.fail("cudaMalloc", 2)
        return gpu.open()

    checks = self_test(avatar, open_, frames=1)
    gpu.cuda.check_leaks()
    assert [name for name, check in checks.items() if check.status != PASSED] == ["kernels"]
    assert checks["kernels"].status == FAILED and "error 2" in checks["kernels"].why


def test_without_a_gpu_nothing_passes(
    ada: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def open_() -> OpenedGpu:
        raise MiravoxError("the GPU", found="none", wanted="one", remedy="Buy one.")

    monkeypatch.setattr(bench_gpu, "open_gpu", open_)
    monkeypatch.setattr(sys, "argv", ["bench", "gpu", "--avatar", str(ada), "--json", str(tmp_path / "gpu.json")])
    command.main()
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert {check["status"] for check in result["checks"].values()} == {NOT_RUN}
    assert "Buy one." in capsys.readouterr().out


def test_single_checks_and_torch_in_tensorrts_place(
    ada: Path, torch: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[dict[str, Any]] = []

    def open_(**options: Any) -> OpenedGpu:
        opened.append(options)
        return gpu.open()

    gpu = FakeGpu()
    monkeypatch.setattr(bench_gpu, "open_gpu", open_)
    command_line = ["bench", "gpu", "--avatar", str(ada), "--engines", "torch", "--only", "interop", "device"]
    monkeypatch.setattr(sys, "argv", command_line)
    command.main()
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [["interop", PASSED], ["device", PASSED]]
    assert {options["trt"].__name__ for options in opened} == {"torch"}
    assert "projection" in opened[0]["plans"](load_avatar(ada), 512)


def test_a_failed_check_is_the_exit_code(ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "self_test", lambda *_: {"golden": gpu_checks.Check(FAILED, "differs")})
    monkeypatch.setattr(sys, "argv", ["bench", "gpu", "--avatar", str(ada)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    assert not failed({"checks": {"golden": {"status": PASSED}}}) and not failed({"budget": {}})


def test_the_budget_counts_what_the_networks_cost(avatar: Avatar, torch: Any) -> None:
    """Against the multiplications of the networks themselves."""
    from networks.color import Color, ColorConfig
    from networks.composition import COMPOSITIONS, Composition
    from networks.deformation import Deformation

    for name in ("strided8", "dilated"):
        costs = budget(replace(avatar, composition=name), SIDE)
        counted = 0

        def count(module: Any, _: Any, output: Any) -> None:
            nonlocal counted
            counted += 2 * module.weight.numel() * output.shape[-1] * output.shape[-2]

        network = Composition(COMPOSITIONS[name]).eval()
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(count)
        with torch.no_grad():
            network(torch.zeros(1, 6, avatar.composition_size, avatar.composition_size))
        assert costs["composition"][0] == pytest.approx(counted / 1e9)
    weights = {"color": Color(ColorConfig(frequencies=10)), "deformation": Deformation()}
    points = {"color": 4096, "deformation": len(avatar.template)}
    for name, module in weights.items():
        gflop = sum(2 * p.numel() for p in module.parameters() if p.ndim == 2) * points[name] / 1e9
        assert costs[name][0] == pytest.approx(gflop, rel=0.05)  # b is folded away: 64 inputs less, twice
    assert "| RTX 4090, ms |" in budget_table(avatar, SIDE)
    assert roofline_ms((100, 1), (10, 100)) == 10 and roofline_ms((1, 1000), (10, 100)) == 10
