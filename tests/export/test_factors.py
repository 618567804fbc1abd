"""Factoring recovers a function of few components."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("torch")


def test_factors_recover_a_low_rank_function(torch: Any) -> None:
    """A function of known rank 3: from a third of its points and a few latents, all points of all latents."""
    from export.factors import factor

    rng = np.random.default_rng(0)
    mix, components, mean = rng.normal(size=(64, 3)), rng.normal(size=(3, 90)), rng.normal(size=90)
    some = rng.choice(90, 30, replace=False)

    def full(latent: Any) -> np.ndarray:
        return np.asarray(mean + np.tanh(latent.numpy()[0] @ mix / 8) @ components, np.float32)

    latents = torch.from_numpy(rng.normal(size=(200, 64)).astype(np.float32))
    factors = factor(lambda b: full(b)[some], full, latents, 3, np.arange(0, 200, 8), "test")
    rebuilt = factors.mean + factors.coefficients @ factors.components
    truth = np.stack([full(b[None]) for b in latents])
    assert np.abs(rebuilt - truth).max() < 0.02 * truth.std()
    two = factor(lambda b: full(b)[some], full, latents, 2, np.arange(0, 200, 8), "test")
    assert np.abs(two.mean + two.coefficients @ two.components - truth).max() > 0.1 * truth.std()
