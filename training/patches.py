"""Squares of the mouth for the perceptual loss, which needs whole pieces of an image (thesis 3.7)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dataset.folder import INNER_LOWER, INNER_UPPER, Dataset
from realtime.arrays import ByteArray
from training.face_maps import FaceMaps


class Patches:
    """Squares around the mouth, kept in memory for the perceptual loss, with the geometry of their pixels on demand."""

    def __init__(self, dataset: Dataset, frames: list[int], size: int, count: int, seed: int) -> None:
        self.maps, self.dataset, self.size = FaceMaps(dataset), dataset, size
        rng = np.random.default_rng(seed)
        self.wanted = {int(f) for f in rng.choice(frames, min(count, len(frames)), replace=False)}
        self.crops: dict[int, tuple[int, int, ByteArray]] = {}

    def watch(self, frame: int, image: ByteArray) -> None:
        """Keeps the surroundings of the mouth if the frame is one of those drawn from."""
        if frame not in self.wanted:
            return
        dataset, size = self.dataset, self.size
        vertices = dataset.neutral + dataset.displacement(frame)
        lips = np.stack([dataset.landmark(vertices, i) for i in (INNER_UPPER, INNER_LOWER)]).mean(0, keepdims=True)
        centre = dataset.camera.project(lips, dataset.pose[frame])[0]
        x, y = (int(np.clip(v - size, 0, dataset.camera.width - 2 * size)) for v in centre)
        self.crops[frame] = (x, y, image[y : y + 2 * size, x : x + 2 * size].copy())

    def draw(self, rng: np.random.Generator) -> tuple[int, Tensor, Tensor, Tensor]:
        """Frame, then canonical (scaled) and neutral points [s s, 3] and the true colours [s s, 3] of one wholly
        covered patch.
        """
        while True:
            frame = int(rng.choice(sorted(self.crops)))
            x, y, crop = self.crops[frame]
            dx, dy = (int(v) for v in rng.integers(self.size // 4, self.size * 3 // 4, 2))
            rows, columns = slice(y + dy, y + dy + self.size), slice(x + dx, x + dx + self.size)
            canonical = self.maps.draw(frame, self.dataset.canonical)[rows, columns]
            if canonical[..., 3].min() > 0:
                break
        neutral = self.maps.draw(frame, self.dataset.neutral)[rows, columns]
        target = crop[dy : dy + self.size, dx : dx + self.size].reshape(-1, 3)
        return (
            frame,
            torch.from_numpy(self.dataset.scale(canonical[..., :3]).reshape(-1, 3)),
            torch.from_numpy(neutral[..., :3].reshape(-1, 3).copy()),
            torch.from_numpy(target).float() / 255,
        )
