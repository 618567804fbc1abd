"""Trains an avatar's projection anew for another audio encoder, or for lips that close more firmly; everything behind
the latent b stays as it is: deformation, colour, what was baked from them, composition.

    python -m training.projection --dataset build/dataset --face build/avatar/face/face.safetensors \\
        --before avatars/ada --encoder build/encoder/encoder.safetensors --out build/avatar/projection

Two minutes of film need not be learnt again when the audio encoder changes. The new projection learns the mouth from
every voice with phone timings, through the deformation network that is there; and on the film's own speech, too, where
it also learns to give the b that the old one gave, so that b stays where deformation and colour know it.
"""

from __future__ import annotations

import argparse
import copy
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dataset.folder import load_dataset
from dataset.phones import data_folder
from networks.projection import Projection, ProjectionConfig
from realtime.errors import MiravoxError
from training.embeddings import embed_dataset
from training.encoders import load_encoder, lookahead_of, weights_hash
from training.face_networks import load_face, rest_latent, save_face
from training.run import log_line, open_run, plot_log
from training.voice_loss import VoiceLoss
from training.voices import load_voices, own_voice


@dataclass(frozen=True)
class ProjectionTraining:
    """Everything that decides the result."""

    steps: int = 2400
    voice_frames: int = 256  # a step
    film_frames: int = 128  # a step
    learning_rate: float = 8e-4
    stranger_share: float = 2.0  # how often every recording is embedded again, as of another speaker and microphone
    closure_weight: float = 4.0  # of frames that show P, B or M
    lambda_lips: float = 2.0
    lambda_change: float = 2.0  # of the change of the lip aperture from frame to frame
    lambda_film: float = 20.0  # of the squared distance from the old b, on the film's own speech
    lambda_own: float = 1.0  # of the mouth on the film's own speech, as in the other voices
    ema_decay: float = 0.995
    seed: int = 0


def train(
    config: ProjectionTraining, *, dataset_folder: Path, face_path: Path, before: Path, encoder_path: Path, folder: Path
) -> Path:
    """Writes face.safetensors with the new projection and its rest latent into `folder`; returns its path.

    Args:
        face_path: the face whose deformation and colour stay.
        before: the encoder that it was trained with, or an avatar that has it.
        encoder_path: the encoder whose embeddings the new projection gets.
    """
    open_run(folder, config, resume=False)
    dataset = load_dataset(dataset_folder)
    old_encoder, old_info = load_encoder(before)
    encoder, info = load_encoder(encoder_path)
    old, face_config, _ = load_face(face_path)
    old_windows = embed_dataset(old_encoder, dataset, lookahead_of(old_info))
    same = weights_hash(encoder) == weights_hash(old_encoder)
    windows = old_windows if same else embed_dataset(encoder, dataset, lookahead_of(info))
    with torch.no_grad():
        old_latents = old.projection(torch.from_numpy(old_windows))
    film = torch.from_numpy(np.concatenate([np.arange(t.first, t.end) for t in dataset.takes if not t.held_out]))

    networks = copy.deepcopy(old).requires_grad_(False)
    torch.manual_seed(config.seed)
    if not same:
        networks.projection = Projection(ProjectionConfig(window=face_config.window))
    networks.projection.requires_grad_(True)
    averaged = copy.deepcopy(networks.projection).requires_grad_(False)
    voices = load_voices(
        folder / "voices.safetensors",
        encoder,
        lookahead_of(info),
        dataset.expression_names,
        data_folder(),
        config.stranger_share,
        config.seed + 1,
    )
    voice_config = replace(face_config, voice_frames=config.voice_frames, closure_weight=config.closure_weight)
    voice_loss = VoiceLoss(voice_config, dataset, voices)
    own_loss = VoiceLoss(replace(voice_config, voice_frames=config.film_frames), dataset, own_voice(dataset, windows))
    optimizer = torch.optim.Adam(networks.projection.parameters(), config.learning_rate)
    for step in tqdm(range(config.steps), desc="projection", unit="step"):
        rng = np.random.default_rng([config.seed, step])
        for group in optimizer.param_groups:
            fall = 0.02 + 0.98 * (0.5 + 0.5 * np.cos(np.pi * step / config.steps))
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 100) * fall
        voices_l1, lips_l1, change_l1 = voice_loss(networks, rng)
        own_l1, own_lips_l1, own_change_l1 = own_loss(networks, rng)
        rows = film[torch.from_numpy(rng.integers(len(film), size=config.film_frames))]
        latent = networks.projection(torch.from_numpy(windows[rows.numpy()]))
        film_l2 = (latent - old_latents[rows]).square().mean()
        mouth = voices_l1 + config.lambda_lips * lips_l1 + config.lambda_change * change_l1
        own = own_l1 + config.lambda_lips * own_lips_l1 + config.lambda_change * own_change_l1
        loss = mouth + config.lambda_own * own + config.lambda_film * film_l2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = min(config.ema_decay, (step + 1) / (step + 10))
        for kept, now in zip(averaged.parameters(), networks.projection.parameters(), strict=True):
            kept.lerp_(now, 1 - decay)
        if step % 50 == 0:
            log_line(
                folder,
                step=step,
                voices_l1=voices_l1.item(),
                lips_l1=lips_l1.item(),
                change_l1=change_l1.item(),
                own_lips_l1=own_lips_l1.item(),
                film_l2=film_l2.item(),
            )
    plot_log(folder)
    networks.projection = averaged
    rest = rest_latent(networks, dataset, windows)
    return save_face(face_config, folder, networks, rest, projection=asdict(config))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.projection", description="Trains an avatar's projection for another audio encoder."
    )
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--face", type=Path, default=Path("build/avatar/face/face.safetensors"))
    parser.add_argument("--before", type=Path, required=True, help="encoder that the face was trained with")
    parser.add_argument("--encoder", type=Path, default=Path("build/encoder/encoder.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("build/avatar/projection"))
    parser.add_argument("--steps", type=int, default=ProjectionTraining.steps)
    parser.add_argument("--closure-weight", type=float, default=ProjectionTraining.closure_weight)
    parser.add_argument("--stranger-share", type=float, default=ProjectionTraining.stranger_share)
    parser.add_argument("--lambda-lips", type=float, default=ProjectionTraining.lambda_lips)
    parser.add_argument("--lambda-film", type=float, default=ProjectionTraining.lambda_film)
    parser.add_argument("--seed", type=int, default=ProjectionTraining.seed)
    o = parser.parse_args()
    config = ProjectionTraining(
        steps=o.steps,
        stranger_share=o.stranger_share,
        closure_weight=o.closure_weight,
        lambda_lips=o.lambda_lips,
        lambda_film=o.lambda_film,
        seed=o.seed,
    )
    try:
        path = train(
            config,
            dataset_folder=o.dataset,
            face_path=o.face,
            before=o.before,
            encoder_path=o.encoder,
            folder=o.out,
        )
        print(path)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
