"""The loss of the mouth's geometry in voices that were not filmed: the studio's curves say how it moves.

Shape letters: F frames, C expression shapes, X the axes x, y, z.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dataset.folder import INNER_LOWER, INNER_UPPER, Dataset
from networks.losses import MASK_WEIGHTS, l1_distance, mask_weight
from realtime.contract import MASKS, REGIONS
from training.face_networks import FaceConfig, FaceNetworks
from training.voices import Voices


class VoiceLoss:
    """How far the mouth is from the studio's in voices that were not filmed."""

    def __init__(self, config: FaceConfig, dataset: Dataset, voices: Voices) -> None:
        self.config, self.voices, self.dataset = config, voices, dataset
        landmarks = [INNER_UPPER, INNER_LOWER]
        triangles = np.asarray(dataset.geometry["triangles"])
        self.corners = triangles[np.asarray(dataset.geometry["landmark_triangles"])[landmarks]].ravel()  # [6]
        weights = np.asarray(dataset.geometry["landmark_barycentrics"])[landmarks].astype(np.float32)
        # Upper less lower lip, as a sum over the six corners.
        self.gap_6 = torch.from_numpy(np.concatenate([weights[0], -weights[1]]))
        self.points = torch.from_numpy(dataset.scale(dataset.canonical))
        self.masks = torch.from_numpy(dataset.regions[: len(MASKS)].T.copy())
        moved = np.unique(triangles)
        density = dataset.regions[REGIONS.index("mouth")][moved] + 0.3 * dataset.regions[REGIONS.index("jaw")][moved]
        self.moved, self.density = moved, density / density.sum()

    def __call__(self, networks: FaceNetworks, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """L1 of vertices (equation 3.7), of the vector between the inner lips, and of its change from a frame to the
        next, weighted alike.
        """
        config = self.config
        first = rng.integers(len(self.voices.newest) - 1, size=config.voice_frames // 2)
        rows = np.concatenate([first, first + 1])
        vertices = np.concatenate(
            [self.corners, rng.choice(self.moved, config.voice_vertices, p=self.density, replace=False)]
        )
        windows = F.dropout(torch.from_numpy(self.voices.windows(rows)), config.embedding_dropout)
        latent = networks.projection(windows)
        # Of two frames that follow each other the noise is the same: it is not a movement.
        latent = (latent + config.latent_noise * torch.randn_like(latent[: len(first)]).repeat(2, 1))[:, None]
        displacement = networks.deformation(self.points[vertices].expand(len(rows), -1, -1), latent)
        truth = torch.from_numpy(
            np.einsum("fc,cvx->fvx", self.voices.expression[rows], self.dataset.basis[:, vertices]).astype(np.float32)
        )
        weight = torch.from_numpy(np.where(self.voices.together[rows], config.closure_weight, 1.0).astype(np.float32))
        weight = weight / weight.mean()
        error = l1_distance(displacement, truth) * mask_weight(self.masks[vertices])  # [F, 6 + n]
        lips = torch.einsum("fvx,v->fx", (displacement - truth)[:, : len(self.corners)], self.gap_6)
        change = (lips[len(first) :] - lips[: len(first)]).abs().sum(-1)
        scale = sum(MASK_WEIGHTS.values())
        return (weight * error.mean(1)).mean(), (weight * lips.abs().sum(-1)).mean() * scale, change.mean() * scale
