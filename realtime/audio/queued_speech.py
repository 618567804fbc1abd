"""QueuedSpeech: what comes faster than real time (recordings, agents) is queued and released in real time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from ..arrays import FloatArray
from ..contract import SAMPLE_RATE
from .block import BLOCK_SAMPLES
from .sample_clock import SampleClock

STALE_SECONDS = 0.06  # a queued rest shorter than a block waits so long for more speech
REFILL_SAMPLES = SAMPLE_RATE  # below that the source is asked for more


class SegmentEnd:
    """Marks the end of a segment in the queue."""


class QueuedSpeech:
    """The queue of one source. Used on the input's thread.

    Args:
        on_speech: is told the first sample of each piece of speech that is released.
        on_segment_end: is told the sample at which a segment has ended.
    """

    def __init__(
        self, clock: SampleClock, on_speech: Callable[[int], None], on_segment_end: Callable[[int], None]
    ) -> None:
        self._clock, self._on_speech, self._on_segment_end = clock, on_speech, on_segment_end
        self._queue: deque[FloatArray | SegmentEnd] = deque()
        self._changed = 0.0  # seconds: when something was queued last
        self.queued_samples = 0

    def clear(self) -> None:
        """What is queued is not said."""
        self._queue.clear()
        self.queued_samples = 0

    def append(self, item: FloatArray | SegmentEnd, now: float) -> None:
        """Queues 16 kHz samples [n], or the end of a segment."""
        self._queue.append(item)
        self.queued_samples += 0 if isinstance(item, SegmentEnd) else len(item)
        self._changed = now

    def release(self, now: float, on_low: Callable[[], None] | None) -> float:
        """Writes every block that is due, silence where nothing is queued; returns when the next one is due.

        `on_low` is called when less than a second is queued.
        """
        clock = self._clock
        while (behind := clock.due_sample(now) - clock.end_sample) >= BLOCK_SAMPLES:
            if behind > SAMPLE_RATE:  # this machine slept: nobody waits for that second
                clock.restart(now - BLOCK_SAMPLES / SAMPLE_RATE)
            self._release_block(now)
        if on_low is not None and self.queued_samples < REFILL_SAMPLES:
            on_low()
        return clock.due_seconds(clock.end_sample + BLOCK_SAMPLES)

    def _release_block(self, now: float) -> None:
        block = np.zeros(BLOCK_SAMPLES, np.float32)
        filled, start = 0, self._clock.end_sample
        whole = self.queued_samples >= BLOCK_SAMPLES or any(isinstance(item, SegmentEnd) for item in self._queue)
        if whole or now - self._changed >= STALE_SECONDS:
            while self._queue and (filled < BLOCK_SAMPLES or isinstance(self._queue[0], SegmentEnd)):
                item = self._queue.popleft()
                if isinstance(item, SegmentEnd):
                    self._on_segment_end(start + filled)
                    continue
                count = min(len(item), BLOCK_SAMPLES - filled)
                self._on_speech(start + filled)
                block[filled : filled + count] = item[:count]
                filled += count
                self.queued_samples -= count
                if count < len(item):
                    self._queue.appendleft(item[count:])
        self._clock.emit_partly(block, filled, now)
