"""Colour: a point of the face and b -> RGB (thesis 3.5.2, positional encoding of equation 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from realtime.contract import FREQUENCIES, LATENT

TWO_PI = 6.283185307179586


@dataclass(frozen=True)
class ColorConfig:
    """Hidden layers, their width, where the input enters again, and the frequencies L of the positional encoding."""

    layers: int = 8
    width: int = 512
    skip: int = 4  # index of the hidden layer (the fifth) that takes the input again
    frequencies: int = FREQUENCIES


def encode_position(points: Tensor, frequencies: int) -> Tensor:
    """gamma(p) of equation 3.3: sin and cos of 2^k pi p for k = 0 .. L-1, [..., 3] -> [..., 6 L].

    The argument is reduced to one turn exactly, since 2^15 pi p has lost seven thousandths in float32 and overflows
    float16.
    """
    octaves = 2.0 ** torch.arange(-1, frequencies - 1, dtype=points.dtype, device=points.device)
    turns = points[..., None] * octaves
    angle = (turns - torch.round(turns)) * TWO_PI
    return torch.cat([torch.sin(angle).flatten(-2), torch.cos(angle).flatten(-2)], -1)


class Color(nn.Module):
    """MLP 6 L + 64 -> 8 x 512 ReLU -> 3, sigmoid; the fifth hidden layer takes the input again, concatenated."""

    def __init__(self, config: ColorConfig | None = None) -> None:
        super().__init__()
        config = config or ColorConfig()
        self.config = config
        inputs = 6 * config.frequencies + LATENT
        self.hidden = nn.ModuleList()
        for index in range(config.layers):
            before = inputs if index == 0 else config.width + (inputs if index == config.skip else 0)
            self.hidden.append(nn.Linear(before, config.width))
        self.output = nn.Linear(config.width, 3)

    def forward(self, points: Tensor, latent: Tensor) -> Tensor:
        """points float32 [..., N, 3] scaled by the template's box, b [..., 1, 64] -> sRGB [..., N, 3] in [0, 1]."""
        encoded = encode_position(points, self.config.frequencies)
        entry = torch.cat([encoded, latent.expand(*points.shape[:-1], LATENT)], -1)
        x = entry
        for index, layer in enumerate(self.hidden):
            if index == self.config.skip:
                x = torch.cat([x, entry], -1)
            x = torch.relu(layer(x))
        return torch.sigmoid(self.output(x))
