"""LiveQueue: samples of a live source that wait for their turn, in order, with holes for those that have not come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray
from ..contract import SAMPLE_RATE


@dataclass(eq=False)
class Stretch:
    """Consecutive samples that came at once, silence, or a hole."""

    samples: FloatArray  # float32 [n], n > 0, 16 kHz
    seconds: float  # when they came
    stamp: tuple[int, int] | None = None  # the source's time stamp of one sample, and which of them it is
    speech: bool = True  # came from the source
    quiet: bool = True  # a pause: some of it may be left out
    hole: bool = False  # may still come
    gone: bool = False  # is not in the queue any more


@dataclass(frozen=True)
class Taken:
    """What is written as one block."""

    samples: FloatArray
    speech: int  # of them came from the source
    missing: int  # of them nothing is known
    seconds: float  # when the last of them came
    stamp: tuple[int, int] | None  # a time stamp, and which of the samples it names


class LiveQueue:
    """First in, first out. Used on the input's thread."""

    def __init__(self) -> None:
        self._stretches: deque[Stretch] = deque()
        self._taken = 0  # samples of the first stretch that have left
        self.count = 0  # samples that wait

    def append(self, stretch: Stretch) -> None:
        if len(stretch.samples):
            self._stretches.append(stretch)
            self.count += len(stretch.samples)

    def append_silence(self, count: int, seconds: float, hole: bool = False) -> Stretch:
        """`count` zeros, >= 0; those of a hole may be replaced by `fill`."""
        stretch = Stretch(np.zeros(count, np.float32), seconds, speech=False, hole=hole)
        self.append(stretch)
        return stretch

    def fill(self, hole: Stretch, samples: FloatArray, seconds: float) -> int:
        """Puts late samples where a hole is; returns how many found their place."""
        taken = self._taken if self._stretches and self._stretches[0] is hole else 0
        found = 0 if hole.gone or not hole.hole else max(0, min(len(samples), len(hole.samples)) - taken)
        if found:
            hole.samples[taken : taken + found] = samples[taken : taken + found]
            hole.seconds, hole.hole, hole.speech, hole.quiet = seconds, False, True, False
        return found

    def silence(self, seconds: float) -> None:
        """What waits is not said; as much silence takes its place."""
        count = self.count
        self.drop(count)
        self.append_silence(count, seconds)

    def ready(self, count: int) -> bool:
        """Whether the next `count` samples are all there."""
        return self.count >= count and not any(stretch.hole for stretch in self._first(count))

    def whole(self) -> int:
        """How many samples are there before the first hole."""
        count = -self._taken
        for stretch in self._stretches:
            if stretch.hole:
                break
            count += len(stretch.samples)
        return max(0, count)

    def quiet(self, count: int) -> bool:
        """Whether nobody speaks in the next `count` samples."""
        return self.count >= count and all(stretch.quiet and not stretch.hole for stretch in self._first(count))

    def _first(self, count: int) -> Iterator[Stretch]:
        end = -self._taken
        for stretch in self._stretches:
            if end >= count:
                return
            yield stretch
            end += len(stretch.samples)

    def take(self, count: int, seconds: float) -> Taken:
        """The next `count` samples; silence in place of what has not come, as of `seconds`."""
        first = self._stretches[0] if self._stretches else None
        if first is not None and not self._taken and len(first.samples) == count:  # as a browser's packets are
            self._stretches.popleft()
            self.count -= count
            first.gone = True
            return Taken(first.samples, count if first.speech else 0, 0, first.seconds, first.stamp)
        block, filled, speech, came = np.zeros(count, np.float32), 0, 0, seconds
        stamp: tuple[int, int] | None = None
        while filled < count and self._stretches:
            stretch = self._stretches[0]
            part = stretch.samples[self._taken : self._taken + count - filled]
            block[filled : filled + len(part)] = part
            if stamp is None and stretch.stamp is not None:
                stamp = (stretch.stamp[0], stretch.stamp[1] + filled - self._taken)
            filled += len(part)
            speech += len(part) if stretch.speech else 0
            rest = self._leave(len(part))
            came = stretch.seconds - rest / SAMPLE_RATE
        return Taken(block, speech, count - filled, came if filled == count else seconds, stamp)

    def drop(self, count: int) -> int:
        """Leaves out the next `count` samples; returns how many of them had come from the source."""
        speech = 0
        while count > 0 and self._stretches:
            stretch = self._stretches[0]
            part = min(count, len(stretch.samples) - self._taken)
            speech += part if stretch.speech else 0
            count -= part
            self._leave(part)
        return speech

    def _leave(self, count: int) -> int:
        """So many samples of the first stretch leave; returns how many of it stay."""
        stretch = self._stretches[0]
        self._taken += count
        self.count -= count
        rest = len(stretch.samples) - self._taken
        if not rest:
            self._stretches.popleft()
            stretch.gone, self._taken = True, 0
        return rest
