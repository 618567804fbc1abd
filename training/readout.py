"""Trains the readout on a fixed audio encoder: what the encoder tells of phones, for every lookahead.

    python -m training.readout --encoder build/encoder/encoder.safetensors --out bench/readout.safetensors

The projection learns the mouth from the same embeddings in the same way, so the readout shows what it has to learn
from. Every recording is heard twice: as it is, and at another pitch through a bad microphone.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from networks.audio_encoder import AudioEncoder
from networks.contract import EMBEDDINGS, SAMPLE_RATE, SAMPLES_PER_FRAME
from networks.readout import Readout, ReadoutConfig
from networks.speech_heads import LOOKAHEADS
from realtime.errors import MiravoxError
from realtime.sound_file import read_speech
from training.augment import AugmentConfig, stranger
from training.dataset import embed_speech
from training.encoders import load_encoder, weights_hash
from training.phones import PHONE_RATE, PHONES, VISEME_OF_PHONE, data_folder, load_utterances
from training.speech import phone_loss, visemes_of

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

UNIT = SAMPLE_RATE // PHONE_RATE  # samples of a label
LIPS_TOGETHER = ("P", "B", "M")


@dataclass(frozen=True)
class ReadoutTraining:
    """Everything that decides the result."""

    epochs: int = 10
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 3e-2
    closure_weight: float = 1.5  # of P B M
    viseme_weight: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Embedded:
    """Embeddings of recordings, each after the eight that precede its first frame, and the phones of every frame."""

    embeddings: NDArray[np.float16]  # [N, 512]
    newest: IntArray  # [R], index of each frame's newest embedding
    phones: NDArray[np.int8]  # [R, 6, 3]: at each of LOOKAHEADS, 10 ms before, at and 10 ms after

    def windows(self, rows: IntArray) -> FloatArray:
        """A_TE of some frames, [len(rows), 9, 512], oldest first."""
        return np.asarray(self.embeddings[self.newest[rows][:, None] + np.arange(1 - EMBEDDINGS, 1)], np.float32)


def embed_training_speech(encoder: AudioEncoder, data: Path, config: ReadoutTraining) -> Embedded:
    """Everything that may be trained on, as it is and as a stranger would say it."""
    rng = np.random.default_rng(config.seed)
    utterances = [u for u in load_utterances(data) if not u.held_out]
    speeches = [read_speech(u.path(data)).samples for u in utterances]
    augment = AugmentConfig()
    embeddings, newest, phones = [], [], []
    count, reach = 0, EMBEDDINGS - 1
    for strange in (False, True):
        for utterance, clean in zip(tqdm(utterances, desc="embedding speech", unit="recording"), speeches, strict=True):
            speech, phase = clean, 0
            if strange:
                phase = int(rng.integers(SAMPLES_PER_FRAME))
                speech = stranger(rng, clean, speeches, augment)[phase:]
            frames = (len(speech) + max(LOOKAHEADS)) // SAMPLES_PER_FRAME
            embedded = embed_speech(encoder, speech, frames + reach, 0, -reach)
            embeddings.append(embedded.astype(np.float16))
            newest.append(count + reach + np.arange(frames))
            moments = SAMPLES_PER_FRAME * np.arange(frames)[:, None] - np.array(LOOKAHEADS) + phase
            labels = utterance.phone_indices()
            unit = (moments // UNIT)[..., None] + np.arange(-1, 2)
            inside = (unit >= 0) & (unit < len(labels))
            phones.append(np.where(inside, labels[np.clip(unit, 0, len(labels) - 1)], 0).astype(np.int8))
            count += frames + reach
    return Embedded(np.concatenate(embeddings), np.concatenate(newest), np.concatenate(phones))


def fit(embedded: Embedded, config: ReadoutTraining) -> Readout:
    """Trains the readout on embedded speech."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    readout = Readout(ReadoutConfig(phones=len(PHONES)))
    optimizer = torch.optim.AdamW(readout.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    weight = torch.tensor([config.closure_weight if p in LIPS_TOGETHER else 1.0 for p in PHONES])
    viseme_of_phone = torch.from_numpy(VISEME_OF_PHONE)
    viseme_weight = torch.ones(int(viseme_of_phone.max()) + 1)
    viseme_weight[viseme_of_phone[PHONES.index("P")]] = config.closure_weight
    count = len(embedded.newest)
    steps = config.epochs * count // config.batch
    for step in tqdm(range(steps), desc="readout", unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (0.01 + 0.5 + 0.5 * np.cos(np.pi * step / steps))
        rows = rng.integers(count, size=config.batch)
        labels = torch.from_numpy(embedded.phones[rows].astype(np.int64))
        logits = readout(torch.from_numpy(embedded.windows(rows)))
        loss = phone_loss(logits, labels, weight, 0.05)
        if config.viseme_weight:
            viseme = visemes_of(logits.softmax(-1)).clamp_min(1e-6).log()
            truth = viseme_of_phone[labels[..., 1]]
            loss = loss + config.viseme_weight * F.nll_loss(viseme.flatten(0, 1), truth.flatten(), viseme_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return readout.eval()


def save_readout(readout: Readout, encoder: AudioEncoder, config: ReadoutTraining, path: Path) -> None:
    """float16, with its configuration and the hash of the encoder that it belongs to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() for k, v in readout.state_dict().items()}
    save_file(state, path, {"encoder": weights_hash(encoder), "config": json.dumps(asdict(config))})


def load_readout(path: Path, encoder: AudioEncoder) -> Readout:
    """The readout of an encoder. Raises MiravoxError if it is missing, or belongs to another encoder."""
    remedy = "Train it with `python -m training.readout --encoder ENCODER --out FILE`, and name it with --readout."
    if not path.is_file():
        raise MiravoxError(str(path), found="no such file", wanted="the readout of the encoder", remedy=remedy)
    with safe_open(path, "pt") as file:
        belongs = (file.metadata() or {}).get("encoder", "")
    if belongs != weights_hash(encoder):
        raise MiravoxError(
            str(path), found="the readout of another encoder", wanted="that of the avatar's encoder", remedy=remedy
        )
    readout = Readout(ReadoutConfig(phones=len(PHONES)))
    readout.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return readout.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.readout", description="Trains the readout on a fixed audio encoder."
    )
    parser.add_argument("--encoder", type=Path, default=Path("build/encoder/encoder.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("build/encoder/readout.safetensors"))
    parser.add_argument("--seed", type=int, default=ReadoutTraining.seed)
    o = parser.parse_args()
    config = ReadoutTraining(seed=o.seed)
    try:
        encoder, _ = load_encoder(o.encoder)
        save_readout(fit(embed_training_speech(encoder, data_folder(), config), config), encoder, config, o.out)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    print(o.out)


if __name__ == "__main__":
    main()
