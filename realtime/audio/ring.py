"""AudioRing: the newest speech on the sample clock, in fixed memory. One thread writes, another one reads.

Glitches are values: what was missing, came too late, or was asked for too late is counted, never hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Condition

import numpy as np

from ..arrays import FloatArray
from ..contract import WINDOW_SAMPLES
from .block import Block


class SamplesOverwritten(LookupError):
    """A window reaches back to samples that newer ones have replaced: the reader is too slow or the ring too small."""


class SamplesNotWritten(LookupError):
    """A window ends after the newest sample: `wait_for` was not called, or it timed out."""


@dataclass(frozen=True)
class RingCounts:
    """What went wrong since the ring was made, in samples."""

    gap_samples: int  # never came; zeros stand for them
    discarded_samples: int  # came again or too late
    overwritten_samples: int  # asked for by a window after they had been overwritten


class AudioRing:
    """The last `capacity_samples` samples of a stream that begins at sample 0 and is silent before that."""

    def __init__(self, capacity_samples: int) -> None:
        """Raises ValueError if not even one window fits."""
        if capacity_samples < WINDOW_SAMPLES:
            raise ValueError(f"capacity_samples is {capacity_samples}; wanted {WINDOW_SAMPLES} or more, one window")
        self.capacity_samples = capacity_samples
        self._samples = np.zeros(capacity_samples, np.float32)  # sample i lies at i % capacity
        self._end_sample = 0
        self._epoch = 0
        self._gap = self._discarded = self._overwritten = 0
        self._written = Condition()

    @property
    def end_sample(self) -> int:
        """Index after the newest sample."""
        with self._written:
            return self._end_sample

    @property
    def epoch(self) -> int:
        """Of the newest block; all speech of older epochs has become silence."""
        with self._written:
            return self._epoch

    @property
    def counts(self) -> RingCounts:
        with self._written:
            return RingCounts(self._gap, self._discarded, self._overwritten)

    def write(self, block: Block) -> None:
        """Copies a block to its place and wakes the reader.

        Samples that were skipped since the last block become zeros, and samples older than what is there are discarded;
        both are counted. A block of a newer epoch silences what is there; one of an older epoch is itself silenced.
        """
        with self._written:
            if block.epoch > self._epoch:
                self._epoch = block.epoch
                self._samples[:] = 0
            stale = min(max(0, self._end_sample - block.start), len(block.samples))
            self._discarded += stale
            if stale == len(block.samples):
                return
            gap = max(0, block.start - self._end_sample)
            self._gap += gap
            self._append(None, gap)
            current = block.epoch == self._epoch
            self._append(block.samples[stale:] if current else None, len(block.samples) - stale)
            self._written.notify_all()

    def _append(self, samples: FloatArray | None, count: int) -> None:
        """Puts `count` samples, None meaning zeros, after the newest one. The caller holds the lock."""
        skipped = max(0, count - self.capacity_samples)  # would be overwritten at once
        at = (self._end_sample + skipped) % self.capacity_samples
        before_wrap = min(count - skipped, self.capacity_samples - at)
        after_wrap = count - skipped - before_wrap
        self._samples[at : at + before_wrap] = 0 if samples is None else samples[skipped : skipped + before_wrap]
        self._samples[:after_wrap] = 0 if samples is None else samples[skipped + before_wrap :]
        self._end_sample += count

    def wait_for(self, end_sample: int, timeout_seconds: float) -> bool:
        """Blocks until `window(end_sample)` can be had; False if that took longer than the timeout."""
        with self._written:
            return self._written.wait_for(lambda: self._end_sample >= end_sample, timeout_seconds)

    def window(self, end_sample: int) -> FloatArray:
        """The samples [end_sample - 3800, end_sample) as a new float32 array [3800], zeros before sample 0.

        Raises SamplesNotWritten if they have not all been written yet, SamplesOverwritten if some are gone already.
        """
        window_S = np.zeros(WINDOW_SAMPLES, np.float32)
        with self._written:
            if end_sample > max(0, self._end_sample):
                raise SamplesNotWritten(
                    f"a window ends at sample {end_sample}; the newest one ends at {self._end_sample}"
                )
            first = max(0, end_sample - WINDOW_SAMPLES)
            oldest = max(0, self._end_sample - self.capacity_samples)
            if first < oldest and end_sample > 0:
                self._overwritten += min(oldest, end_sample) - first
                raise SamplesOverwritten(
                    f"a window begins at sample {first}; the ring of {self.capacity_samples} samples begins at {oldest}"
                )
            count = max(0, end_sample - first)
            at = first % self.capacity_samples
            before_wrap = min(count, self.capacity_samples - at)
            place = WINDOW_SAMPLES - count
            window_S[place : place + before_wrap] = self._samples[at : at + before_wrap]
            window_S[place + before_wrap :] = self._samples[: count - before_wrap]
        return window_S
