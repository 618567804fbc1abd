"""Projection with attention: window of embeddings A_TE -> latent b_K (thesis 3.4, Tables 3.2 and 3.3, equation 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from realtime.contract import EMBEDDING, EMBEDDINGS, LATENT

LEAK = 0.02


@dataclass(frozen=True)
class ProjectionConfig:
    """Widths of the two chains of 1D convolutions, and how many of the newest embeddings are weighted."""

    features: tuple[int, ...] = (EMBEDDING, 256, 256, 128, LATENT)  # kernel 1
    attention: tuple[int, ...] = (LATENT, 16, 8, 4, 2, 1)  # kernel 3
    window: int = EMBEDDINGS  # T; 1: no temporal weighting (Table 4.8 x)


def _chain(widths: tuple[int, ...], kernel: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2), nn.LeakyReLU(LEAK)]
    return nn.Sequential(*layers)


class Projection(nn.Module):
    """b = F w: features F_KT of every embedding, weighted over the window by a softmax attention w_T."""

    def __init__(self, config: ProjectionConfig | None = None) -> None:
        super().__init__()
        config = config or ProjectionConfig()
        self.window = config.window
        self.features = _chain(config.features, 1)
        self.attention = _chain(config.attention, 3)

    def forward(self, embeddings_BTE: Tensor) -> Tensor:
        """float32 [B, 9, 512], oldest first -> b float32 [B, 64], zero mean and unit variance over its 64 values."""
        features_BKT = self.features(embeddings_BTE[:, -self.window :].transpose(1, 2))
        weights_BT = torch.softmax(self.attention(features_BKT)[:, 0], dim=1)
        latent_BK = (features_BKT @ weights_BT[..., None])[..., 0]
        return normalise(latent_BK)


def normalise(latent_BK: Tensor) -> Tensor:
    """Zero mean and unit variance over the last axis."""
    centred = latent_BK - latent_BK.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-6)
