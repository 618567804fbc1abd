"""A live source whose pieces arrive whenever a test says, and what the sample clock made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from realtime.arrays import FloatArray
from realtime.audio.block import Block
from realtime.audio.input import AudioInput, InputState
from realtime.contract import SAMPLE_RATE

WINDOW_SECONDS = 10.0
PHASE = 1800  # of the blocks: Ada's lookahead


@dataclass(frozen=True)
class Arriving:
    """One piece."""

    seconds: float  # when it comes
    samples: FloatArray  # at the source's rate
    stamp: int | None = None


@dataclass(frozen=True)
class Heard:
    """What was written."""

    times: NDArray[np.float64]  # when each block was, seconds
    ends: NDArray[np.float64]  # where it ended, seconds of the sample clock
    speech: FloatArray  # all of it
    states: list[InputState]  # after each arrival
    waited: int  # samples at most that waited at once

    @property
    def off_pace(self) -> float:
        """How far the clock moved from real time within ten seconds at most, in seconds."""
        starts = np.unique(np.concatenate([[0.0], self.times, self.times - WINDOW_SECONDS]))
        starts = starts[(starts >= 0) & (starts + WINDOW_SECONDS <= self.times[-1])]
        stops = starts + WINDOW_SECONDS
        fast = self._written(stops, "right") - self._written(starts, "left") - WINDOW_SECONDS
        slow = WINDOW_SECONDS - self._written(stops, "left") + self._written(starts, "right")
        return float(max(fast.max(initial=0), slow.max(initial=0)))

    def _written(self, seconds: NDArray[np.float64], side: str) -> NDArray[np.float64]:
        """Seconds of speech written before (left) or until and at (right) those moments."""
        ends = np.concatenate([[0.0], self.ends])
        index = np.searchsorted(self.times, seconds - (1e-9 if side == "left" else -1e-9))
        written: NDArray[np.float64] = ends[index]
        return written


def hear(pieces: Sequence[Arriving], rate: int = SAMPLE_RATE, seconds_after: float = 1.0, late: float = 0.0) -> Heard:
    """Pushes each piece when it comes, in the order of their arrivals, and does what is due when it is due.

    Args:
        late: the input's thread wakes up so many seconds too late.
    """
    now = 0.0
    blocks: list[tuple[float, Block]] = []
    audio_input = AudioInput(lambda block: blocks.append((now, block)), PHASE, clock=lambda: now)
    feed = audio_input.attach(live=True)
    wake, states, waited = audio_input.advance(now), [], 0
    coming = sorted(pieces, key=lambda piece: piece.seconds)
    for piece in [*coming, Arriving(coming[-1].seconds + seconds_after, np.zeros(0, np.float32))]:
        while wake + late < piece.seconds:
            now = max(now, wake + late)
            wake = audio_input.advance(now)
        now = max(now, piece.seconds)
        feed.push(piece.samples, rate, piece.stamp)
        wake = audio_input.advance(now)
        states.append(audio_input.state)
        waited = max(waited, audio_input._live._queue.count)
    end, written = 0, [(when, block) for when, block in blocks if len(block.samples)]
    for _, block in written:
        assert block.start == end, "no gap and no overlap"
        end += len(block.samples)
    times = np.array([when for when, _ in written])
    ends = np.array([block.start + len(block.samples) for _, block in written]) / SAMPLE_RATE
    return Heard(times, ends, np.concatenate([block.samples for _, block in written]), states, waited)


def in_order(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """No piece overtakes another, as in a queue or over TCP."""
    return np.maximum.accumulate(times)


def noise(count: int, seed: int = 0) -> FloatArray:
    """Speech of which no sample is zero, nor a pause."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(0.05, 0.5, count) * rng.choice([-1, 1], count), np.float32)


def pieces_of(
    times: Sequence[float] | NDArray[np.float64], samples: int, stamped: bool = False, speech: FloatArray | None = None
) -> list[Arriving]:
    """A piece of so many samples for each of the times at which one comes."""
    speech = noise(samples * len(times)) if speech is None else speech
    return [
        Arriving(float(t), speech[samples * k : samples * (k + 1)], samples * k if stamped else None)
        for k, t in enumerate(times)
    ]
