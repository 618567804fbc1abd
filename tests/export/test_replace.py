"""Other networks are put into an avatar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from realtime.avatar import load_avatar
from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch", "gl_context")


def listed(info: dict[str, Any]) -> dict[str, str]:
    """{file: hash} of all groups of avatar.json."""
    return {name: value for group in (info["files"], *info["targets"].values()) for name, value in group.items()}


def write_network(path: Path, side: int = 128, name: str = "strided8") -> Path:
    from safetensors.torch import save_file

    from networks.composition import COMPOSITIONS, Composition

    state = {k: v.half().contiguous() for k, v in Composition(COMPOSITIONS["strided8"]).state_dict().items()}
    save_file(state, path, {"config": json.dumps({"network": name, "side": side}), "figures": json.dumps({"psnr": 50})})
    return path


def test_it_takes_its_place_in_the_avatar(ada: Path, tmp_path: Path) -> None:
    from export.parity import compare
    from export.replace import recompose
    from export.weights import load_networks
    from realtime.contract import COMPOSITION

    out = recompose(ada, write_network(tmp_path / "new.safetensors", side=64), tmp_path / "me")
    before, after = load_avatar(ada), load_avatar(out)
    assert (after.composition, after.composition_size) == ("strided8", 64)
    hashes, old_hashes = listed(after.info), listed(before.info)
    changed = {name for name in hashes if hashes[name] != old_hashes[name]}
    files = {f"targets/{target}/composition.onnx" for target in ("onnx", "tensorrt")}
    assert changed == {"networks.safetensors", *files}
    assert after.info["provenance"]["composition"] == {"network": "strided8", "side": 64, "psnr": 50}
    networks, side = load_networks(out)
    file = out / "targets" / "onnx" / "composition.onnx"
    assert all(d.fits for d in compare(networks["composition"], COMPOSITION, file, side))


def test_another_face_takes_its_place_and_what_was_baked_goes(ada: Path, tmp_path: Path) -> None:
    import torch

    from export.parity import compare
    from export.replace import reface
    from export.weights import load_networks
    from realtime.contract import COLOR, DEFORMATION, PROJECTION
    from training.face_networks import FaceConfig, FaceNetworks, load_face, save_face

    config = FaceConfig(window=1, frequencies=4)
    face = save_face(config, tmp_path, FaceNetworks(config), torch.full((64,), 0.5))
    out = reface(ada, face, tmp_path / "me")
    before, after = load_avatar(ada), load_avatar(out)
    assert after.targets == ("onnx", "tensorrt") and after.info["provenance"]["face"]["window"] == 1
    assert (after.rest_latent == 0.5).all() and not after.info["fidelity"]
    networks, side = load_networks(out)
    for network in (PROJECTION, DEFORMATION, COLOR):
        file = out / "targets" / "onnx" / f"{network.name}.onnx"
        assert all(d.fits for d in compare(networks[network.name], network, file, side)), network.name
    hashes, old_hashes = listed(after.info), listed(before.info)
    same = {name for name in hashes if hashes[name] == old_hashes[name]}
    assert {"targets/onnx/audio_encoder.onnx", "targets/onnx/composition.onnx", "source.mp4"} <= same
    assert {n for n in same if "tensorrt" in n} == {
        f"targets/tensorrt/{n}.onnx" for n in ("audio_encoder", "composition")
    }
    again, again_config, rest = load_face(out)
    assert again_config == config and (rest == 0.5).all() and again.projection.window == 1


@pytest.mark.parametrize(("side", "name", "words"), [(100, "strided8", "multiple of 16"), (64, "wide", "network wide")])
def test_a_network_that_does_not_fit_is_refused(ada: Path, tmp_path: Path, side: int, name: str, words: str) -> None:
    from export.replace import recompose

    with pytest.raises(MiravoxError, match=words):
        recompose(ada, write_network(tmp_path / "new.safetensors", side, name), tmp_path / "me")
    assert not (tmp_path / "me").exists()


def test_an_avatar_is_not_overwritten(ada: Path, tmp_path: Path) -> None:
    from export.replace import recompose

    with pytest.raises(MiravoxError, match="new folder"):
        recompose(ada, write_network(tmp_path / "new.safetensors"), tmp_path)
