"""What neither the painted face nor the source frame knows."""

from __future__ import annotations

import numpy as np

from realtime.face.compositor import fill_unknown


def test_what_neither_face_nor_source_knows_is_filled_from_around() -> None:
    """A seam of the mean of both sides, and a gap wider than a cell from its border inwards; known pixels stay."""
    over = np.zeros((3, 60, 44), np.float32)
    over[:, :, :22], over[:, :, 22:] = 0.2, 0.6
    known = np.ones((60, 44), bool)
    known[10:50, 21:23] = False  # between both
    known[20:50, 2:18] = False  # in the dark half
    before = over.copy()
    over[:, ~known] = 0
    fill_unknown(over, known)
    assert np.array_equal(over[:, known], before[:, known])
    assert np.abs(over[:, 25:45, 4:14] - 0.2).max() < 1e-4
    assert 0.25 < over[:, 15:45, 21:23].mean() < 0.55
    nothing = np.zeros((3, 8, 8), np.float32)
    fill_unknown(nothing, np.zeros((8, 8), bool))
    assert not nothing.any(), "nothing to fill from"
