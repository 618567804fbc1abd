"""MediaPipe's scores as weights of a model's shapes."""

from __future__ import annotations

import numpy as np

from capture.blendshapes import BLENDSHAPE_NAMES, expressions_of_blendshapes


def test_blendshape_scores_become_weights() -> None:
    scores = np.zeros((2, 52), np.float32)
    scores[0, BLENDSHAPE_NAMES.index("jawOpen")] = 0.4
    scores[0, BLENDSHAPE_NAMES.index("browInnerUp")] = 0.3
    scores[0, BLENDSHAPE_NAMES.index("mouthSmileLeft")] = 0.2
    scores[1] = np.nan
    weights = expressions_of_blendshapes(
        scores, ("jawOpen", "browInnerUp_L", "browInnerUp_R", "mouthSmile_L", "mouthSmile_R", "other")
    )
    assert np.allclose(weights, np.array([[0.4, 0.3, 0.3, 0.2, 0, 0], [0, 0, 0, 0, 0, 0]]))
