"""Puts another composition network into an avatar folder: weights, ONNX file, hashes, provenance."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from export.onnx import export_onnx
from export.weights import fill, load_networks, save_networks
from networks.composition import COMPOSITIONS, Composition
from networks.contract import COMPOSITION
from realtime.avatar import load_avatar, sha256
from realtime.errors import MiravoxError

SIDE_STEP = 16  # what the strided networks need


def recompose(avatar: Path, composition: Path, out: Path) -> Path:
    """Writes the avatar with the network of `composition` (by training.composition) into `out`.

    Raises MiravoxError if the avatar is not valid, the network is not one of ours, or `out` exists.
    """
    before = load_avatar(avatar)
    if out.exists():
        raise MiravoxError(str(out), found="something there already", wanted="a new folder", remedy="Name another.")
    with safe_open(composition, "np") as file:
        metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    config = metadata.get("config", {})
    side = config.get("side")
    if config.get("network") not in COMPOSITIONS or not isinstance(side, int) or side % SIDE_STEP:
        raise MiravoxError(
            str(composition), found=f"network {config.get('network')} for {side} pixels",
            wanted=f"one of {', '.join(COMPOSITIONS)} for a multiple of {SIDE_STEP} pixels",
            remedy="Train it with training.composition.",
        )  # fmt: skip
    shutil.copytree(avatar, out)
    networks, _ = load_networks(out)
    networks["composition"] = fill(
        Composition(COMPOSITIONS[config["network"]]), load_file(composition), "", composition
    )
    save_networks(networks, out / "networks.safetensors")
    export_onnx(networks["composition"], COMPOSITION, out / "targets" / "onnx" / "composition.onnx", side)
    info = dict(before.info)
    info["composition"], info["composition_size"] = config["network"], side
    provenance = dict(info["provenance"])
    provenance["composition"] = {**config, **metadata.get("figures", {})}
    files = {name: sha256(out / name) for name in info["files"]}
    (out / "avatar.json").write_text(json.dumps({**info, "provenance": provenance, "files": files}, indent=2) + "\n")
    load_avatar(out)
    return out
