"""The bench of tracking: its alignment."""

from __future__ import annotations

import numpy as np
import pytest

from bench.capture import similarity
from capture.energy import rotation_of


def test_similarity_is_found() -> None:
    rng = np.random.default_rng(10)
    source = rng.normal(size=(50, 3))
    turn, shift = rotation_of(np.array([0.4, -1.0, 0.2])), np.array([1.0, -2.0, 3.0])
    scale, found_turn, found_shift = similarity(source, 1.3 * source @ turn.T + shift)
    assert scale == pytest.approx(1.3)
    assert np.allclose(found_turn, turn) and np.allclose(found_shift, shift)
