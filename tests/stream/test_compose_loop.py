"""The composing thread on a pipeline that draws nothing: order, epochs, faults."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from realtime.frames import FULL_QUALITY, Frame, Painted, Quality
from realtime.stage_timer import StageTimer
from realtime.stream.compose_loop import ComposeLoop
from realtime.stream.mailbox import Mailbox
from realtime.stream.schedule import Cores
from tests.fake_pipeline import FakePipeline

PLAIN = Quality(refined=False)


class Bench:
    def __init__(self) -> None:
        self.pipeline, self.mailbox, self.timer, self.cores = (
            FakePipeline(),
            Mailbox[Painted[Any]](),
            StageTimer(),
            Cores(1),
        )
        self.epoch = 0
        self.steps: list[str] = []
        self.delivered = threading.Semaphore(0)
        self.free_cores: list[int] = []
        self.loop = ComposeLoop(
            self.pipeline, self.mailbox, self.timer, self.cores, lambda: self.epoch, self.encode, self.deliver
        )

    def encode(self, frame: Frame) -> None:
        self.free_cores.append(len(self.cores._free))
        self.steps.append(f"encode {frame.index}")

    def deliver(self, frame: Frame) -> None:
        self.free_cores.append(len(self.cores._free))
        self.steps.append(f"deliver {frame.index}, {self.pipeline.read_aheads} read ahead")
        self.delivered.release()

    def put(self, index: int, quality: Quality = FULL_QUALITY, epoch: int = 0) -> None:
        face = self.pipeline.paint(index, quality)
        self.mailbox.put(Painted(index, face, quality, epoch, started=0.0, ready=0.0))

    def wait(self) -> None:
        assert self.delivered.acquire(timeout=60)


def test_a_frame_is_encoded_on_its_core_and_delivered_after_it() -> None:
    bench = Bench()
    bench.put(3, PLAIN)
    bench.wait()
    bench.loop.stop()
    assert bench.steps == ["encode 3", "deliver 3, 1 read ahead"]
    assert bench.free_cores == [0, 1], "others wait for what a frame costs, not for who takes it"
    assert bench.pipeline.finished == [(3, PLAIN)], "as it was painted, so it is finished"
    assert {"hand-over", "frame"} <= set(bench.timer.percentiles())


def test_a_face_of_an_older_epoch_is_discarded_and_counted() -> None:
    bench = Bench()
    bench.epoch = 2
    bench.put(7, epoch=1)
    while bench.timer.counted("cut_off") == 0:
        assert bench.loop.failure is None
    bench.put(8, epoch=2)
    bench.wait()
    bench.loop.stop()
    assert [index for index, _ in bench.pipeline.finished] == [8] and bench.timer.counted("cut_off") == 1


@pytest.mark.parametrize("place", ["finish", "deliver"])
def test_a_fault_ends_the_loop_and_is_told(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = RuntimeError("the codec broke")
    bench = Bench()
    if place == "finish":
        bench.pipeline.error = fault
    else:

        def raises(frame: Frame) -> None:
            raise fault

        monkeypatch.setattr(bench.loop, "_deliver", raises)
    bench.put(0)
    bench.loop._thread.join(60)
    assert bench.loop.failure is fault
    assert len(bench.cores._free) == 1, "its core is free for others"
    bench.loop.stop()
