"""Composition: eroded source frame and rendered face -> frame (thesis 3.6, Table 3.4, Figure 3.8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.02


@dataclass(frozen=True)
class CompositionConfig:
    """Five encoder and five decoder convolutions, 3 x 3. `base` is the width of the first level, 32 in the thesis."""

    base: int = 32
    dilated: bool = True  # else strided: half the resolution at each level after the first
    residual: bool = False  # the output is added to the rendered face instead of replacing it


DILATED = CompositionConfig()
STRIDED = CompositionConfig(dilated=False)
STRIDED16 = CompositionConfig(base=16, dilated=False, residual=True)
STRIDED8 = CompositionConfig(base=8, dilated=False, residual=True)  # runs live on a CPU
COMPOSITIONS = {"dilated": DILATED, "strided": STRIDED, "strided16": STRIDED16, "strided8": STRIDED8}


class Composition(nn.Module):
    """Encoder 1, 2, 4, 8, 8 times `base`; decoder 8, then with encoder level 4, 3, 2, 1 concatenated 4, 2, 1 times
    and 3.
    """

    def __init__(self, config: CompositionConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DILATED
        widths = [config.base * m for m in (1, 2, 4, 8, 8)]
        self.encoder = nn.ModuleList()
        for level, (inputs, outputs) in enumerate(zip([6, *widths[:-1]], widths, strict=True)):
            dilation = 2**level if config.dilated else 1
            stride = 1 if config.dilated or level == 0 else 2
            self.encoder.append(nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation))
        self.decoder = nn.ModuleList([nn.Conv2d(widths[4], widths[4], 3, padding=1)])
        before = widths[4]
        for level, outputs in zip((3, 2, 1, 0), (widths[2], widths[1], widths[0], 3), strict=True):
            self.decoder.append(nn.Conv2d(before + widths[level], outputs, 3, padding=1))
            before = outputs
        if config.residual:  # starts as the identity
            nn.init.zeros_(self.decoder[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.decoder[-1].bias)  # type: ignore[arg-type]

    def forward(self, layers: Tensor) -> Tensor:
        """float32 [B, 6, H, W] in [0, 1]: eroded source RGB, rendered face over it RGB -> sRGB [B, 3, H, W] in [0, 1].

        H and W are multiples of 16 for the strided ones.
        """
        return self.finish(layers, self.convolve(layers))

    def convolve(self, layers: Tensor) -> Tensor:
        """The convolutions alone: [B, 6, H, W] -> [B, 3, H, W], unbounded."""
        x, levels = layers, []
        for convolution in self.encoder:
            x = F.leaky_relu(convolution(x), LEAK)
            levels.append(x)
        x = F.leaky_relu(self.decoder[0](x), LEAK)
        for convolution, level in zip(list(self.decoder)[1:], (3, 2, 1, 0), strict=True):
            if not self.config.dilated:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = convolution(torch.cat([x, levels[level]], 1))
            if level:
                x = F.leaky_relu(x, LEAK)
        return x

    def finish(self, layers: Tensor, x: Tensor) -> Tensor:
        """What comes out of `convolve` -> sRGB [B, 3, H, W] in [0, 1]."""
        if self.config.residual:
            return torch.clamp(layers[:, 3:] + x, 0, 1)
        return torch.sigmoid(x)
