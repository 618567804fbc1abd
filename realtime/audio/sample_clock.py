"""SampleClock: the index of a sample is the time. Writes blocks without a gap, and knows when each sample is due."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray
from ..contract import FRAME_SECONDS, SAMPLE_RATE
from .block import Block

ROUNDING_SAMPLES = 0.01  # a wait that ends on time must not end too early by a rounding error


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
            restarted schedule begins at once.
    """

    def __init__(self, write: Callable[[Block], None], frame_phase_seconds: float | None, now: float) -> None:
        self._write, self._frame_phase = write, frame_phase_seconds
        self._due_seconds, self._due_sample = now, 0  # at that second, that sample is due
        self.end_sample = 0
        self.epoch = 0
        self.silence_samples = 0  # inserted because none came
        self.arrival = Arrival(0, now)

    def restart(self, now: float) -> None:
        """The next sample is due now, or at the next moment of the frame phase."""
        wait = 0.0
        if self._frame_phase is not None:
            wait = (self._frame_phase + self.end_sample / SAMPLE_RATE - now) % FRAME_SECONDS
        self.schedule(self.end_sample, now + wait)

    def schedule(self, sample: int, seconds: float) -> None:
        """That sample is due at that second, and all others at 16,000 a second before and after it."""
        self._due_seconds, self._due_sample = seconds, sample

    def due_sample(self, seconds: float) -> float:
        """The sample that is due at that moment."""
        return self._due_sample + (seconds - self._due_seconds) * SAMPLE_RATE + ROUNDING_SAMPLES

    def due_seconds(self, sample: int) -> float:
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
        """Writes `count` zeros, if any, and counts them."""
        if count > 0:
            self.silence_samples += count
            self.emit(np.zeros(count, np.float32), seconds)

    def emit_partly(self, samples: FloatArray, speech: int, seconds: float) -> None:
        """Writes a block of which only the first `speech` samples are speech; the rest counts as silence."""
        self.silence_samples += len(samples) - speech
        self.emit(samples, seconds)
