"""Which target runs: auto takes a GPU where there is one, and a target that was asked for is never another one."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from realtime import targets
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.avatar import Avatar, load_avatar
from realtime.cli import parse_config
from realtime.config import StreamConfig
from realtime.errors import MiravoxError
from realtime.face.pipeline import FacePipeline
from realtime.frames import Frame
from realtime.gpu import opened_gpu
from realtime.gpu import pipeline as gpu_pipeline
from realtime.gpu.pipeline import GpuPipeline
from realtime.stream.session import Session
from realtime.targets import open_pipeline, resolved
from run_stream import main
from tests.fake_gpu import FakeGpu, small_networks


@pytest.fixture
def machine(ada: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """This machine with a driver and a GPU, whose plans are of small networks."""
    fake = FakeGpu(small_networks(load_avatar(ada), tmp_path))
    monkeypatch.setattr(targets, "has_driver", lambda: True)
    for module in (opened_gpu, gpu_pipeline):
        monkeypatch.setattr(module, "open_gpu", fake.open)
    return fake


def auto(*more: str) -> StreamConfig:
    return resolved(parse_config(list(more)))


def test_auto_is_tensorrt_where_it_runs(machine: FakeGpu) -> None:
    asked: list[int] = []

    def plans(avatar: Avatar, size: int) -> dict[str, bytes]:
        asked.append(size)
        return {}

    machine.plans = plans  # type: ignore[method-assign]
    assert auto("--size", "256").target == "tensorrt" and asked == [256]  # built before the first session
    assert auto("--dry-run").target == "tensorrt" and asked == [256]  # a dry run builds nothing
    machine.cuda.check_leaks()


def test_auto_is_baked_without_a_driver(
    machine: FakeGpu, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(targets, "has_driver", lambda: False)
    assert auto().target == "baked"
    assert caplog.text == ""
    monkeypatch.undo()
    for library, found in (("libc.so.6", True), ("no-such-library.so", False)):
        monkeypatch.setattr(targets, "DRIVER", library)
        assert targets.has_driver() == found


def test_auto_is_baked_without_tensorrt(machine: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "find_spec", lambda name: None)
    assert auto().target == "baked"


def test_auto_is_baked_for_an_avatar_that_is_not_exported(machine: FakeGpu, ada: Path, tmp_path: Path) -> None:
    folder = tmp_path / "avatar"
    shutil.copytree(ada, folder, ignore=shutil.ignore_patterns("tensorrt"))
    assert auto("--avatar", str(folder)).target == "baked"


def test_auto_says_why_a_gpu_is_not_used(machine: FakeGpu, caplog: pytest.LogCaptureFixture) -> None:
    machine.cuda.fail("cudaGetDeviceCount", 35)
    assert auto().target == "baked"
    assert "target baked, since tensorrt cannot run here: cudaGetDeviceCount" in caplog.text


def test_a_plan_that_cannot_be_built_leaves_auto_baked(machine: FakeGpu, caplog: pytest.LogCaptureFixture) -> None:
    def plans(avatar: Avatar, size: int) -> dict[str, bytes]:
        raise MiravoxError("color.onnx", found="no kernel", wanted="a plan", remedy="Update TensorRT.")

    machine.plans = plans  # type: ignore[method-assign]
    assert auto().target == "baked"
    assert "no kernel" in caplog.text
    machine.cuda.check_leaks()


def test_tensorrt_is_never_another_target(machine: FakeGpu, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the driver is too old it stops, and says what is missing."""
    machine.cuda.fail("cudaGetDeviceCount", 35)
    record = tmp_path / "a.mp4"
    assert main(["--offline", "--target", "tensorrt", "--size", "128", "--record", str(record)]) == 2
    assert "error 35" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.mp4*"))


@pytest.mark.parametrize(
    ("target", "kind"), [("baked", FacePipeline), ("onnx", FacePipeline), ("tensorrt", GpuPipeline)]
)
def test_each_target_has_its_pipeline(machine: FakeGpu, ada: Path, target: str, kind: type) -> None:
    avatar = load_avatar(ada)
    short = replace(
        avatar, source_pose=avatar.source_pose[:9], source_box=avatar.source_box[:9], source_mask=avatar.source_mask[:9]
    )
    ring = AudioRing(16_000)
    ring.write(Block(0, np.zeros(16_000, np.float32)))
    with open_pipeline(short, ring, target, 128) as pipeline:
        assert isinstance(pipeline, kind)
        assert (pipeline.render(0).width, pipeline.render(1).format.name) == (128, "yuv420p")
    machine.cuda.check_leaks()


def test_a_recording_by_tensorrt(machine: FakeGpu, ada: Path, tmp_path: Path) -> None:
    """The command itself, on the fakes."""
    record = tmp_path / "said.mp4"
    assert main(["--offline", "--target", "tensorrt", "--size", "128", "--record", str(record)]) == 0
    with av.open(str(record)) as container:
        assert len(list(container.decode(video=0))) > 20
    machine.cuda.check_leaks()


def test_a_session_on_a_gpu(machine: FakeGpu, ada: Path) -> None:
    """Frames come finished from the render thread; nothing of them is given up."""

    class Taken:
        def __init__(self) -> None:
            self.frames: list[Frame] = []

        def frame(self, frame: Frame) -> None:
            self.frames.append(frame)

        def speech(self, block: Block) -> None: ...

        def close(self) -> None: ...

    async def run() -> list[Frame]:
        session, taken = Session(load_avatar(ada), "tensorrt", 128, None), Taken()
        session.taps.append(taken)
        await session.load()
        session.start()
        while len(taken.frames) < 3 and session.failure is None:
            await asyncio.sleep(0.02)
        await session.close()
        assert session.failure is None and session.status()["given_up"] == []
        return taken.frames

    frames = asyncio.run(run())
    assert [frame.picture.format.name for frame in frames[:3]] == ["yuv420p"] * 3
    machine.cuda.check_leaks()
