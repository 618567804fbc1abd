"""The fidelity card: what `python -m bench fidelity` measured of an avatar, kept in its avatar.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from realtime.avatar import load_avatar
from realtime.errors import MiravoxError
from realtime.whole_file import replacing

SUMMARY = ("flicker_ratio", "seam_ratio", "teeth_sharpness", "lse")
BOUNDS = ("true mesh", "true face", "at rest")  # what the error is made of; no figures of the avatar itself
LIPS = ("aperture_mm", "width_mm", "closure")


def write_card(avatar: Path, result: Path) -> None:
    """Puts the figures of a result file into the avatar's description.

    Raises MiravoxError if the avatar is not valid, or the file is no result of bench fidelity.
    """
    info = load_avatar(avatar).info
    try:
        measured = json.loads(result.read_text())
        figures = dict(measured["figures"])
        card: dict[str, Any] = {
            name: parts
            for name, parts in figures.items()
            if isinstance(parts, dict) and "frame" in parts and name not in BOUNDS
        }
        card |= {name: figures[name] for name in SUMMARY}
        card["lips"] = {k: figures["geometry"][k] for k in LIPS}
        card["measured"] = {
            "commit": measured["commit"],
            "hardware": measured["hardware"],
            "frames": measured["config"]["frames"],
            "inpaint_share": measured["inpaint_share"],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MiravoxError(
            str(result),
            found=f"no such result ({error})",
            wanted="what `python -m bench fidelity --json F` writes",
            remedy="Measure the avatar, then name that file.",
        ) from error
    with replacing(avatar / "avatar.json") as partial:
        partial.write_text(json.dumps({**info, "fidelity": card}, indent=2) + "\n")
