"""The OpenGL rasteriser against a slow, obvious one in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from realtime.camera import Camera
from realtime.face.rasteriser import Rasteriser

CAMERA = Camera(fx=90.0, fy=80.0, cx=30.5, cy=22.25, width=64, height=48)


def turned(yaw: float, distance: float = 40.0) -> np.ndarray:
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    pose[:3, 3] = (1.0, -0.5, -distance)
    return pose


def slow_rasterise(
    vertices: np.ndarray, triangles: np.ndarray, values: np.ndarray, pose: np.ndarray, camera: Camera
) -> np.ndarray:
    """Every triangle, every pixel: perspective-correct interpolation at pixel centres, nearest one wins."""
    seen = vertices @ pose[:3, :3].T + pose[:3, 3]
    x = camera.cx - camera.fx * seen[:, 0] / seen[:, 2]
    y = camera.cy + camera.fy * seen[:, 1] / seen[:, 2]
    py, px = np.mgrid[: camera.height, : camera.width] + 0.5
    image, depth = np.zeros((camera.height, camera.width, 4)), np.full((camera.height, camera.width), np.inf)
    for a, b, c in triangles:
        area = (x[b] - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (y[b] - y[a])
        if abs(area) < 1e-12:
            continue
        wb = ((px - x[a]) * (y[c] - y[a]) - (x[c] - x[a]) * (py - y[a])) / area
        wc = ((x[b] - x[a]) * (py - y[a]) - (px - x[a]) * (y[b] - y[a])) / area
        weights = np.stack([1 - wb - wc, wb, wc], -1) / -seen[[a, b, c], 2]
        z = 1 / weights.sum(-1)
        inside = (wb >= 0) & (wc >= 0) & (wb + wc <= 1) & (z < depth)
        value = (weights @ values[[a, b, c]]) * z[..., None]
        image[inside, :3], image[inside, 3], depth[inside] = value[inside], 1, z[inside]
    return image


@pytest.mark.parametrize("yaw", [0.0, 0.5, -0.7])
def test_agrees_with_numpy(gl: Any, yaw: float) -> None:
    """A bumpy grid that hides parts of itself: values to 1e-3 where both cover, coverage but for edge pixels."""
    rng = np.random.default_rng(3)
    u, v = np.meshgrid(np.linspace(-9, 9, 12), np.linspace(-7, 7, 9))
    z = 3 * np.cos(u / 2) + rng.normal(0, 0.4, u.shape)
    vertices = np.stack([u.ravel(), v.ravel(), z.ravel()], 1).astype(np.float32)
    cell = np.arange(8)[:, None] * 12 + np.arange(11)
    triangles = np.concatenate(
        [np.stack([cell, cell + 1, cell + 13], -1), np.stack([cell, cell + 13, cell + 12], -1)]
    ).reshape(-1, 3)
    values = rng.normal(size=(len(vertices), 3)).astype(np.float32)
    rasteriser = Rasteriser(gl, triangles.astype(np.int32), len(vertices), CAMERA)
    drawn = rasteriser.draw(vertices, turned(yaw), values).copy()
    rasteriser.release()
    slow = slow_rasterise(vertices, triangles, values, turned(yaw), CAMERA)
    both = (drawn[..., 3] > 0) & (slow[..., 3] > 0)
    assert both.sum() > 400
    assert ((drawn[..., 3] > 0) != (slow[..., 3] > 0)).sum() <= 3
    assert np.quantile(np.abs(drawn[both] - slow[both]), 0.995) < 1e-3


def test_positions_are_the_default_value_and_project_back(gl: Any) -> None:
    """Each covered pixel holds the object-space point that projects onto its centre; row 0 is the top."""
    vertices = np.array([[-8, -6, 0], [8, -6, 2], [0, 7, -1]], np.float32)
    rasteriser = Rasteriser(gl, np.array([[0, 1, 2]], np.int32), 3, CAMERA)
    drawn = rasteriser.draw(vertices, turned(0.3)).copy()
    rasteriser.release()
    rows, columns = np.nonzero(drawn[..., 3])
    pixels = CAMERA.project(drawn[rows, columns, :3], turned(0.3))
    assert np.abs(pixels - np.stack([columns + 0.5, rows + 0.5], 1)).max() < 1e-2
    assert drawn[rows.min(), columns[rows.argmin()], 1] > drawn[rows.max(), columns[rows.argmax()], 1]
