"""SourceTime: order and gaps of pieces, by time stamps that may be wrong."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..contract import SAMPLE_RATE
from .live_queue import Stretch

CYCLE = 1 << 32  # time stamps begin again
HOLES = 64  # of the newest gaps: packets that come out of order come within a second or so
DISTRUST_SECONDS = 5.0  # stamps that contradict the clock are not believed for so long


@dataclass(frozen=True)
class Gap:
    """Samples that did not come between two pieces."""

    first: int  # time stamp of the first of them
    ticks: int
    sample: int  # where it begins on the sample clock
    hole: Stretch | None  # in the queue; None if silence has taken their place already


class SourceTime:
    """What the time stamps of one source say. They never move the clock: what they say must agree with the arrivals."""

    def __init__(self) -> None:
        self._next: int | None = None  # stamp that follows the newest piece
        self._rate = SAMPLE_RATE
        self._gaps: deque[Gap] = deque(maxlen=HOLES)
        self._believed_from = 0.0  # seconds

    def ahead(self, stamp: int | None, rate: int, seconds: float) -> int:
        """Samples at 16 kHz by which a piece lies after what follows the newest one; below 0, before it.

        0 if it is not known, or not believed.
        """
        if stamp is None or self._next is None or rate != self._rate or seconds < self._believed_from:
            return 0
        ticks = (stamp - self._next + CYCLE // 2) % CYCLE - CYCLE // 2
        return round(ticks * SAMPLE_RATE / rate)

    def follow(self, stamp: int | None, rate: int, count: int) -> None:
        """A piece of `count` samples at `rate` is now the newest one."""
        self._next, self._rate = None if stamp is None else (stamp + count) % CYCLE, rate

    def distrust(self, seconds: float) -> None:
        """What a stamp said at that moment cannot be."""
        self._believed_from = seconds + DISTRUST_SECONDS
        self._gaps.clear()

    def note_gap(self, length: int, sample: int, hole: Stretch | None) -> None:
        """The next `length` samples at 16 kHz, of which the first would have been `sample`, did not come."""
        assert self._next is not None
        ticks = round(length * self._rate / SAMPLE_RATE)
        self._gaps.append(Gap(self._next, ticks, sample, hole))
        self._next = (self._next + ticks) % CYCLE

    def gap_of(self, stamp: int, count: int) -> tuple[Gap, int] | None:
        """The gap that a piece of `count` samples at its own rate fits into, and where in it, in samples at 16 kHz."""
        for gap in reversed(self._gaps):
            after = (stamp - gap.first) % CYCLE
            if after + count <= gap.ticks:
                return gap, round(after * SAMPLE_RATE / self._rate)
        return None
