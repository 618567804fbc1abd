"""The template: cells at the lips, lips sewn, everything linear in the model."""

from __future__ import annotations

import numpy as np
import pytest

from dataset.template import COLUMNS, ROWS_BELOW, ROWS_INSIDE, Template, build_template
from realtime.contract import REGIONS
from studio.face_model import FaceModel, load_face_model

LOWER_ROW, UPPER_ROW = ROWS_BELOW, ROWS_BELOW + ROWS_INSIDE + 1


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return load_face_model()


@pytest.fixture(scope="module")
def template(model: FaceModel) -> Template:
    return build_template(model, model.neutral_V3)


pytestmark = pytest.mark.usefixtures("data_folder")


def landmark(template: Template, positions: np.ndarray, index: int) -> np.ndarray:
    corners = positions[template.triangles_F3[template.landmark_triangles_68[index]]]
    return np.asarray(template.landmark_barycentrics_683[index] @ corners)


def test_landmarks_lie_where_the_models_do(model: FaceModel, template: Template) -> None:
    """Every landmark but the eyes' (their holes are left out) within a millimetre and a half."""
    for index in [*range(5, 12), 30, 33, *range(48, 68)]:
        found = landmark(template, template.neutral_V3, index)
        assert np.linalg.norm(found - model.neutral_V3[model.landmarks_68[index]]) < 0.15, index


def test_cells_at_the_lips_are_at_most_0_7_mm(template: Template) -> None:
    """Along the rims, and across both lips from the rim outwards, in the middle half of the mouth."""
    grid = template.neutral_V3.reshape(*template.grid, 3)
    middle = slice(COLUMNS // 2 - 20, COLUMNS // 2 + 20)
    along = np.linalg.norm(np.diff(grid[[LOWER_ROW, UPPER_ROW]], axis=1), axis=2)[:, middle]
    upper_lip = np.linalg.norm(np.diff(grid[UPPER_ROW : UPPER_ROW + 12], axis=0), axis=2)[:, middle]
    lower_lip = np.linalg.norm(np.diff(grid[LOWER_ROW - 12 : LOWER_ROW + 1], axis=0), axis=2)[:, middle]
    for name, cells in (("along", along), ("upper", upper_lip), ("lower", lower_lip)):
        assert cells.max() <= 0.075, f"{name}: {10 * cells.max():.2f} mm"
        assert np.median(cells) <= 0.07, f"{name}: {10 * np.median(cells):.2f} mm"


def test_lips_are_sewn_and_part_in_the_canonical_pose(template: Template) -> None:
    """The rims nearly touch in the neutral state; the fill is one closed sheet; canonically they are well apart."""
    neutral = template.neutral_V3.reshape(*template.grid, 3)
    canonical = template.canonical_V3.reshape(*template.grid, 3)
    middle = COLUMNS // 2
    assert np.linalg.norm(neutral[UPPER_ROW, middle] - neutral[LOWER_ROW, middle]) < 0.1
    assert canonical[UPPER_ROW, middle, 1] - canonical[LOWER_ROW, middle, 1] > 1.0
    cells = {tuple(sorted(t)) for t in template.triangles_F3.tolist()}
    for row in range(LOWER_ROW, UPPER_ROW):
        a = row * COLUMNS + middle
        assert tuple(sorted((a, a + 1, a + COLUMNS + 1))) in cells


def test_displacement_is_the_models(model: FaceModel, template: Template) -> None:
    """The basis on the template gives the displacement of the model: the lips part as far as the model's landmarks."""
    jaw = model.expression_names.index("jawOpen")
    displaced = template.neutral_V3 + 0.6 * template.basis(model.expression_CV3[jaw : jaw + 1])[0]
    moved = model.neutral_V3 + 0.6 * model.expression_CV3[jaw]
    gap = np.linalg.norm(landmark(template, displaced, 62) - landmark(template, displaced, 66))
    truth = np.linalg.norm(moved[model.landmarks_68[62]] - moved[model.landmarks_68[66]])
    assert gap == pytest.approx(truth, abs=0.05)
    assert truth > 1.0


def test_regions_are_nested_and_cover_what_they_say(model: FaceModel, template: Template) -> None:
    weights = dict(zip(REGIONS, template.regions_5V, strict=True))
    used = template.used_V
    assert (weights["whole"] == 1).all()
    assert all(0 <= w.min() and w.max() <= 1 for w in weights.values())
    lips = np.unique(template.triangles_F3[template.landmark_triangles_68[48:68]])
    chin = np.unique(template.triangles_F3[template.landmark_triangles_68[[8]]])
    brows = template.neutral_V3[:, 1] > model.neutral_V3[model.landmarks_68[19], 1]
    assert weights["mouth"][lips].min() > 0.9 and weights["inpaint"][lips].min() > 0.9
    assert weights["jaw"][chin].min() > 0.9 and weights["inpaint"][chin].min() > 0.9
    assert weights["inpaint"][used & brows].max() == 0 and weights["mouth"][chin].max() < 0.5


def test_winding_faces_outwards(template: Template) -> None:
    a, b, c = (template.canonical_V3[template.triangles_F3[:, i]] for i in range(3))
    normal_z = np.cross(b - a, c - a)[:, 2]
    front = template.uv_V2[template.triangles_F3[:, 0], 0]
    assert (normal_z[(front > 0.3) & (front < 0.7)] > 0).mean() > 0.9
