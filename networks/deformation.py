"""Deformation: a point of the template and b -> its displacement from neutral (thesis 3.5.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from realtime.contract import LATENT


@dataclass(frozen=True)
class DeformationConfig:
    """Hidden layers and their width."""

    layers: int = 4
    width: int = 512


class Deformation(nn.Module):
    """MLP 3 + 64 -> 4 x 512 ReLU -> 3."""

    def __init__(self, config: DeformationConfig | None = None) -> None:
        super().__init__()
        config = config or DeformationConfig()
        widths = [3 + LATENT, *[config.width] * config.layers]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.output = nn.Linear(config.width, 3)

    def forward(self, points: Tensor, latent: Tensor) -> Tensor:
        """points float32 [..., N, 3] scaled to [-1, 1], b [..., 1, 64] -> displacement [..., N, 3] in centimetres."""
        x = torch.cat([points, latent.expand(*points.shape[:-1], LATENT)], -1)
        for layer in self.hidden:
            x = torch.relu(layer(x))
        displacement: Tensor = self.output(x)
        return displacement
