"""Trains a smaller composition network to say what an avatar's own says: needs the avatar and speech, no video.

    python -m training.distil --avatar avatars/ada --network strided8 --out build/distilled [--resume]

Inputs are the live code's: source frames of the avatar's loop, under faces that training speech drives. Put the result
into the avatar with `python -m export composition`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tqdm import tqdm

from networks.composition import COMPOSITIONS, Composition
from networks.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.audio_input import Block
from realtime.audio_ring import AudioRing
from realtime.avatar import Avatar, load_avatar
from realtime.compositor import layers_of, resize, resize_matrix, unit
from realtime.pipeline import Pipeline
from realtime.sound_file import read_speech
from training.composition import Pairs, as_tensors, contact_sheet, evaluate
from training.phones import Utterance, data_folder, load_utterances
from training.run import Checkpoint, log_line, open_run, plot_log

FloatArray = NDArray[np.float32]

PAUSE_SAMPLES = SAMPLE_RATE  # between utterances


@dataclass(frozen=True)
class Distillation:
    """Everything that decides the result of a run."""

    network: str = "strided8"
    side: int = 128  # the inpaint box is resampled to a square of this many pixels; the teacher's may be another
    steps: int = 1500
    batch: int = 16
    pairs: int = 2000
    held_out_pairs: int = 100
    learning_rate: float = 2e-3
    outside_weight: float = 0.02  # of pixels outside the mask, which are blended away
    seed: int = 0


def speech_of(utterances: list[Utterance], seconds: float) -> FloatArray:
    """Utterances one after the other, a pause between them, so many seconds of them."""
    wanted = int(seconds * SAMPLE_RATE)
    pieces: list[FloatArray] = []
    for utterance in utterances:
        pieces.append(np.pad(read_speech(utterance.path(data_folder())).samples, (0, PAUSE_SAMPLES)))
        if sum(map(len, pieces)) >= wanted:
            break
    return np.concatenate(pieces)[:wanted]


def make_pairs(
    avatar: Avatar, speech: FloatArray, count: int, side: int, rng: np.random.Generator, what: str
) -> Pairs:  # fmt: skip
    """`count` moments of the speech, each painted into a random frame of the source loop; target is what the avatar's
    own composition network changes of it, resampled to `side`.
    """
    taught = avatar.composition_size
    change = resize_matrix(taught, side), resize_matrix(taught, side)
    pairs = Pairs(*(np.zeros((count, *s), np.uint8) for s in ((6, side, side), (3, side, side), (side, side))))
    ring = AudioRing(len(speech) + SAMPLE_RATE)
    ring.write(Block(0, speech))
    frames = len(speech) // SAMPLES_PER_FRAME - 10
    moments = {int(k): row for row, k in enumerate(rng.choice(frames, count, replace=False))}
    order = rng.integers(len(avatar.source_pose), size=count)
    with Pipeline(avatar, ring) as pipeline:
        shrink = resize_matrix(pipeline.box_size[1], side), resize_matrix(pipeline.box_size[0], side)
        for k in tqdm(range(frames), desc=f"{what}: drawing faces", unit="frame"):
            if k not in moments:
                pipeline.skip(k)
                continue
            row, source = moments[k], int(order[moments[k]])
            left, top, right, bottom = pipeline.boxes[source]
            latent = pipeline.latents.advance(k)
            face = pipeline.face.draw(latent, avatar.source_pose[source], pipeline.boxes[source])
            mask = pipeline.compositor.mask(avatar.source_mask[source])
            crop = unit(pipeline.source.frame(source)[top:bottom, left:right])
            whole = layers_of(crop, face, mask)
            shown, layers = resize(whole, *pipeline.compositor.shrink), resize(whole, *shrink)
            (rgb,) = pipeline.compositor.engine.run(shown[None])
            target = layers[3:] + resize(rgb[0] - shown[3:], *change)
            pairs.layers[row] = np.clip(np.round(255 * layers), 0, 255)
            pairs.target[row] = np.clip(np.round(255 * target), 0, 255)
            pairs.mask[row] = np.clip(np.round(255 * resize(mask[None], *shrink)[0]), 0, 255)
    return pairs


def train(config: Distillation, avatar_folder: Path, folder: Path, resume: bool) -> Path:
    """Runs or resumes the distillation; returns the path of composition.safetensors."""
    open_run(folder, config, resume)
    avatar = load_avatar(avatar_folder)
    rng = np.random.default_rng(config.seed)
    utterances = load_utterances(data_folder())
    rng.shuffle(utterances)
    seen = speech_of([u for u in utterances if not u.held_out], 1.6 * config.pairs / 25)
    unseen = speech_of([u for u in utterances if u.held_out], 4 * config.held_out_pairs / 25)
    pairs = make_pairs(avatar, seen, config.pairs, config.side, rng, "training")
    test = make_pairs(avatar, unseen, config.held_out_pairs, config.side, rng, "held out")

    torch.manual_seed(config.seed)
    network = Composition(COMPOSITIONS[config.network])
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    checkpoint = Checkpoint(folder, {"network": network}, optimizer)
    first = checkpoint.load()
    for step in tqdm(range(first, config.steps), initial=first, total=config.steps, desc="distil", unit="step"):
        rng = np.random.default_rng([config.seed, step])
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (0.02 + 0.98 * (0.5 + 0.5 * np.cos(np.pi * step / config.steps)))
        layers, target, mask = as_tensors(pairs, rng.integers(config.pairs, size=config.batch))
        weight = (mask > 0) + config.outside_weight * (mask == 0)
        error = network(layers) - target
        loss = ((error.abs() + 10 * error.square()) * weight).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            log_line(folder, step=step, loss=loss.item())
        if step % 250 == 249 or step == config.steps - 1:
            log_line(folder, step=step, **evaluate(network, test))
            plot_log(folder)
        checkpoint.save_if_due(step + 1)
    checkpoint.save(config.steps)
    contact_sheet(network, test, folder / "held_out.png")
    path = folder / "composition.safetensors"
    state = {k: v.half().contiguous() for k, v in network.state_dict().items()}
    save_file(state, path, {"config": json.dumps(asdict(config)), "figures": json.dumps(evaluate(network, test))})
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.distil", description="Trains a smaller composition network on what a larger one says."
    )
    parser.add_argument("--avatar", type=Path, default=Path("avatars/ada"))
    parser.add_argument("--out", type=Path, default=Path("build/distilled"))
    parser.add_argument("--network", choices=tuple(COMPOSITIONS), default=Distillation.network)
    parser.add_argument("--side", type=int, default=Distillation.side)
    parser.add_argument("--steps", type=int, default=Distillation.steps)
    parser.add_argument("--resume", action="store_true")
    o = parser.parse_args()
    print(train(Distillation(network=o.network, side=o.side, steps=o.steps), o.avatar, o.out, o.resume))


if __name__ == "__main__":
    main()
