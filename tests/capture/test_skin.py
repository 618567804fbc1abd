"""Albedo and light of the skin, of colours whose albedo and light are known."""

from __future__ import annotations

import numpy as np

from capture.energy import Pose, rotation_of
from capture.morphable_model import Surface
from capture.skin import Skin, explain, harmonics


def test_albedo_and_light_explain_colours() -> None:
    """Colours made of a known albedo and light, of a head that turns: both are found, up to their common factor."""
    rng = np.random.default_rng(5)
    normals = rng.normal(size=(300, 3)) + (0, 0, 2)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    skin = Skin(
        surface=Surface(*(np.zeros((1, 300, 3), np.float32),) * 3),
        normals_P3=normals.astype(np.float32),
        turning_CP3=np.zeros((1, 300, 3), np.float32),
        start_P3=None,
        modes_BP3=None,
    )
    albedo = rng.uniform(0.3, 0.5, (300, 3))
    light = np.zeros((9, 3))
    light[0], light[1], light[3] = 0.7, 0.2, 0.3  # from the left and the front
    poses = [Pose(rotation_of(np.array([0, yaw, 0])), np.array([0, 0, -60.0])) for yaw in np.linspace(-0.6, 0.6, 9)]
    shades = [np.maximum(harmonics(skin.normals(np.zeros(1), p)) @ light, 0.05) for p in poses]
    colors = np.stack([(albedo * s) ** (1 / 2.2) for s in shades])
    found = explain(skin, colors, np.zeros((9, 1)), poses, 0.02)
    again = np.stack([found.albedo_P3 * found.lit(skin, np.zeros(1), p).shade_P3 for p in poses])
    front = normals[:, 2] > 0.8
    assert np.abs(again - colors)[:, front].mean() < 0.012
    assert np.corrcoef(found.albedo_P3[front].ravel(), (albedo[front] ** (1 / 2.2)).ravel())[0, 1] > 0.9
    flat = np.abs(colors.mean(0)[front] - colors[:, front]).mean()
    assert np.abs(again - colors)[:, front].mean() < flat / 2  # light tells more than a colour for each point would
