"""SampleClock: the index of a sample is the time. Writes blocks without a gap, and knows when each sample is due."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray
from ..contract import FRAME_SECONDS, SAMPLE_RATE
from .block import Block

ROUNDING_SAMPLES = 0.01  # a wait that ends on time must not end too early by a rounding error
# How far the schedule may be moved within ten seconds: 8 ms. With the 20 ms of a block, and the 28 ms between the
# earliest and the latest that one goes (LiveSpeech), the clock stays within 60 ms of real time, whatever comes.
MOST_SHIFT_SAMPLES, SHIFT_SECONDS = 128, 10.0


@dataclass(frozen=True)
class Arrival:
    """When a sample reached this machine, on the monotonic clock; and how its source counts."""

    sample: int
    seconds: float
    stamp: tuple[int, int] | None = None  # (source_time, sample): a stamp given with `push`, and the sample it names


class SampleClock:
    """The end of the speech so far, and the schedule of what follows. Used on one thread.

    Args:
        write: is given every block, in order and without a gap.
        frame_phase_seconds: 0 to below 0.04: when in the 40 ms of a frame sample 640 k is due after `restart`. None: a
            restarted schedule begins at once, and `align` does nothing.
    """

    def __init__(self, write: Callable[[Block], None], frame_phase_seconds: float | None, now: float) -> None:
        self._write, self._frame_phase = write, frame_phase_seconds
        self.schedule(0, now)
        self._shifted = 0.0  # samples, altogether
        self._shifts: deque[tuple[float, float]] = deque()  # (seconds, what it was until then) of the last ten seconds
        self.end_sample = 0
        self.epoch = 0
        self.silence_samples = 0  # inserted because none came
        self.arrival = Arrival(0, now)

    def restart(self, now: float) -> None:
        """The next sample is due now, or at the next moment of the frame phase; what was missed is left out.

        For a clock that begins, or whose machine slept: everything else keeps to real time.
        """
        self.schedule(self.end_sample, now)
        self._due_seconds += self._until_phase() % FRAME_SECONDS

    def align(self, now: float) -> None:
        """Moves the schedule to the nearest moment of the frame phase, at most 20 ms away."""
        if self._frame_phase is not None:
            wait = (self._until_phase() + FRAME_SECONDS / 2) % FRAME_SECONDS - FRAME_SECONDS / 2
            self._move(-wait * SAMPLE_RATE, now)

    def _until_phase(self) -> float:
        """Seconds, modulo 0.04, by which sample 0 would have to be due later."""
        return 0.0 if self._frame_phase is None else self._frame_phase - self.due_seconds(0)

    def schedule(self, sample: float, seconds: float) -> None:
        """That sample is due at that second: for a clock of which nothing was written yet, or that begins anew."""
        self._due_sample, self._due_seconds = sample, seconds

    def shift(self, samples: float, now: float) -> float:
        """Makes every sample due earlier by so many samples, or later if that is below 0.

        Returns how many it was: between any two moments within ten seconds the schedule moves by 8 ms at most.
        """
        while self._shifts and self._shifts[0][0] <= now - SHIFT_SECONDS:
            self._shifts.popleft()
        before = [self._shifted, *(shifted for _, shifted in self._shifts)]
        most = max(0.0, min(before) + MOST_SHIFT_SAMPLES - self._shifted)
        least = min(0.0, max(before) - MOST_SHIFT_SAMPLES - self._shifted)
        granted = min(max(samples, least), most)
        self._move(granted, now)
        return granted

    def _move(self, samples: float, now: float) -> None:
        self._shifts.append((now, self._shifted))
        self._shifted += samples
        self._due_sample += samples

    def due_sample(self, seconds: float) -> float:
        """The sample that is due at that moment."""
        return self._due_sample + (seconds - self._due_seconds) * SAMPLE_RATE + ROUNDING_SAMPLES

    def due_seconds(self, sample: float) -> float:
        """The moment at which that sample is due."""
        return self._due_seconds + (sample - self._due_sample) / SAMPLE_RATE

    def emit(self, samples: FloatArray, seconds: float, stamp: tuple[int, int] | None = None) -> None:
        """Writes the next block.

        Args:
            samples: float32 [n], n >= 0; an empty block only tells of a new epoch.
            seconds: when its last sample came.
            stamp: see Arrival.
        """
        block = Block(self.end_sample, samples, self.epoch)
        self.end_sample += len(samples)
        self.arrival = Arrival(block.start, seconds - len(samples) / SAMPLE_RATE, stamp)
        self._write(block)

    def emit_silence(self, count: int, seconds: float) -> None:
        """Writes `count` zeros and counts them."""
        self.emit_partly(np.zeros(count, np.float32), 0, seconds)

    def emit_partly(
        self, samples: FloatArray, speech: int, seconds: float, stamp: tuple[int, int] | None = None
    ) -> None:
        """Writes a block of which only `speech` samples are speech; the rest counts as silence."""
        self.silence_samples += len(samples) - speech
        self.emit(samples, seconds, stamp)
