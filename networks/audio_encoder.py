"""Audio encoder: mel 80 x 16 -> embedding a_E (thesis 3.3, Table 3.1; Wav2Lip, Prajwal et al. 2020).

Parameter names are those of the published checkpoint (`audio_encoder.N.conv_block.M.*`), for WAV2LIP's sizes; encoders
trained here have COMPACT's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from realtime.contract import EMBEDDING

Extent = int | tuple[int, int]


class ConvBlock(nn.Module):
    """2D convolution, batch norm, ReLU; with `residual` the input is added before the ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Extent, stride: Extent, padding: int, residual: bool = False
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.BatchNorm2d(outputs))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_block(x)
        return torch.relu(y + x if self.residual else y)


@dataclass(frozen=True)
class AudioEncoderConfig:
    """Sizes: every stage opens with a strided convolution and goes on with residual ones; a convolution over all that
    is left makes the embedding.
    """

    widths: tuple[int, ...]
    strides: tuple[Extent, ...]  # (mel bands, mel frames)
    residuals: tuple[int, ...]
    last_kernel: tuple[int, int]


# Wav2Lip's own sizes: 2.81 M parameters, 93 M multiply-adds an embedding.
WAV2LIP = AudioEncoderConfig((32, 64, 128, 256), (1, (3, 1), 3, (3, 2)), (2, 2, 2, 1), (3, 3))
# The same plan for a quarter of the work: strided from the first convolution on, one residual convolution a stage.
COMPACT = AudioEncoderConfig((16, 32, 64, 128, 256), ((2, 1), (2, 1), (2, 2), (2, 2), (2, 2)), (1, 1, 1, 1, 1), (3, 2))


def sizes_of(first_weight: Tensor) -> AudioEncoderConfig:
    """WAV2LIP or COMPACT, by the weights of the first convolution that a file holds, [width, 1, 3, 3]."""
    return WAV2LIP if first_weight.shape[:1] == WAV2LIP.widths[:1] else COMPACT


FIRST_WEIGHT = "audio_encoder.0.conv_block.0.weight"


class AudioEncoder(nn.Module):
    """2D convolutions with batch norm, some of them residual, and the presence output."""

    def __init__(self, config: AudioEncoderConfig = COMPACT) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for width, stride, residuals in zip(config.widths, config.strides, config.residuals, strict=True):
            layers.append(ConvBlock(inputs, width, 3, stride, 1))
            layers += [ConvBlock(width, width, 3, 1, 1, residual=True) for _ in range(residuals)]
            inputs = width
        layers += [ConvBlock(inputs, EMBEDDING, config.last_kernel, 1, 0), ConvBlock(EMBEDDING, EMBEDDING, 1, 1, 0)]
        self.audio_encoder = nn.Sequential(*layers)
        self.presence = nn.Linear(EMBEDDING, 1)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """mel float32 [B, 1, 80, 16] in [-4, 4] -> embedding [B, 512] >= 0, presence [B, 1] in [0, 1]."""
        embedding = self.audio_encoder(mel).flatten(1)
        return embedding, torch.sigmoid(self.presence(embedding))
