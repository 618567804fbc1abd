"""How sessions share cores."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from pathlib import Path

import pytest

from realtime.stream import schedule
from realtime.stream.schedule import Cores, PhaseSlots, usable_cores


def test_slots_are_as_far_apart_as_may_be() -> None:
    slots = PhaseSlots(4)
    assert [slots.take() for _ in range(4)] == pytest.approx([0, 0.02, 0.01, 0.03])
    assert slots.take() == 0, "more sessions than foreseen share a slot"
    thirds = PhaseSlots(3)
    assert sorted(thirds.take() for _ in range(3)) == pytest.approx([0, 0.04 / 3, 0.08 / 3])


def test_a_slot_that_was_given_back_is_taken_again() -> None:
    slots = PhaseSlots(3)
    first, second, third = (slots.take() for _ in range(3))
    slots.give_back(second)
    assert slots.take() == second
    with pytest.raises(ValueError, match="not in list"):
        slots.give_back(0.5)


class Job(threading.Thread):
    """A frame that holds a core until it is told to end."""

    def __init__(self, cores: Cores, started: float, entered: list[float]) -> None:
        super().__init__(daemon=True)
        self.cores, self.started, self.entered, self.done = cores, started, entered, threading.Event()
        self.start()

    def run(self) -> None:
        with self.cores.core_for_frame(self.started):
            self.entered.append(self.started)
            assert self.done.wait(60)


def wait_for(entered: list[float], count: int) -> None:
    for _ in range(6000):
        if len(entered) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"after a minute {entered}")


def test_no_more_frames_than_cores_are_in_the_making_and_the_oldest_is_next() -> None:
    cores, entered = Cores(2), list[float]()
    jobs = {}
    for started in (1.0, 2.0):
        jobs[started] = Job(cores, started, entered)
        wait_for(entered, len(jobs))
    for started in (5.0, 3.0, 4.0):
        jobs[started] = Job(cores, started, entered)
        while len(cores._waiting) < len(jobs) - 2:
            time.sleep(0.001)
    assert entered == [1, 2], "both cores are taken"
    for expected in (3, 4, 5):
        jobs[entered[0 if expected == 3 else expected - 2]].done.set()
        wait_for(entered, expected)
        assert entered[-1] == expected
    for job in jobs.values():
        job.done.set()
        job.join(60)
    with cores.core_for_frame(0.0), cores.core_for_frame(0.0):
        assert not cores._free
    assert len(cores._free) == 2


def test_a_frame_that_fails_gives_its_core_back() -> None:
    cores = Cores(1)
    with pytest.raises(ZeroDivisionError), cores.core_for_frame(0.0):
        raise ZeroDivisionError
    with cores.core_for_frame(0.0):
        pass
    assert len(usable_cores()) >= 1


def test_frames_in_the_making_are_on_different_cores_and_may_be_moved_on(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[tuple[int, set[int]]] = []
    monkeypatch.setattr(schedule, "core_now", lambda: 0)
    # Other systems than Linux have neither.
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, mask: moves.append((pid, set(mask))), raising=False)
    cores = Cores()
    for _ in range(2):
        with cores.core_for_frame(0.0), cores.core_for_frame(1.0):
            found = [mask for _, mask in moves]
            assert sorted(map(sorted, found[0::2])) == [[3], [5]] and found[1::2] == [{3, 5}] * 2
        moves.clear()
    monkeypatch.setattr(schedule, "core_now", lambda: 5)
    with cores.core_for_frame(0.0), cores.core_for_frame(1.0):
        assert [mask for _, mask in moves] == [{3}, {3, 5}], "one is there already"

    def refuses(pid: int, mask: object) -> None:
        raise OSError(errno.EINVAL, "no such core any more")

    monkeypatch.setattr(os, "sched_setaffinity", refuses)
    with cores.core_for_frame(0.0):
        pass
    assert sorted(cores._free) == [3, 5]


@pytest.mark.usefixtures("gl_context")
def test_a_session_keeps_to_its_slot_until_it_is_closed(ada: Path) -> None:
    from realtime.avatar import load_avatar
    from realtime.stream.session import Session

    async def sessions() -> None:
        slots = PhaseSlots(3)
        assert slots.take() == 0
        session = Session(load_avatar(ada), "baked", 128, None, slots=slots, cores=Cores())
        await session.load()
        session.start()
        try:
            assert session.live.input._samples.due_seconds(0) % 0.04 == pytest.approx(0.04 / 3, abs=1e-6)
        finally:
            await session.close()
            await session.close()  # as a server may, when a page goes while it ends
        assert slots.take() == pytest.approx(0.04 / 3)

    asyncio.run(sessions())
