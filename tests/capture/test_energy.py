"""The terms of the tracking energy, against slow twins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from capture.energy import POSE, Points, project, sample, shared_jacobian
from capture.morphable_model import MorphableModel, Surface, point_weights
from tests.capture.conftest import POSE_AT, VIEW


@pytest.fixture(scope="module")
def few(model: MorphableModel) -> Surface:
    """Forty points of the face, five identity modes."""
    rng = np.random.default_rng(0)
    face = model.triangles_T3[(model.triangles_T3 < 6706).all(1)]
    weights = rng.dirichlet(np.ones(3), 40)
    matrix = point_weights(face, rng.choice(len(face), 40), weights, len(model.neutral_V3))
    return Surface.at(model, matrix, 5)


def test_jacobian_of_the_projection(few: Surface) -> None:
    """Against differences, for every unknown of a frame and every shared one."""
    rng = np.random.default_rng(1)
    alpha, delta = rng.normal(size=5), rng.uniform(0, 0.3, len(few.expression_CP3))
    points = Points.of(few, alpha)
    seen = project(points, delta, POSE_AT, VIEW)
    for unknown in range(POSE + len(delta)):
        step = np.zeros(POSE + len(delta))
        step[unknown] = 1e-2
        ends = [
            project(points, delta + s * step[POSE:], POSE_AT.moved(s * step), VIEW).pixels_P2.astype(np.float64)
            for s in (-1, 1)
        ]
        numeric = ((ends[1] - ends[0]) / 2e-2).T
        assert np.allclose(seen.jacobian_2DP[:, unknown], numeric, atol=0.02 + 0.01 * np.abs(numeric).max()), unknown
    shared = shared_jacobian(points, seen, VIEW)
    for unknown in range(6):
        step = np.zeros(6)
        step[unknown] = 1e-2
        before, after = (
            project(
                Points.of(few, alpha + s * step[:5]),
                delta,
                POSE_AT,
                replace(VIEW, focal=VIEW.focal * float(np.exp(s * step[5]))),
            ).pixels_P2.astype(np.float64)
            for s in (-1, 1)
        )
        numeric = ((after - before) / 2e-2).T
        assert np.allclose(shared[:, unknown], numeric, atol=0.02 + 0.01 * np.abs(numeric).max()), unknown


def test_a_sample_lies_at_pixel_centres_of_a_half() -> None:
    rows, columns = np.mgrid[:20, :30].astype(np.float32)
    picture = np.stack([columns + 0.5, rows + 0.5, columns + rows], -1)
    color, gradient = sample(picture, np.array([[7.25, 9.5], [12.0, 3.75]], np.float32))
    assert np.allclose(color[:, :2], [[7.25, 9.5], [12.0, 3.75]], atol=0.02)
    assert np.allclose(gradient[0], [[1, 0, 1], [0, 1, 1]], atol=0.1)
