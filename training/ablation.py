"""Trains an actor's face several times, each time with another part of the method left out (thesis 4.4.3, Table 4.8).

    python -m training.ablation --dataset DIR --second DIR --encoder build/encoder/encoder.safetensors
        --out build/ablation [--steps N]

The thesis's four combinations learn from the film's own voice alone, as there; `voices` learns from every other voice
with phone timings, too (training/voices.py), which is how an avatar is trained here. All take the same number of steps
an actor on the same pixels. `python -m bench ablation` measures them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from realtime.errors import MiravoxError
from training.encoders import load_encoder, lookahead_of
from training.face import begin_actors, train_actors
from training.face_networks import FaceConfig
from training.material import load_material
from training.run import open_run
from training.vgg import load_vgg

STEPS = 800


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What one training has, as in Table 4.8, and whether it learns from other voices."""

    actors: int
    noise: bool
    window: int  # T of the temporal weighting; 1: none
    voices: bool


VARIANTS = {
    "x": Variant(actors=1, noise=False, window=1, voices=False),
    "y": Variant(actors=1, noise=False, window=9, voices=False),
    "z": Variant(actors=1, noise=True, window=9, voices=False),
    "w": Variant(actors=2, noise=True, window=9, voices=False),
    "voices": Variant(actors=1, noise=True, window=9, voices=True),
}


def train(
    config: FaceConfig, datasets: tuple[Path, Path], encoder_path: Path, folder: Path, names: tuple[str, ...]
) -> None:
    """Trains the named variants that are not there yet into folders of their names."""
    encoder, info = load_encoder(encoder_path)
    vgg = load_vgg(folder.parent / "vgg") if config.lambda_vgg else None
    missing = [n for n in names if not (folder / n / "face.safetensors").is_file()]
    needed = max((VARIANTS[n].actors for n in missing), default=0)
    folder.mkdir(parents=True, exist_ok=True)
    materials = [
        load_material(
            config, dataset, encoder, lookahead_of(info), folder / "voices.safetensors", with_patches=vgg is not None
        )
        for dataset in datasets[:needed]
    ]
    for name in missing:
        variant = VARIANTS[name]
        changed = replace(
            config,
            window=variant.window,
            latent_noise=config.latent_noise if variant.noise else 0.0,
            voice_frames=config.voice_frames if variant.voices else 0,
        )
        used = materials[: variant.actors]
        if not variant.voices:
            used = [replace(m, voice_loss=None, own_loss=None) for m in used]
        open_run(folder / name, changed, resume=True)
        print(train_actors(changed, begin_actors(changed, folder / name, used), vgg))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.ablation", description="Trains a face with parts of the method left out."
    )
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--second", type=Path, required=True, metavar="DATASET", help="the other actor, of w")
    parser.add_argument("--encoder", type=Path, default=Path("build/encoder/encoder.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("build/ablation"))
    parser.add_argument("--steps", type=int, default=STEPS, help="an actor")
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS))
    o = parser.parse_args()
    try:
        train(FaceConfig(steps=o.steps), (o.dataset, o.second), o.encoder, o.out, tuple(o.variants))
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
