"""The ablation of temporal coherence: Tables 4.8 to 4.11 of the thesis for an avatar of ours.

    python -m training.ablation ...          trains the variants
    python -m bench ablation --runs build/ablation --avatar avatars/ada --dataset build/dataset --json F --markdown F

As in the thesis, the pictures are the colour network's own, laid into the frame. The lips are measured against the
studio's on held-out speech of the avatar's own voice and of speakers never heard, since the thesis itself calls its
lip-sync scores misleading here; those are added if SyncNet's weights are given.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.fidelity import fidelity
from bench.fidelity_table import Figures
from bench.held_out import held_out_dataset
from bench.record import show
from export.replace import reface
from realtime.avatar import Avatar, load_avatar
from realtime.errors import MiravoxError
from training.ablation import VARIANTS

THESIS = {  # Table 4.9; over which pixels is not said there
    "x": {"ssim": 0.9861, "psnr": 39.431, "mse": 0.000132},
    "y": {"ssim": 0.9867, "psnr": 39.747, "mse": 0.000123},
    "z": {"ssim": 0.9858, "psnr": 39.283, "mse": 0.000139},
    "w": {"ssim": 0.9863, "psnr": 39.537, "mse": 0.000131},
}


def ablation(
    avatar: Avatar, runs: Path, dataset: Path | None, frames: int, syncnet: Path | None = None
) -> dict[str, Figures]:
    """What each variant has, and its figures. Raises MiravoxError if none was trained."""
    faces = {name: runs / name / "face.safetensors" for name in VARIANTS}
    trained = {name: path for name, path in faces.items() if path.is_file()}
    if not trained:
        raise MiravoxError(
            str(runs), found="no variant", wanted="x/face.safetensors and others", remedy="Run training.ablation first."
        )
    filmed = held_out_dataset(avatar, dataset)
    figures: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, path in trained.items():
            variant = load_avatar(reface(avatar.folder, path, Path(place) / name))
            measured, _ = fidelity(variant, filmed, ("color",), frames, syncnet=syncnet)
            steps = variant.info["provenance"]["face"]["steps"]
            figures[name] = {**asdict(VARIANTS[name]), "steps": steps, **measured}
    return figures


def table(figures: dict[str, Figures]) -> str:
    """Everything as Markdown, the thesis's figures of the pictures beside ours."""
    lines = [
        "| id | actors | noise | T | other voices | PSNR dB, frame (thesis) | SSIM, frame (thesis) | PSNR dB, face |"
        " jitter, mm (truth) | own voice: aperture mm, P B M closed | never heard: aperture mm, P B M closed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, f in figures.items():
        color, lips, thesis = f["color"], f["geometry"], THESIS.get(name)
        assert isinstance(color, dict) and isinstance(lips, dict)
        frame, jitter = color["frame"], color.get("jitter_mm")
        cells = [name, f["actors"], "yes" if f["noise"] else "no", f["window"], "yes" if f["voices"] else "no"]
        cells.append(f"{frame['psnr']:.2f}" + (f" ({thesis['psnr']:.2f})" if thesis else ""))
        cells.append(f"{frame['ssim']:.4f}" + (f" ({thesis['ssim']:.4f})" if thesis else ""))
        cells.append(f"{color['face']['psnr']:.2f}")
        cells.append(f"{jitter['predicted']:.2f} ({jitter['true']:.2f})" if jitter else "-")
        for who in ("own_voice", "never_heard"):
            cells.append(f"{lips[who]['aperture_error_mm']:.2f}, {100 * lips[who]['closure']:.0f} %")
        lines.append(f"| {' | '.join(str(c) for c in cells)} |")
    return "\n".join(lines) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=Path("build/ablation"), help="folder by training.ablation")
    parser.add_argument("--dataset", type=Path, help="folder; by default the held-out takes are filmed again")
    parser.add_argument("--frames", type=int, default=60, help="about so many held-out frames, in runs of five")
    parser.add_argument("--markdown", type=Path, help="file for the table")
    parser.add_argument("--syncnet", type=Path, help="SyncNet's published weights, for LSE-D and LSE-C")


def run(o: argparse.Namespace) -> Figures:
    figures = ablation(load_avatar(o.avatar), o.runs, o.dataset, o.frames, o.syncnet)
    show(table(figures), o.markdown)
    return {"figures": figures}
