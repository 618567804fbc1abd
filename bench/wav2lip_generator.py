"""A network of the shape of Wav2Lip's generator (Prajwal et al. 2020, section 3.3), with random weights: something to
hold a frame's cost against. It sees 96 x 96 pixels of face, twice, and a window of speech, and paints 96 x 96 pixels.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from networks.audio_encoder import WAV2LIP, AudioEncoder, ConvBlock

FACE_SIDE = 96  # pixels

# Of the identity encoder: width, kernel, stride, padding, residual convolutions after it.
IDENTITY = (
    (16, 7, 1, 3, 0),
    (32, 3, 2, 1, 2),
    (64, 3, 2, 1, 3),
    (128, 3, 2, 1, 2),
    (256, 3, 2, 1, 2),
    (512, 3, 2, 1, 1),
    (512, 3, 1, 0, 0),
)
# Of the face decoder, from 1 x 1 pixels to 96 x 96: width, residual convolutions after it.
DECODER = ((512, 0), (512, 1), (512, 2), (384, 2), (256, 2), (128, 2), (64, 2))


def residuals(width: int, count: int) -> list[nn.Module]:
    return [ConvBlock(width, width, 3, 1, 1, residual=True) for _ in range(count)]


class Generator(nn.Module):
    """Identity encoder, speech encoder and face decoder with skip connections."""

    def __init__(self) -> None:
        super().__init__()
        self.speech = AudioEncoder(WAV2LIP)
        encoder, before, widths = [], 6, []
        for width, kernel, stride, padding, count in IDENTITY:
            encoder.append(nn.Sequential(ConvBlock(before, width, kernel, stride, padding), *residuals(width, count)))
            before = width
            widths.append(width)
        encoder[-1].append(ConvBlock(before, before, 1, 1, 0))
        self.encoder = nn.ModuleList(encoder)
        decoder: list[nn.Module] = []
        before = 512
        for level, (width, count) in enumerate(DECODER):
            if level == 0:
                first: nn.Module = ConvBlock(before, width, 1, 1, 0)
            else:
                # 1 x 1 becomes 3 x 3, from then on the sides double.
                up = (3, 1, 0, 0) if level == 1 else (3, 2, 1, 1)
                first = nn.Sequential(
                    nn.ConvTranspose2d(before, width, up[0], up[1], up[2], up[3]), nn.BatchNorm2d(width), nn.ReLU()
                )
            decoder.append(nn.Sequential(first, *residuals(width, count)))
            before = width + widths[-1 - level]
        self.decoder = nn.ModuleList(decoder)
        self.output = nn.Sequential(ConvBlock(before, 32, 3, 1, 1), nn.Conv2d(32, 3, 1))

    def forward(self, mel: Tensor, faces: Tensor) -> Tensor:
        """mel [B, 1, 80, 16], faces [B, 6, 96, 96] -> [B, 3, 96, 96]."""
        levels, y = [], faces
        for block in self.encoder:
            y = block(y)
            levels.append(y)
        x = self.speech(mel)[0][..., None, None]
        for block in self.decoder:
            x = torch.cat([block(x), levels.pop()], 1)
        return torch.sigmoid(self.output(x))


def export_generator(path: Path) -> Path:
    torch.manual_seed(0)
    inputs = torch.zeros(1, 1, 80, 16), torch.zeros(1, 6, FACE_SIDE, FACE_SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        torch.onnx.export(
            Generator().eval(),
            inputs,
            str(path),
            dynamo=True,
            verbose=False,
            input_names=["mel", "faces"],
            output_names=["face"],
        )
    return path
