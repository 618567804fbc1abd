"""How sessions share cores: when each begins its frames, and how many frames are in the making at once."""

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

from networks.contract import FRAME_RATE

FRAME_SECONDS = 1 / FRAME_RATE
core_now = getattr(ctypes.pythonapi, "sched_getcpu", None)  # of the C library: the core that this thread runs on


class Turns:
    """Moments within 40 ms at which sessions begin their frames, as far from one another as may be: frames that fall
    together wait for one another. Used on one thread.
    """

    def __init__(self, number: int) -> None:
        """`number`: of sessions at most; evenly spread once all are taken. Any more share a moment."""
        self._moments = [i * FRAME_SECONDS / number for i in range(number)]
        self._taken: list[float] = []

    def take(self) -> float:
        """Seconds, 0 to below 0.04: the moment that is furthest from all that are taken."""
        moment = max(self._moments, key=lambda m: min((_apart(m, t) for t in self._taken), default=0))
        self._taken.append(moment)
        return moment

    def give_back(self, moment: float) -> None:
        """Raises ValueError if nobody has it."""
        self._taken.remove(moment)


def _apart(a: float, b: float) -> float:
    """On a circle of 40 ms."""
    return min((a - b) % FRAME_SECONDS, (b - a) % FRAME_SECONDS)


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may run on; as many made-up ones where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class Cores:
    """At most as many frames in the making as there are cores, the oldest first, each on a core of its own. Frames that
    take turns on a core every few milliseconds would all be as late as the last, and each would push the others' data
    out of the caches.
    """

    def __init__(self, number: int | None = None) -> None:
        """By default, all that this process may run on."""
        usable = usable_cores()
        self._free = list(itertools.islice(itertools.cycle(usable), number or len(usable)))
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, queue.SimpleQueue[int]]] = []
        self._order = itertools.count()

    @contextmanager
    def one(self, started: float) -> Iterator[None]:
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
        """Moves this thread there, and leaves it free to be moved on. Linux wakes a thread on the core where it slept,
        be there another frame in the making and a core idle; for a frame of some milliseconds it looks no further.
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
