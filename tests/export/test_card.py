"""The fidelity card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch")


def test_the_fidelity_card_is_kept(ada: Path, tmp_path: Path) -> None:
    from export.card import write_card
    from realtime.avatar import load_avatar

    shutil.copytree(ada, tmp_path / "ada")
    parts = {"frame": {"psnr": 39.0, "ssim": 0.99, "mse": 0.0001}, "seam_ratio": 1.1}
    figures = {
        "baked": parts,
        "true mesh": parts,
        "flicker_ratio": 1.1,
        "seam_ratio": 1.0,
        "teeth_sharpness": 0.8,
        "lse": None,
        "lse_reason": "no weights",
        "geometry": {"aperture_mm": 1.2, "width_mm": 0.4, "closure": 0.9, "own_voice": {}},
    }
    result = {
        "figures": figures,
        "commit": "abc",
        "hardware": {"cores": 2},
        "config": {"frames": "60"},
        "inpaint_share": 0.08,
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    write_card(tmp_path / "ada", tmp_path / "result.json")
    card = load_avatar(tmp_path / "ada").info["fidelity"]
    assert card["baked"] == parts and card["lips"] == {"aperture_mm": 1.2, "width_mm": 0.4, "closure": 0.9}
    assert card["measured"]["commit"] == "abc" and card["lse"] is None and "true mesh" not in card

    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(MiravoxError, match="bench fidelity"):
        write_card(tmp_path / "ada", tmp_path / "result.json")
    assert load_avatar(tmp_path / "ada").info["fidelity"] == card
