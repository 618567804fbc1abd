"""The render loop on a pipeline that the test holds still: what is late, dropped, skipped, handed over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from realtime.frames import FULL_QUALITY, Painted, Quality
from realtime.stage_timer import StageTimer
from realtime.stream.mailbox import Mailbox
from realtime.stream.render_loop import RenderLoop
from realtime.stream.schedule import Cores

LOOKAHEAD = 1800


PLAIN, HALVED = Quality(refined=False), Quality(refined=False, halved=True)


class SlowPipeline:
    """Renders when it is let to; notes what it was asked for."""

    qualities = (FULL_QUALITY, PLAIN, HALVED)

    def __init__(self) -> None:
        self.rendered: list[int] = []
        self.skipped: list[int] = []
        self.qualities_drawn: list[Quality] = []
        self.entered = threading.Semaphore(0)
        self.let = threading.Semaphore(0)
        self.error: Exception | None = None
        self.closed = False

    def warm_up(self) -> None:
        pass

    def paint(self, k: int, quality: Quality = FULL_QUALITY) -> Any:
        self.entered.release()
        assert self.let.acquire(timeout=60)
        if self.error is not None:
            raise self.error
        self.rendered.append(k)
        self.qualities_drawn.append(quality)
        return np.full((2, 2, 3), k % 256, np.uint8)

    def skip(self, k: int) -> None:
        self.skipped.append(k)

    def __enter__(self) -> SlowPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


class Bench:
    def __init__(self) -> None:
        self.pipeline, self.ring = SlowPipeline(), AudioRing(2 * SAMPLE_RATE)
        self.mailbox: Mailbox[Painted[Any]] = Mailbox()
        self.timer = StageTimer()
        self.watched = True
        self.cores = Cores(1)
        made: Any = self.pipeline
        self.loop = RenderLoop(
            lambda: made,
            self.ring,
            LOOKAHEAD,
            self.mailbox,
            self.timer,
            self.cores,
            lambda: self.watched,
        )
        self.loop.wait_until_ready()

    def write_until(self, frame: int) -> None:
        """Exactly the samples that frame k needs."""
        end = SAMPLES_PER_FRAME * frame + LOOKAHEAD
        self.ring.write(Block(self.ring.end_sample, np.zeros(end - self.ring.end_sample, np.float32)))

    def let_one_pass(self) -> Painted[Any]:
        self.pipeline.let.release()
        frame = self.mailbox.take()
        assert frame is not None
        return frame

    def let_one_pass_unless_older(self, frame: int) -> Painted[Any]:
        """Lets the loop pass, and fetches nothing before that frame."""
        self.pipeline.let.release()
        self.write_until(frame + 1)
        self.wait_until_rendering()  # the frame after it: so it lies in the mailbox
        found = self.mailbox.take()
        assert found is not None
        return found

    def wait_until_rendering(self) -> None:
        assert self.pipeline.entered.acquire(timeout=60)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for _ in range(100):
        bench.pipeline.let.release()
    bench.loop.stop()


def test_a_frame_is_rendered_when_its_last_sample_has_come(bench: Bench) -> None:
    bench.loop.start()
    bench.ring.write(Block(0, np.zeros(LOOKAHEAD - 1, np.float32)))
    assert not bench.pipeline.entered.acquire(timeout=0.3), "one sample is missing"
    bench.write_until(0)
    bench.wait_until_rendering()
    assert bench.let_one_pass().index == 0
    bench.write_until(1)
    bench.wait_until_rendering()
    assert bench.let_one_pass().index == 1
    assert bench.timer.counted("late") == bench.timer.counted("dropped") == 0


def test_one_frame_behind_is_late_and_nothing_is_dropped(bench: Bench) -> None:
    bench.loop.start()
    bench.write_until(0)
    bench.wait_until_rendering()
    bench.write_until(1)
    assert bench.let_one_pass().index == 0
    bench.wait_until_rendering()
    assert bench.let_one_pass().index == 1
    assert bench.timer.counted("late") == 1 and bench.timer.counted("dropped") == 0


def test_more_than_a_frame_behind_drops_frames_but_embeds_their_speech(bench: Bench) -> None:
    bench.loop.start()
    bench.write_until(0)
    bench.wait_until_rendering()
    bench.write_until(5)
    assert bench.let_one_pass().index == 0
    bench.wait_until_rendering()
    assert bench.let_one_pass().index == 5
    assert bench.pipeline.skipped == [1, 2, 3, 4]
    assert bench.timer.counted("dropped") == 4 and bench.timer.counted("rendered") == 2


def test_late_frames_halve_the_shading_once_refinement_is_given_up(bench: Bench) -> None:
    """Every frame is finished after the next one's samples have come, until both steps are given up."""
    bench.loop.start()
    bench.write_until(0)
    for k in range(12):
        bench.wait_until_rendering()
        bench.write_until(k + 1)
        assert bench.let_one_pass().index == k
    bench.wait_until_rendering()
    assert bench.loop.quality == HALVED
    assert bench.pipeline.qualities_drawn == 3 * [FULL_QUALITY] + 3 * [PLAIN] + 6 * [HALVED]
    assert bench.timer.counted("unrefined") == 9 and bench.timer.counted("halved") == 6


def test_a_machine_that_slept_begins_where_the_ring_is(bench: Bench) -> None:
    bench.loop.start()
    bench.write_until(0)
    bench.wait_until_rendering()
    bench.write_until(500)  # 20 s, ten times the ring
    assert bench.let_one_pass().index == 0
    bench.wait_until_rendering()
    assert bench.let_one_pass().index == 500
    assert bench.timer.counted("dropped") == 499


def test_a_face_that_is_not_fetched_in_time_is_dropped(bench: Bench) -> None:
    bench.loop.start()
    for k in range(2):
        bench.write_until(k)
        bench.wait_until_rendering()
        if k == 0:
            bench.pipeline.let.release()
    assert bench.let_one_pass_unless_older(1).index == 1
    assert bench.timer.counted("dropped") == 1


def test_nothing_is_rendered_while_nobody_looks(bench: Bench) -> None:
    bench.watched = False
    bench.loop.start()
    bench.write_until(30)
    assert not bench.pipeline.entered.acquire(timeout=0.3)
    bench.watched = True
    bench.write_until(31)
    bench.wait_until_rendering()
    assert bench.let_one_pass().index == 31
    assert bench.timer.counted("dropped") == 0


def test_a_frame_carries_the_epoch_that_it_was_rendered_in(bench: Bench) -> None:
    bench.loop.start()
    bench.write_until(0)
    bench.wait_until_rendering()
    bench.ring.write(Block(bench.ring.end_sample, np.zeros(0, np.float32), epoch=3))
    assert bench.let_one_pass().epoch == 0, "its speech was cut off meanwhile"
    bench.ring.write(Block(bench.ring.end_sample, np.zeros(SAMPLES_PER_FRAME, np.float32), epoch=3))
    bench.wait_until_rendering()
    assert bench.let_one_pass().epoch == 3


def test_a_fault_ends_the_loop_and_is_told(bench: Bench) -> None:
    bench.pipeline.error = MiravoxError("source.mp4", found="no frame 3", wanted="598", remedy="Get it again.")
    bench.loop.start()
    bench.write_until(0)
    bench.pipeline.let.release()
    bench.loop._thread.join(60)
    assert bench.loop.failure is bench.pipeline.error and bench.pipeline.closed


def test_a_face_waits_for_a_core(bench: Bench) -> None:
    with bench.cores.core_for_frame(0.0):
        bench.loop.start()
        bench.write_until(0)
        assert not bench.pipeline.entered.acquire(timeout=0.2), "another frame has the only core"
    painted = bench.let_one_pass()
    assert painted.index == 0 and painted.ready - painted.started >= 0.2, "the wait is a part of what the frame took"


def test_a_pipeline_that_cannot_be_made_is_told() -> None:
    def make() -> Any:
        raise MiravoxError("OpenGL", found="none", wanted="3.3", remedy="Install it.")

    timer = StageTimer()
    loop = RenderLoop(make, AudioRing(SAMPLE_RATE), LOOKAHEAD, Mailbox(), timer, Cores())
    with pytest.raises(MiravoxError, match="OpenGL"):
        loop.wait_until_ready()
    loop.stop()
