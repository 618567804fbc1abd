"""The network of the baked target: latent b -> factors d_k(b), c_k(b) of its displacement and colour components."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from realtime.contract import LATENT

WIDTH = 256


class Coefficients(nn.Module):
    """MLP 64 -> 2 x 256 ReLU -> D and C factors."""

    def __init__(self, displacement_rank: int, color_rank: int) -> None:
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(LATENT, WIDTH), nn.Linear(WIDTH, WIDTH)])
        self.displacement = nn.Linear(WIDTH, displacement_rank)
        self.color = nn.Linear(WIDTH, color_rank)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """b float32 [B, 64] -> d [B, D], c [B, C]."""
        x = latent
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.displacement(x), self.color(x)
