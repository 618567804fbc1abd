"""Figures of painted frames against the ground truth of the takes that they were painted into."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bench.reenactment import Painted
from dataset.folder import Dataset
from realtime.arrays import BoolArray, ByteArray, FloatArray
from realtime.contract import REGIONS
from training import image_quality
from training.inpaint import Inpaint

STEADY_MM = 0.1  # skin that is displaced by less from one frame to the next stays itself
NEAR_CM = 0.4  # a vertex is visible if its pixel shows a canonical point as near as this
INNER_LIPS = range(60, 68)  # landmarks
PARTED_MM = 3.0  # lips further apart than this show teeth


class GroundTruth:
    """What a frame's ground truth says of its pixels, and of the skin that does not move."""

    def __init__(self, dataset: Dataset, inpaint: Inpaint) -> None:
        self.dataset, self.maps = dataset, inpaint.maps
        self.mouth = dataset.regions[REGIONS.index("mouth")]
        corners = np.asarray(dataset.geometry["triangles"])[np.asarray(dataset.geometry["landmark_triangles"])]
        self.lips, weights = corners[list(INNER_LIPS)], np.asarray(dataset.geometry["landmark_barycentrics"])
        self.lip_weights = weights[list(INNER_LIPS)]

    def vertices(self, frame: int) -> FloatArray:
        """Displaced vertices [V, 3], cm."""
        return np.asarray(self.dataset.neutral + self.dataset.displacement(frame), np.float32)

    def regions(self, frame: int, painted: Painted) -> dict[str, BoolArray]:
        """The regions [H, W] that figures are taken over."""
        masks = self.maps.masks(frame)
        return {
            "face": (painted.mask == 1) & painted.covered,
            "lower_face": masks[..., REGIONS.index("inpaint")] > 0.5,
            "mouth": masks[..., REGIONS.index("mouth")] > 0.5,
        }

    def teeth(self, frame: int, size: tuple[int, int]) -> BoolArray:
        """Pixels between the inner lips; none if they are too near to each other."""
        points = np.einsum("lk,lkx->lx", self.lip_weights, self.vertices(frame)[self.lips])
        if 10 * np.linalg.norm(points[2] - points[6]) < PARTED_MM:
            return np.zeros(size, bool)
        return image_quality.inner_mouth(self.dataset.camera.project(points, self.dataset.pose[frame]), size)

    def steady(self, frame: int, painted: Painted) -> tuple[FloatArray, BoolArray]:
        """Pixel positions [V, 2] of the vertices, and which of them are painted, visible, off the lips, and where they
        were on the face a frame ago.
        """
        dataset = self.dataset
        points = dataset.camera.project(self.vertices(frame), dataset.pose[frame])
        height, width = painted.mask.shape
        columns = np.clip(points[:, 0].astype(int), 0, width - 1)
        rows = np.clip(points[:, 1].astype(int), 0, height - 1)
        shown = self.maps.draw(frame, dataset.canonical)[rows, columns]
        visible = (shown[:, 3] > 0) & (np.linalg.norm(shown[:, :3] - dataset.canonical, axis=1) < NEAR_CM)
        moved = np.linalg.norm(dataset.displacement(frame) - dataset.displacement(max(0, frame - 1)), axis=1)
        kept = visible & (painted.mask[rows, columns] == 1) & (self.mouth < 0.1) & (10 * moved < STEADY_MM)
        return points, kept


@dataclass
class Rows:
    """Figures of every measured frame of one network."""

    images: list[dict[str, dict[str, float]]] = field(default_factory=list)
    seam: list[float] = field(default_factory=list)
    teeth: list[float] = field(default_factory=list)
    flicker: list[tuple[float, float]] = field(default_factory=list)  # of each run: painted, true
    jitter: list[tuple[float, float]] = field(default_factory=list)  # mm: predicted, true

    def figures(self) -> dict[str, object]:
        """Means: by region, and over frames or runs."""
        parts = dict.fromkeys(name for row in self.images for name in row)
        out: dict[str, object] = {
            part: {
                key: float(np.mean([row[part][key] for row in self.images if part in row]))
                for key in ("psnr", "ssim", "mse")
            }
            for part in parts
        }
        for name, values in (("seam_ratio", self.seam), ("teeth_sharpness", self.teeth)):
            out[name] = float(np.mean(values)) if values else None
        # Of all runs together: where the head stands still the original hardly changes at all.
        painted, true = np.sqrt(np.square(self.flicker).mean(0)) if self.flicker else (0.0, 0.0)
        out["flicker_ratio"] = float(painted / true) if true else None
        if self.jitter:
            out["jitter_mm"] = dict(zip(("predicted", "true"), np.mean(self.jitter, 0).tolist(), strict=True))
        return out


def measure_run(
    rows: Rows, truth: GroundTruth, frames: list[int], painted: list[Painted], true: list[ByteArray]
) -> None:
    """Adds the figures of one run of consecutive frames."""
    sampled, steady = [], []
    for frame, p, image in zip(frames, painted, true, strict=True):
        rows.images.append(image_quality.image_figures(p.image, image, truth.regions(frame, p)))
        rows.seam.append(image_quality.seam_ratio(p.image, image, p.mask))
        sharpness = image_quality.sharpness_ratio(p.image, image, truth.teeth(frame, p.mask.shape))
        rows.teeth += [] if sharpness is None else [sharpness]
        points, kept = truth.steady(frame, p)
        sampled.append((image_quality.sample(p.image, points), image_quality.sample(image, points)))
        steady.append(kept)
    of_painted, of_true = (
        image_quality.flicker(np.stack(luma), np.stack(steady)) for luma in zip(*sampled, strict=True)
    )
    rows.flicker += [] if of_painted is None or of_true is None else [(of_painted, of_true)]
    displaced = [p.vertices for p in painted if p.vertices is not None]
    if len(displaced) == len(frames):
        moved = np.unique(np.asarray(truth.dataset.geometry["triangles"]))
        true_vertices = np.stack([truth.vertices(f) for f in frames])[:, moved]
        rows.jitter.append(
            (10 * image_quality.jitter(np.stack(displaced)[:, moved]), 10 * image_quality.jitter(true_vertices))
        )
