"""Puts other networks into an avatar folder: weights, ONNX files, hashes, provenance."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from export.onnx import export_onnx
from export.tensorrt import write_target
from export.weights import fill, load_networks, save_networks
from networks.composition import COMPOSITIONS, Composition
from realtime.avatar import load_avatar
from realtime.avatar_format import hashes
from realtime.contract import COLOR, COMPOSITION, DEFORMATION, PROJECTION, Network
from realtime.errors import MiravoxError
from training.face_networks import load_face

SIDE_STEP = 16  # what the strided networks need


def recompose(avatar: Path, composition: Path, out: Path) -> Path:
    """Writes the avatar with the network of `composition` (by training.composition) into `out`.

    Raises MiravoxError if the avatar is not valid, the network is not one of ours, or `out` exists.
    """
    before = load_avatar(avatar)
    _check_free(out)
    with safe_open(composition, "np") as file:
        metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    config = metadata.get("config", {})
    side = config.get("side")
    if config.get("network") not in COMPOSITIONS or not isinstance(side, int) or side % SIDE_STEP:
        raise MiravoxError(
            str(composition),
            found=f"network {config.get('network')} for {side} pixels",
            wanted=f"one of {', '.join(COMPOSITIONS)} for a multiple of {SIDE_STEP} pixels",
            remedy="Train it with training.composition.",
        )
    shutil.copytree(avatar, out)
    network = fill(Composition(COMPOSITIONS[config["network"]]), load_file(composition), "", composition)
    _save_networks(out, {"composition": network})
    export_onnx(network, COMPOSITION, out / "targets" / "onnx" / "composition.onnx", side)
    info = dict(before.info)
    info["composition"], info["composition_size"] = config["network"], side
    trained = {"composition": {**config, **metadata.get("figures", {})}}
    return _finish(out, {**info, "provenance": {**info["provenance"], **trained}}, (COMPOSITION,))


def reface(avatar: Path, face: Path, out: Path) -> Path:
    """Writes the avatar with projection, deformation and colour of `face` (by training.face) into `out`, without the
    target baked: what was baked is of other networks. So a face can be looked at and measured before it is baked.

    Raises MiravoxError if the avatar or the face is not valid, or `out` exists.
    """
    before = load_avatar(avatar)
    _check_free(out)
    networks, config, rest = load_face(face)
    shutil.copytree(avatar, out, ignore=shutil.ignore_patterns("baked"))
    parts = {PROJECTION: networks.projection, DEFORMATION: networks.deformation, COLOR: networks.color}
    _save_networks(out, {contract.name: network for contract, network in parts.items()})
    for contract, network in parts.items():
        export_onnx(network, contract, out / "targets" / "onnx" / f"{contract.name}.onnx")
    geometry = load_file(out / "geometry.safetensors")
    save_file({**geometry, "rest_latent": torch.from_numpy(rest)}, out / "geometry.safetensors")
    provenance = {k: v for k, v in before.info["provenance"].items() if k not in ("projection", "baked")}
    info = {**before.info, "color_input": config.color_input, "frequencies": config.frequencies, "fidelity": {}}
    return _finish(out, {**info, "provenance": {**provenance, "face": asdict(config)}}, tuple(parts))


def _check_free(out: Path) -> None:
    if out.exists():
        raise MiravoxError(str(out), found="something there already", wanted="a new folder", remedy="Name another.")


def _save_networks(folder: Path, changed: dict[str, nn.Module]) -> None:
    networks, _ = load_networks(folder)
    save_networks(networks | changed, folder / "networks.safetensors")


def _finish(folder: Path, info: dict[str, Any], changed: tuple[Network, ...]) -> Path:
    """Writes avatar.json with the hashes of the files that are there, and the changed networks for TensorRT if the
    avatar is exported for it.
    """
    (folder / "avatar.json").write_text(json.dumps({**info, **hashes(folder)}, indent=2) + "\n")
    if "tensorrt" in load_avatar(folder).targets:
        write_target(folder, [network.name for network in changed])
    return folder
