"""How sessions share cores: when each begins its frames, and how many frames are in the making at once."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from networks.contract import FRAME_RATE

FRAME_SECONDS = 1 / FRAME_RATE


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


def usable_cores() -> int:
    """That this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Cores:
    """At most as many frames in the making as there are cores, the oldest first. Frames that take turns on a core every
    few milliseconds would all be as late as the last, and each would push the others' data out of the caches.
    """

    def __init__(self, number: int | None = None) -> None:
        """By default, all that this process may run on."""
        self._free = usable_cores() if number is None else number
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, threading.Event]] = []
        self._order = itertools.count()

    @contextmanager
    def one(self, started: float) -> Iterator[None]:
        """Waits for a core for a frame that began at that second; it is given back at the end of the block."""
        self._take(started)
        try:
            yield
        finally:
            self._give_back()

    def _take(self, started: float) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            given = threading.Event()
            heapq.heappush(self._waiting, (started, next(self._order), given))
        given.wait()

    def _give_back(self) -> None:
        with self._lock:
            if self._waiting:
                heapq.heappop(self._waiting)[2].set()
            else:
                self._free += 1
