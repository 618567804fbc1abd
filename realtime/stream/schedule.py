"""How sessions share cores: PhaseSlots says when each begins its frames, Cores how many are made at once, and where."""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import itertools
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..contract import FRAME_SECONDS

core_now = getattr(ctypes.pythonapi, "sched_getcpu", None)  # of the C library: the core that this thread runs on


class PhaseSlots:
    """Moments within the 40 ms of a frame at which sessions begin their frames, as far from one another as may be:
    frames that begin together wait for one another. Used on one thread.
    """

    def __init__(self, number: int) -> None:
        """`number`: of sessions at most; evenly spread once all slots are taken. Any more share a slot."""
        self._slots = [i * FRAME_SECONDS / number for i in range(number)]
        self._taken: list[float] = []

    def take(self) -> float:
        """Seconds, 0 to below 0.04: the slot that is furthest from all that are taken."""
        slot = max(self._slots, key=lambda s: min((_apart(s, t) for t in self._taken), default=0))
        self._taken.append(slot)
        return slot

    def give_back(self, slot: float) -> None:
        """Raises ValueError if nobody has it."""
        self._taken.remove(slot)


def _apart(a: float, b: float) -> float:
    """On a circle of 40 ms."""
    return min((a - b) % FRAME_SECONDS, (b - a) % FRAME_SECONDS)


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may run on; as many made-up ones where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class Cores:
    """Lets at most as many frames be made at once as there are cores, the oldest first, each on a core of its own.

    Frames that share a core, a few milliseconds each in turn, would all be as late as the last of them, and each would
    push the others' data out of the core's caches.
    """

    def __init__(self, number: int | None = None) -> None:
        """By default, all that this process may run on."""
        usable = usable_cores()
        self._free = list(itertools.islice(itertools.cycle(usable), number or len(usable)))
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, queue.SimpleQueue[int]]] = []
        self._order = itertools.count()

    @contextmanager
    def core_for_frame(self, started: float) -> Iterator[None]:
        """Waits for a core for a frame that began at that second; it is given back at the end of the block."""
        core = self._take(started)
        try:
            self._move_to(core)
            yield
        finally:
            self._give_back(core)

    def _take(self, started: float) -> int:
        with self._lock:
            if self._free:
                return self._free.pop()
            given: queue.SimpleQueue[int] = queue.SimpleQueue()
            heapq.heappush(self._waiting, (started, next(self._order), given))
        return given.get()

    def _move_to(self, core: int) -> None:
        """Moves this thread to that core, and then allows it all cores again.

        Linux wakes a thread on the core where it last ran, even while another frame is made there and a core is idle;
        a frame takes too few milliseconds for the scheduler to move it by itself.
        """
        if hasattr(os, "sched_setaffinity") and (core_now is None or core_now() != core):
            allowed = os.sched_getaffinity(0)
            with contextlib.suppress(OSError):  # the process may run on other cores since it started
                os.sched_setaffinity(0, (core,))
                os.sched_setaffinity(0, allowed)

    def _give_back(self, core: int) -> None:
        with self._lock:
            if self._waiting:
                heapq.heappop(self._waiting)[2].put(core)
            else:
                self._free.append(core)
