"""Intervals of samples whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.intervals import mean_interval, share_interval


def test_the_interval_of_a_share_lies_within_0_and_1() -> None:
    low, high = share_interval(9, 10)
    assert 0.55 < low < 0.9 < high < 1 and share_interval(0, 0) == (0.0, 1.0)


def test_the_interval_of_a_mean_covers_it() -> None:
    values = list(np.random.default_rng(1).normal(3.0, 0.5, 400))
    low, high = mean_interval(values)
    assert low < 3.0 < high and high - low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.15)
    assert mean_interval([1.0]) == (-np.inf, np.inf)
