"""Milliseconds of each stage and counts of what went wrong, as values that any thread may read."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from time import perf_counter

RECENT = 500  # durations that percentiles are taken over: 20 s of frames
RATE_EVENTS = 51  # that a rate is taken over: 2 s of frames
BUCKETS_MS = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 40.0, 60.0, 100.0, 200.0)


@dataclass
class Stage:
    """Durations of one stage in milliseconds."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))  # the last one has no upper bound
    total_ms: float = 0.0
    ended: deque[float] = field(default_factory=lambda: deque(maxlen=RATE_EVENTS))  # perf_counter seconds

    def add(self, milliseconds: float) -> None:
        self.recent.append(milliseconds)
        self.ended.append(perf_counter())
        self.buckets[bisect_left(BUCKETS_MS, milliseconds)] += 1
        self.total_ms += milliseconds


def percentile(ordered: list[float], share: float) -> float:
    """Of sorted values, by the nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Measured:
    """The block of a stage that is measured. Several are entered for every frame, and a generator would cost more."""

    __slots__ = ("_stage", "_started", "_timer")

    def __init__(self, timer: StageTimer, stage: str) -> None:
        self._timer, self._stage = timer, stage

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._timer.add(self._stage, 1000 * (perf_counter() - self._started))


class StageTimer:
    """Stages in the order in which they were first seen. What is added is added to `parent`, a server's totals, too."""

    def __init__(self, parent: StageTimer | None = None) -> None:
        self._parent = parent
        self._lock = threading.Lock()
        self._stages: dict[str, Stage] = {}
        self._counts: Counter[str] = Counter()

    def add(self, stage: str, milliseconds: float) -> None:
        with self._lock:
            if stage not in self._stages:
                self._stages[stage] = Stage()
            self._stages[stage].add(milliseconds)
        if self._parent is not None:
            self._parent.add(stage, milliseconds)

    def count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] += number
        if self._parent is not None:
            self._parent.count(name, number)

    def measure(self, stage: str) -> Measured:
        """Adds how long the block took, unless it raised."""
        return Measured(self, stage)

    def counted(self, name: str) -> int:
        with self._lock:
            return self._counts[name]

    def rate(self, stage: str) -> float:
        """How often a second the stage ran lately; 0 if it has not for a second."""
        with self._lock:
            ended = list(self._stages[stage].ended) if stage in self._stages else []
        if len(ended) < 2 or perf_counter() - ended[-1] > 1:
            return 0.0
        return round((len(ended) - 1) / (ended[-1] - ended[0]), 2)

    def percentiles(self) -> dict[str, dict[str, float]]:
        """{stage: {"p50", "p95", "p99"}} in milliseconds over the last 500 of each."""
        with self._lock:
            recent = {name: sorted(stage.recent) for name, stage in self._stages.items()}
        return {
            name: {f"p{round(100 * p)}": round(percentile(values, p), 2) for p in (0.5, 0.95, 0.99)}
            for name, values in recent.items()
        }

    def histograms(self) -> dict[str, tuple[list[int], float]]:
        """{stage: (number in each of BUCKETS_MS and above, sum in milliseconds)} since the start."""
        with self._lock:
            return {name: (list(stage.buckets), stage.total_ms) for name, stage in self._stages.items()}
