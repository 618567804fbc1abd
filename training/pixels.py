"""Random pixels of many frames, the training samples of the colour network (thesis equation 3.6).

Shape letters: F sampled frames, P pixels sampled from each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from dataset.folder import Dataset
from networks.losses import MASK_WEIGHTS
from realtime.arrays import ByteArray, FloatArray, Int64Array
from realtime.contract import MASKS
from training.face_maps import FaceMaps


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Covered pixels, and what the colour network is asked there."""

    frames: Int64Array  # [F] index of each sampled frame in the dataset
    canonical: FloatArray  # [F, P, 3] scaled to [-1, 1]
    neutral: FloatArray  # [F, P, 3] cm
    color: ByteArray  # [F, P, 3] sRGB
    masks: ByteArray  # [F, P, 4] contract.MASKS, 255 is 1
    weight: FloatArray  # [F, P] mask weight over sampling density: makes the mean loss that of equation 3.6


def sample_pixels(
    dataset: Dataset,
    frames: list[int],
    per_frame: int,
    seed: int,
    watch: Callable[[int, ByteArray], None] | None = None,
) -> Pixels:
    """Draws `per_frame` covered pixels of each frame, the more the higher its mask weight (density ~ square root of
    it).

    `watch` sees each decoded frame, so that whoever needs whole pieces of it does not decode them again.
    """
    maps = FaceMaps(dataset)
    rng = np.random.default_rng(seed)
    count = len(frames)
    pixels = Pixels(
        frames=np.array(frames),
        canonical=np.zeros((count, per_frame, 3), np.float32),
        neutral=np.zeros((count, per_frame, 3), np.float32),
        color=np.zeros((count, per_frame, 3), np.uint8),
        masks=np.zeros((count, per_frame, 4), np.uint8),
        weight=np.zeros((count, per_frame), np.float32),
    )
    weights = np.array([MASK_WEIGHTS[m] for m in MASKS], np.float32)
    row_of_frame = {frame: row for row, frame in enumerate(frames)}
    for frame, image in tqdm(dataset.frames(set(frames)), total=count, desc="sampling pixels", unit="frame"):
        row = row_of_frame[frame]
        if watch is not None:
            watch(frame, image)
        canonical = maps.draw(frame, dataset.canonical)
        neutral = maps.draw(frame, dataset.neutral)
        masks = maps.masks(frame)[..., :4]
        y, x = np.nonzero(canonical[..., 3] > 0)
        masks_P4 = masks[y, x]
        weight = masks_P4 @ weights
        density = np.sqrt(weight)
        cumulative = np.cumsum(density, dtype=np.float64)
        drawn = np.searchsorted(cumulative, rng.random(per_frame) * cumulative[-1])
        y, x = y[drawn], x[drawn]
        pixels.canonical[row] = dataset.scale(canonical[y, x, :3])
        pixels.neutral[row] = neutral[y, x, :3]
        pixels.color[row] = image[y, x]
        pixels.masks[row] = np.round(masks_P4[drawn] * 255)
        pixels.weight[row] = weight[drawn] * density.mean() / density[drawn]
    return pixels
