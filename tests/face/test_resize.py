"""Resampling as two matrices."""

from __future__ import annotations

import numpy as np
import pytest

from realtime.face.resize import resampling, resize


def test_resize_matrices_and_positional_weights() -> None:
    image = np.random.default_rng(0).random((3, 12, 20)).astype(np.float32)
    same = resize(image, resampling(12, 12), resampling(20, 20))
    assert np.allclose(same, image, atol=1e-6)
    ramp = np.repeat(np.linspace(0, 1, 20, dtype=np.float32)[None, None], 12, 1)
    grown = resize(ramp, resampling(12, 24), resampling(20, 40))
    assert np.all(np.diff(grown[0, 0]) >= -1e-6) and grown.mean() == pytest.approx(ramp.mean(), abs=1e-5)
    shrunk = resize(image, resampling(12, 6), resampling(20, 10))
    assert shrunk.mean() == pytest.approx(image.mean(), abs=0.02) and shrunk.std() < image.std()
