"""Sampled pixels are those of the frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataset.folder import load_dataset

pytestmark = pytest.mark.usefixtures("torch", "gl_context")


def test_sampled_pixels_are_the_frames(dataset_folder: Path) -> None:
    """Sampled points project onto pixels of the sampled colour, and the mouth is drawn more often than its share."""
    from training.face_maps import FaceMaps
    from training.pixels import sample_pixels

    dataset = load_dataset(dataset_folder)
    frame = dataset.takes[1].first + 8
    pixels = sample_pixels(dataset, [frame], 400, 0)
    image = next(iter(dataset.frames({frame})))[1]
    low, high = np.asarray(dataset.geometry["box"], np.float32)
    drawn = FaceMaps(dataset).draw(frame, dataset.canonical)
    for index in range(0, 400, 40):
        point = (pixels.canonical[0, index] + 1) / 2 * (high - low) + low
        distance = np.linalg.norm(drawn[..., :3] - point, axis=-1) + 100 * (drawn[..., 3] == 0)
        y, x = np.unravel_index(distance.argmin(), distance.shape)
        assert np.array_equal(image[y, x], pixels.color[0, index])
    masks = FaceMaps(dataset).masks(frame)
    share = masks[..., 3].sum() / masks[..., 0].sum()
    assert pixels.masks[0, :, 3].mean() / 255 > 1.5 * share
    assert pixels.weight[0].min() > 0
