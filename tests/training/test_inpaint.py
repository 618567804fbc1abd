"""Which pixels are painted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataset.folder import load_dataset
from realtime.contract import REGIONS
from training.inpaint import UNSURE_CM, Inpaint, widest_frame

pytestmark = pytest.mark.usefixtures("torch", "gl_context")


def test_inpaint_masks_cover_the_mouth_at_its_widest(dataset_folder: Path) -> None:
    """The mask of a frame at rest covers the region at the widest jaw too, in its pose, and lies in its box."""
    dataset = load_dataset(dataset_folder)
    inpaint = Inpaint(dataset)
    assert dataset.takes[1].first <= widest_frame(dataset) < dataset.takes[1].end
    left, top, right, bottom = inpaint.box(3)
    assert (right - left, bottom - top) == inpaint.box_size
    mask = inpaint.mask(3)
    assert mask.shape == (bottom - top, right - left) and mask.max() == 1
    assert max(mask[0].max(), mask[-1].max(), mask[:, 0].max(), mask[:, -1].max()) == 0, (
        "the feather ends inside the box"
    )
    covered = np.zeros(mask.shape, bool)
    for vertices in (None, inpaint.widest, dataset.neutral):
        region = inpaint.maps.masks(3, vertices)[..., REGIONS.index("inpaint")] > 0.5
        whole = np.zeros(region.shape, np.float32)
        whole[top:bottom, left:right] = mask
        assert region.sum() > 2000 and (whole[region] == 1).all()
        covered |= inpaint.maps.masks(3, vertices)[top:bottom, left:right, REGIONS.index("whole")] > 0.5
    assert ((mask == 1) & ~covered).sum() < 0.01 * (mask == 1).sum(), "nobody would know what is to be painted there"


def test_nothing_is_painted_along_the_outline_of_a_tracked_face(dataset_folder: Path) -> None:
    """There a fit may take the wall for skin; at the chin, before the neck, it is painted as before."""
    from scipy import ndimage

    dataset = load_dataset(dataset_folder)
    tracked = Inpaint(replace(dataset, provenance={"generator": "capture"}))
    known = Inpaint(dataset)
    unsure_pixels = UNSURE_CM * dataset.camera.fx / -dataset.pose[3][2, 3]
    left, top, right, bottom = known.box(3)
    outside = np.ones(known.mask(3).shape, bool)
    for vertices in (None, known.widest, dataset.neutral):
        covered = known.maps.draw(3, known.values, vertices)[..., 3] > 0
        outside &= (ndimage.distance_transform_edt(covered) <= unsure_pixels)[top:bottom, left:right]
    before, after = known.mask(3) == 1, tracked.mask(3) == 1
    assert (before & outside).any() and not (after & outside).any()
    assert (after == before)[~outside].mean() > 0.98 and after.sum() > 0.9 * before.sum()
