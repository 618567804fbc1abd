"""The loss that teaches the mouth from voices that were not filmed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from realtime.contract import EMBEDDINGS

pytestmark = pytest.mark.usefixtures("torch")


def test_open_lips_that_should_touch_cost_more(torch: Any) -> None:
    """The same error of the lip opening weighs more in a frame that shows P, B or M."""
    from training.face_networks import FaceConfig
    from training.voice_loss import VoiceLoss
    from training.voices import Voices

    vertices = 8
    rng = np.random.default_rng(0)
    geometry = {
        "triangles": np.array([[0, 1, 2], [3, 4, 5], [5, 6, 7]]),
        "landmark_triangles": np.array([0] * 62 + [0] + [0] * 3 + [1] + [0]),
        "landmark_barycentrics": np.full((68, 3), 1 / 3),
    }
    basis = np.zeros((1, vertices, 3), np.float32)
    basis[0, 3:6, 1] = -1  # the lower lip goes down
    dataset: Any = SimpleNamespace(
        geometry=geometry,
        regions=np.ones((5, vertices), np.float32),
        basis=basis,
        scale=lambda p: p,
        canonical=rng.random((vertices, 3)).astype(np.float32),
    )
    newest = np.arange(EMBEDDINGS - 1, EMBEDDINGS + 1)
    still = SimpleNamespace(projection=lambda w: torch.zeros(len(w), 64), deformation=lambda p, b: torch.zeros(p.shape))

    def lips(truth: list[float], part: int = 1) -> float:
        """The loss of the lips, or another part, if the first of two frames shows a closure and nothing moves, for the
        true openings in cm.
        """
        voices = Voices(
            embeddings=np.zeros((EMBEDDINGS + 1, 512), np.float16),
            newest=newest,
            expression=np.array(truth, np.float32)[:, None],
            together=np.array([True, False]),
            phones=np.zeros((2, 6, 3), np.int8),
        )
        config = FaceConfig(voice_frames=64, voice_vertices=2, closure_weight=4.0)
        networks: Any = still
        return float(VoiceLoss(config, dataset, voices)(networks, np.random.default_rng(1))[part])

    assert lips([0.0, 0.0]) == 0
    ratio = lips([0.5, 0.0]) / lips([0.0, 0.5])
    assert 2 < ratio < 8, "about four, by how often each frame was drawn"
    assert lips([0.5, 0.5], part=2) == pytest.approx(0, abs=1e-4), "an error that stays is no change"
    assert lips([0.5, 0.0], part=2) > 1
