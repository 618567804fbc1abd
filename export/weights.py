"""The avatar's reference weights: one safetensors file with every network, float16, as `network/parameter`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from export.coefficients import Coefficients
from networks.audio_encoder import FIRST_WEIGHT, AudioEncoder, sizes_of
from networks.color import Color, ColorConfig
from networks.composition import COMPOSITIONS, Composition
from networks.deformation import Deformation
from networks.projection import Projection, ProjectionConfig
from realtime.contract import EMBEDDINGS
from realtime.errors import MiravoxError
from realtime.whole_file import replacing


def save_networks(networks: dict[str, nn.Module], path: Path) -> None:
    """Writes the state of every network, rounded to float16."""
    tensors = {
        f"{name}/{key}": value.half().contiguous()
        for name, module in networks.items()
        for key, value in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    with replacing(path) as partial:
        save_file(tensors, partial)


def fill(module: nn.Module, tensors: dict[str, torch.Tensor], prefix: str, path: Path) -> nn.Module:
    """Loads the tensors under a prefix into a module, as float32, in evaluation mode.

    Raises MiravoxError if they do not fit.
    """
    state = {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}
    wanted = {k: v.shape for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    odd = sorted(set(state) ^ set(wanted)) or sorted(k for k, v in state.items() if v.shape != wanted[k])
    if odd:
        raise MiravoxError(
            str(path),
            found=f"parameters that do not fit ({prefix}{odd[0]})",
            wanted=type(module).__name__,
            remedy="Train and export with the same version.",
        )
    module.load_state_dict(state, strict=False)
    return module.eval()


def load_networks(folder: Path) -> tuple[dict[str, nn.Module], int]:
    """Every network of an avatar folder in torch, and the side of the composition network's square."""
    info = json.loads((folder / "avatar.json").read_text())
    path = folder / "networks.safetensors"
    tensors = load_file(path)
    ranks = [len(tensors[f"coefficients/{head}.bias"]) for head in ("displacement", "color")]
    window = info["provenance"].get("face", {}).get("window", EMBEDDINGS)  # that of faces is newer than their format
    networks: dict[str, nn.Module] = {
        "audio_encoder": AudioEncoder(sizes_of(tensors[f"audio_encoder/{FIRST_WEIGHT}"])),
        "projection": Projection(ProjectionConfig(window=window)),
        "deformation": Deformation(),
        "color": Color(ColorConfig(frequencies=info["frequencies"])),
        "composition": Composition(COMPOSITIONS[info["composition"]]),
        "coefficients": Coefficients(*ranks),
    }
    return {n: fill(m, tensors, f"{n}/", path) for n, m in networks.items()}, info["composition_size"]
