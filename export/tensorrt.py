"""Networks -> ONNX files that TensorRT builds plans of: strongly typed, float16 inside, float32 where it matters.

In float32 stay the softmax over the window, the normalisation of b, the sigmoids, the composition's residual and the
displacement; and what b adds to a layer, W_b b + c, which is computed once a frame instead of at every point.

An avatar is exported anew with `python -m export AVATAR --target tensorrt`.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.onnx import EXAMPLE, write_onnx
from export.weights import load_networks
from networks.audio_encoder import AudioEncoder, ConvBlock
from networks.color import Color
from networks.composition import Composition
from networks.deformation import Deformation
from networks.projection import Projection, normalise
from realtime.avatar import load_avatar
from realtime.avatar_format import hashes
from realtime.avatar_json import FORMAT_VERSION
from realtime.contract import (
    AUDIO_ENCODER,
    COMPOSITION,
    DEFORMATION,
    EMBEDDING,
    EMBEDDINGS,
    ENCODED_COLOR,
    LATENT,
    MEL_BANDS,
    MEL_FRAMES,
    PLAN_NETWORKS,
    PROJECTION,
    Network,
    encoded_width,
)
from realtime.errors import MiravoxError
from realtime.gpu.cache import plan_folder
from realtime.gpu.plan_cache import avatar_plans, current_gpu_model
from realtime.gpu.tensorrt_module import load_tensorrt
from realtime.whole_file import replacing

TARGET = "tensorrt"
NAMES = tuple(network.name for network in PLAN_NETWORKS)


class HalfConvolution(nn.Module):
    """A convolution in float16, its batch norm folded in."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        folded = fuse_conv_bn_eval(convolution.double(), norm.double())
        assert folded.bias is not None
        self.weight, self.bias = frozen(folded.weight.half()), frozen(folded.bias.half())
        self.stride, self.padding, self.dilation = convolution.stride, convolution.padding, convolution.dilation

    def forward(self, x: Tensor) -> Tensor:
        """float16 [B, C, H, W] -> float16."""
        assert not isinstance(self.padding, str)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation)


class HalfAudioEncoder(nn.Module):
    """Convolutions in float16; the presence's layer and sigmoid in float32."""

    def __init__(self, encoder: AudioEncoder) -> None:
        super().__init__()
        blocks = [cast(ConvBlock, block) for block in encoder.audio_encoder]
        self.residual = [block.residual for block in blocks]
        self.convolutions = nn.ModuleList(
            HalfConvolution(cast(nn.Conv2d, block.conv_block[0]), cast(nn.BatchNorm2d, block.conv_block[1]))
            for block in blocks
        )
        self.presence = encoder.presence.float()

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """mel float32 [1, 1, 80, 16] -> embedding float32 [1, 512], presence float32 [1, 1]."""
        x = mel.half()
        for convolution, residual in zip(self.convolutions, self.residual, strict=True):
            y = convolution(x)
            x = torch.relu(y + x if residual else y)
        embedding = x.flatten(1).float()
        return embedding, torch.sigmoid(self.presence(embedding))


class HalfProjection(nn.Module):
    """Features in float16; the attention over nine positions is too small to gain by it and stays in float32."""

    def __init__(self, projection: Projection) -> None:
        super().__init__()
        self.window = projection.window
        self.features = projection.features.half()
        self.attention = projection.attention.float()

    def forward(self, embeddings: Tensor) -> Tensor:
        """float32 [1, 9, 512] -> b float32 [1, 64]."""
        features_BKT = self.features(embeddings[:, -self.window :].half().transpose(1, 2)).float()
        weights_BT = torch.softmax(self.attention(features_BKT)[:, 0], dim=1)
        return normalise((features_BKT @ weights_BT[..., None])[..., 0])


class HalfDeformation(nn.Module):
    """The first layer takes three coordinates, centimetres come out: both in float32, the rest in float16."""

    def __init__(self, deformation: Deformation) -> None:
        super().__init__()
        first, *rest = (cast(nn.Linear, layer) for layer in deformation.hidden)
        self.from_points = frozen(first.weight[:, :3].float().T)
        self.from_latent = latent_layer(first, 3)
        self.hidden = nn.ModuleList(layer.half() for layer in rest)
        self.output = deformation.output.float()

    def forward(self, points: Tensor, latent: Tensor) -> Tensor:
        """points float32 [V, 3], b float32 [1, 64] -> displacement float32 [V, 3], cm."""
        x = torch.relu(points @ self.from_points + self.from_latent(latent)).half()
        for layer in self.hidden:
            x = torch.relu(layer(x))
        displacement: Tensor = self.output(x.float())
        return displacement


class HalfColor(nn.Module):
    """Layers in float16 on points that are encoded already; what b adds to the two layers that it enters and the
    sigmoid in float32.
    """

    def __init__(self, color: Color) -> None:
        super().__init__()
        self.skip = color.config.skip
        used, padded = 6 * color.config.frequencies, encoded_width(color.config.frequencies)
        width = color.config.width
        layers = [cast(nn.Linear, layer) for layer in color.hidden]
        zeros = torch.zeros(width, padded - used)  # for what `encoded` is filled up with
        first, again = layers[0].weight.float(), layers[self.skip].weight.float()
        self.first = frozen(torch.cat([first[:, :used], zeros], 1).half().T)
        self.again = frozen(torch.cat([again[:, : width + used], zeros], 1).half().T)
        self.first_latent = latent_layer(layers[0], used)
        self.again_latent = latent_layer(layers[self.skip], width + used)
        self.hidden = nn.ModuleList(
            nn.Identity() if index in (0, self.skip) else layer.half() for index, layer in enumerate(layers)
        )
        self.output = color.output.half()

    def forward(self, encoded: Tensor, latent: Tensor) -> Tensor:
        """gamma(p) float16 [N, K], b float32 [1, 64] -> sRGB float32 [N, 3] in [0, 1]."""
        x = torch.relu(encoded @ self.first + self.first_latent(latent).half())
        for index, layer in enumerate(self.hidden):
            if index == self.skip:
                x = torch.relu(torch.cat([x, encoded], -1) @ self.again + self.again_latent(latent).half())
            elif index:
                x = torch.relu(layer(x))
        return torch.sigmoid(self.output(x).float())


class HalfComposition(nn.Module):
    """Convolutions in float16; the residual and the sigmoid or clamp in float32."""

    def __init__(self, composition: Composition) -> None:
        super().__init__()
        self.composition = composition.half()

    def forward(self, layers: Tensor) -> Tensor:
        """float32 [1, 6, side, side] -> sRGB float32 [1, 3, side, side] in [0, 1]."""
        return self.composition.finish(layers, self.composition.convolve(layers.half()).float())


def frozen(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach().clone().contiguous(), requires_grad=False)


def latent_layer(layer: nn.Linear, first: int) -> nn.Linear:
    """W_b b + c of a layer whose inputs from `first` on are b: float32 [1, 64] -> [1, width]."""
    part = nn.Linear(LATENT, layer.out_features)
    part.weight, part.bias = frozen(layer.weight[:, first : first + LATENT].float()), frozen(layer.bias.float())
    return part


def halved(module: nn.Module, network: Network) -> nn.Module:
    """The network as it goes to the GPU. Shares nothing with `module`, which stays as it is."""
    module = copy.deepcopy(module)
    if network is AUDIO_ENCODER:
        made: nn.Module = HalfAudioEncoder(cast(AudioEncoder, module))
    elif network is PROJECTION:
        made = HalfProjection(cast(Projection, module))
    elif network is DEFORMATION:
        made = HalfDeformation(cast(Deformation, module))
    elif network is ENCODED_COLOR:
        made = HalfColor(cast(Color, module))
    else:
        assert network is COMPOSITION
        made = HalfComposition(cast(Composition, module))
    return made.eval().requires_grad_(False)


def export_half(module: nn.Module, network: Network, path: Path, side: int) -> None:
    """Writes one network of contract.PLAN_NETWORKS. The number of points is free, all other extents are fixed.

    Args:
        module: the reference network in evaluation mode; it is not changed.
        side: of the square that the composition network takes, pixels.
    """
    dynamic: tuple[dict[int, object], ...] | None = None
    latent = torch.rand(1, LATENT)
    if network is AUDIO_ENCODER:
        inputs: tuple[Tensor, ...] = (torch.rand(1, 1, MEL_BANDS, MEL_FRAMES),)
    elif network is PROJECTION:
        inputs = (torch.rand(1, EMBEDDINGS, EMBEDDING),)
    elif network is COMPOSITION:
        inputs = (torch.rand(1, 6, side, side),)
    else:
        dynamic = ({0: torch.export.Dim("N")}, {})
        inputs = (torch.rand(EXAMPLE, 3), latent)
        if network is ENCODED_COLOR:
            inputs = (torch.rand(EXAMPLE, encoded_width(cast(Color, module).config.frequencies)).half(), latent)
    write_onnx(halved(module, network), inputs, dynamic, network, path, optimize=True)


def export_target(avatar: Path, out: Path | None = None) -> Path:
    """Writes targets/tensorrt of an avatar, into its folder or into a copy of it, and returns where.

    Raises MiravoxError if the avatar is not valid, or `out` exists.
    """
    load_avatar(avatar)
    if out is not None:
        if out.exists():
            raise MiravoxError(str(out), found="something there already", wanted="a new folder", remedy="Name another.")
        shutil.copytree(avatar, out)
    write_target(out or avatar)
    return out or avatar


def build_plans(folder: Path, size: int | None = None) -> str:
    """Builds the plans of an avatar into the user's cache if TensorRT and a GPU are here. Returns what came of it.

    Raises MiravoxError if they are here, but a plan cannot be built or kept.
    """
    avatar = load_avatar(folder)
    try:
        trt, gpu = load_tensorrt(), current_gpu_model()
    except MiravoxError as reason:
        return f"no plans were built here: {reason}"
    made = avatar_plans(trt, avatar, gpu, size or avatar.width)
    return f"{len(made)} plans for {gpu.name} in {plan_folder()}"


def write_target(folder: Path, names: Sequence[str] = NAMES) -> None:
    """Writes targets/tensorrt of an avatar folder, or those networks of it, from its reference weights, and the hashes
    in its avatar.json.

    Raises MiravoxError if the folder is not a valid avatar.
    """
    networks, side = load_networks(folder)
    for network in PLAN_NETWORKS:
        if network.name in names:
            path = folder / "targets" / TARGET / f"{network.name}.onnx"
            export_half(networks[network.name], network, path, side)
    info = json.loads((folder / "avatar.json").read_text())
    info |= {"format_version": FORMAT_VERSION, **hashes(folder)}
    with replacing(folder / "avatar.json") as partial:
        partial.write_text(json.dumps(info, indent=2) + "\n")
    load_avatar(folder)
