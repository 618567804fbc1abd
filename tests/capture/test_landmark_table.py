"""Where MediaPipe's landmarks lie on the face model."""

from __future__ import annotations

import numpy as np

from bench.landmarks import table as landmark_points
from capture.landmark_table import landmark_table
from capture.landmarks import POINTS
from capture.morphable_model import MorphableModel
from studio.face_model import load_face_model


def test_landmarks_lie_on_the_face(model: MorphableModel) -> None:
    """On the mean face: MediaPipe's lip corners, nose tip and chin near the model's own landmarks."""
    table = landmark_table(model)
    points = dict(zip(table.index_L.tolist(), table.weights_LV @ model.neutral_V3, strict=True))
    for mediapipe, multi_pie, most in (
        (61, 48, 0.3),
        (291, 54, 0.3),
        (4, 30, 0.5),
        (0, 51, 0.3),
        (17, 57, 0.3),
        (33, 36, 0.4),
    ):
        assert np.linalg.norm(points[mediapipe] - model.neutral_V3[model.landmarks_68[multi_pie]]) < most, mediapipe
    assert len(points) > 300 and table.noise_L.max() < 0.31


def test_landmarks_that_scatter_are_left_out(model: MorphableModel) -> None:
    """The table's median, noise and bias, of points that are known; mirrored ones come out as mirrors."""
    rng = np.random.default_rng(9)
    known = {0: 36, 1: 45, 2: 48, 3: 54, 4: 30, 5: 0, 6: 16}  # row: one of the 68
    actors, renderings = 6, 8
    points = np.full((actors, renderings, POINTS, 3), np.nan)
    for index, landmark in known.items():
        slide = 1.0 if index >= 5 else 0.05  # cm; the jaw line's ends do
        own = rng.normal(size=(actors, 1, 3)) * 0.03
        scatter = rng.normal(size=(actors, renderings, 3)) * slide
        points[:, :, index] = model.neutral_V3[model.landmarks_68[landmark]] + own + scatter
    points[0, :, 2] = np.nan  # one actor never shows it
    table = landmark_points(points, load_face_model())
    found_P3, noise, bias = (np.asarray(table[name], np.float32) for name in ("points", "noise", "bias"))
    assert table["index"].tolist() == [0, 1, 2, 3, 4]
    assert np.allclose(found_P3[0], found_P3[1] * np.array([-1, 1, 1]), atol=1e-4)
    wanted = model.neutral_V3[model.landmarks_68[[36, 45, 48, 54, 30]]]
    assert np.linalg.norm(found_P3 - wanted, axis=1).max() < 0.06
    assert noise.min() > 0.03 and noise.max() < 0.1 and bias.max() < 0.1
