"""An offset of sound against lips is given with an interval, which is as wide as the footage is short."""

from __future__ import annotations

import numpy as np
import pytest

from capture.sound_offset import OWN_ERROR, offset_interval
from realtime.arrays import FloatArray


def lips(seconds: float, seed: int) -> FloatArray:
    """An aperture that opens and closes as in speech."""
    rng = np.random.default_rng(seed)
    slow = np.convolve(rng.standard_normal(round(25 * seconds) + 8), np.hanning(7), "valid")[: round(25 * seconds)]
    return np.asarray(np.maximum(0, slow), np.float32)


def late(aperture: FloatArray, frames: int, seed: int, noise: float = 1.0) -> FloatArray:
    """What the sound would predict if it came so many frames late, and not exactly."""
    moved = np.roll(aperture, frames)
    return np.asarray(moved + noise * lips(len(aperture) / 25, seed + 500) * aperture.std(), np.float32)


@pytest.mark.parametrize("frames", [-8, 0, 5])
def test_the_truth_lies_within(frames: int) -> None:
    """In nineteen of twenty, at least: over sixty films of eight seconds each."""
    hits = 0
    for seed in range(60):
        seen = lips(8, seed)
        low, high = offset_interval([seen], [late(seen, frames, seed)])
        hits += low <= frames / 25 <= high
    assert hits >= 55


def test_more_footage_knows_it_better() -> None:
    widths = []
    for count in (1, 4, 16):
        seen = [lips(3, seed) for seed in range(count)]
        low, high = offset_interval(seen, [late(a, 3, seed, 2.0) for seed, a in enumerate(seen)])
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2] > 2 * OWN_ERROR


def test_lips_that_say_something_else_know_nothing() -> None:
    """Single clips of three seconds were moved by up to 88 ms, though one value was true for all of them."""
    low, high = offset_interval([lips(3, 1)], [lips(3, 2)])
    assert low < -0.2 and high > 0.2


@pytest.mark.parametrize("seen", [np.zeros(10, np.float32), np.full(100, np.nan, np.float32), np.ones(100, np.float32)])
def test_where_nothing_can_be_seen(seen: FloatArray) -> None:
    assert offset_interval([seen], [lips(len(seen) / 25, 0)]) == (-np.inf, np.inf)
    assert offset_interval([], []) == (-np.inf, np.inf)
