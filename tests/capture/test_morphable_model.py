"""Face models of any make become one layout, and a template; malformed ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from capture.morphable_model import (
    MorphableModel,
    closest_points,
    load_morphable_model,
    model_of_arrays,
    point_weights,
)
from dataset.template import ROWS_BELOW, ROWS_INSIDE, build_template
from realtime.errors import MiravoxError


def arrays_of(model: MorphableModel, vertices: int) -> dict[str, NDArray[np.generic]]:
    """The face alone, without a chart, its shapes under other names."""
    face = model.triangles_T3[(model.triangles_T3 < vertices).all(1)]
    return {
        "neutral": model.neutral_V3[:vertices],
        "identity": model.identity_IV3[:8, :vertices],
        "expression": model.expression_CV3[:, :vertices],
        "triangles": face,
        "landmarks_68": model.landmarks_68,
        "expression_names": np.array([f"shape{c}" for c in range(len(model.expression_names))]),
    }


def test_a_model_without_chart_gets_a_template(model: MorphableModel) -> None:
    """Lips sewn, parted in the canonical pose; the landmarks of mouth and nose about where the model has them."""
    other = model_of_arrays(arrays_of(model, 6706), "other")
    template = build_template(other, other.neutral_V3)
    corners = template.neutral_V3[template.triangles_F3[template.landmark_triangles_68]]
    found = np.einsum("lk,lkx->lx", template.landmark_barycentrics_683, corners)
    off = np.linalg.norm(found - other.neutral_V3[other.landmarks_68], axis=1)
    assert np.median(off[[30, 33, *range(48, 68)]]) < 0.15
    lower, upper = ROWS_BELOW, ROWS_BELOW + ROWS_INSIDE + 1
    neutral, canonical = (
        v.reshape(*template.grid, 3)[:, template.grid[1] // 2] for v in (template.neutral_V3, template.canonical_V3)
    )
    assert np.linalg.norm(neutral[upper] - neutral[lower]) < 0.3
    assert canonical[upper, 1] - canonical[lower, 1] > 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neutral": None}, "neutral.*no such array"),
        ({"landmarks_68": np.zeros(51, np.int32)}, "landmarks_68.*shape"),
        ({"triangles": np.array([[0, 1, 99_999]])}, "triangles.*99999"),
        ({"neutral": "metres"}, "centimetres"),
        ({"identity": "nan"}, "identity.*not finite"),
    ],
)
def test_a_malformed_model_is_refused(model: MorphableModel, change: dict[str, object], message: str) -> None:
    arrays = arrays_of(model, 6706)
    for key, value in change.items():
        if value is None:
            del arrays[key]
        elif isinstance(value, str) and value == "metres":
            arrays[key] = arrays[key].astype(np.float64) / 100
        elif isinstance(value, str):
            arrays[key] = np.full_like(arrays[key], np.nan)
        else:
            arrays[key] = np.asarray(value)
    with pytest.raises(MiravoxError, match=message):
        model_of_arrays(arrays, "model")


def test_without_a_model_the_error_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(MiravoxError, match=r"ICT-FaceKit.*FLAME.*Basel"):
        load_morphable_model(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no model")
    with pytest.raises(MiravoxError, match="no npz"):
        load_morphable_model(tmp_path / "text.npz")


def test_closest_points(model: MorphableModel) -> None:
    """Against the nearest of many points of the surface."""
    face = model.triangles_T3[(model.triangles_T3 < 6706).all(1)]
    rng = np.random.default_rng(6)
    wanted = model.neutral_V3[rng.choice(6706, 20)] + rng.normal(size=(20, 3)) * 0.1
    triangle, weights, distance = closest_points(wanted, model.neutral_V3, face)
    found = point_weights(face, triangle, weights, len(model.neutral_V3)) @ model.neutral_V3
    assert np.allclose(np.linalg.norm(found - wanted, axis=1), distance, atol=1e-4)
    shares = rng.dirichlet(np.ones(3), 40)
    middles = model.neutral_V3[face].mean(1)
    for point, nearest in zip(wanted, distance, strict=True):
        near = face[np.linalg.norm(middles - point, axis=1) < 1]
        many = np.einsum("kc,tcx->tkx", shares, model.neutral_V3[near]).reshape(-1, 3)
        slow = np.linalg.norm(many - point, axis=1).min()
        assert nearest <= slow + 1e-4 and slow - nearest < 0.05
