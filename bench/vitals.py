"""What a running server holds: memory, descriptors, threads, tasks and places; and how its memory grows."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.browser import START_SECONDS, ServerProcess, wait_until
from bench.intervals import Z
from bench.startup import memory_mb, stats_of

FloatArray = NDArray[np.floating[Any]]

BLOCKS = 12  # that a line through memory is fitted to: what the allocator takes and gives back within one is no growth


@dataclass(frozen=True)
class Vitals:
    """What a server holds at a moment."""

    rss_mb: float  # resident memory, 10^6 bytes
    fds: int  # descriptors
    threads: int  # of the system, not only Python's
    tasks: int  # of asyncio, that are not done
    places: int  # sessions that live, and offers that were answered and are not connected


class CountedServer(ServerProcess):
    """run_stream.py with some options, and its vitals.

    Args:
        folder: for its log and what it counts.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._tasks = folder / "tasks"
        command = [sys.executable, "-m", "bench.counted_server", str(self._tasks), "--", *options]
        super().__init__(command, folder / "server.log")

    def __enter__(self) -> CountedServer:
        super().__enter__()
        return self

    def vitals(self) -> Vitals:
        """Now. Raises MiravoxError or OSError if the server does not answer any more."""
        import psutil

        process, stats = psutil.Process(self.process.pid), stats_of(self)
        return Vitals(
            rss_mb=memory_mb(self),
            fds=process.num_fds(),
            threads=process.num_threads(),
            tasks=self._count_tasks(),
            places=len(stats["sessions"]) + stats["half_open"],
        )

    def _count_tasks(self) -> int:
        self._tasks.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        wait_until(self._tasks.exists, START_SECONDS, "server", "an event loop that runs", self.tail)
        return int(self._tasks.read_text())


def slope_per_hour(seconds: FloatArray, values: FloatArray) -> tuple[float, tuple[float, float]]:
    """Least squares through the medians of blocks of equal length: the slope in an hour, and its 95 % interval.

    Args:
        seconds: [n], increasing.
        values: [n].

    Fewer than three blocks with values have no interval: it is infinite, and so is that of no values at all.
    """
    nothing = (float("-inf"), float("inf"))
    if len(seconds) < 2:
        return 0.0, nothing
    edges = np.linspace(seconds[0], seconds[-1], BLOCKS + 1)
    block = np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, BLOCKS - 1)
    kept = [block == index for index in range(BLOCKS) if (block == index).any()]
    hours = np.array([np.mean(seconds[inside]) for inside in kept]) / 3600
    medians = np.array([np.median(values[inside]) for inside in kept])
    if len(kept) < 2:
        return 0.0, nothing
    slope, base = np.polyfit(hours, medians, 1)
    if len(kept) < 3:
        return float(slope), nothing
    off = medians - (base + slope * hours)
    reach = Z * np.sqrt(np.sum(off**2) / (len(kept) - 2) / np.sum((hours - hours.mean()) ** 2))
    return float(slope), (float(slope - reach), float(slope + reach))
