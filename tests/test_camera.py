"""The pinhole camera."""

from __future__ import annotations

import numpy as np
import pytest

from realtime.camera import Camera

CAMERA = Camera(fx=100.0, fy=110.0, cx=30.0, cy=26.0, width=64, height=48)
POSE = np.eye(4, dtype=np.float32)
POSE[:3, 3] = 0, 1, -40
POINTS = np.array([[1.0, 2.0, 0.5], [-3.0, 0.5, 2.0]], np.float32)


def test_points_project_to_pixels_with_row_0_at_the_top() -> None:
    x, y = CAMERA.project(np.array([[4.0, 1.0, 0.0]], np.float32), POSE)[0]
    assert (x, y) == (pytest.approx(30 + 100 * 4 / 40), pytest.approx(26 - 110 * 2 / 40))


def test_it_scales() -> None:
    half = CAMERA.scaled(32, 24)
    assert half.project(POINTS, POSE) * 2 == pytest.approx(CAMERA.project(POINTS, POSE), abs=1e-3)


def test_its_projection_for_opengl_agrees() -> None:
    clip = np.column_stack([POINTS, np.ones(2, np.float32)]) @ (CAMERA.projection() @ POSE).T
    ndc = clip[:, :2] / clip[:, 3:]
    pixels = (ndc + 1) / 2 * (CAMERA.width, CAMERA.height)  # the framebuffer's row 0 is the image's top
    assert pixels == pytest.approx(CAMERA.project(POINTS, POSE), abs=1e-3)
