"""Trains the readout on a fixed audio encoder: which phones its embeddings tell, for every lookahead.

    python -m training.readout --encoder build/encoder/encoder.safetensors --out bench/readout.safetensors

The projection learns the mouth from the same embeddings in the same way, so the readout shows what it has to learn
from (training/voices.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from dataset.phones import PHONES, data_folder
from networks.audio_encoder import AudioEncoder
from networks.readout import Readout, ReadoutConfig
from realtime.errors import MiravoxError
from realtime.whole_file import replacing
from training.encoders import load_encoder, lookahead_of, weights_hash
from training.phone_losses import phone_loss, viseme_loss
from training.voices import Voices, load_voices


@dataclass(frozen=True)
class ReadoutTraining:
    """Everything that decides the result."""

    epochs: int = 5
    batch: int = 1024
    learning_rate: float = 2e-3
    weight_decay: float = 3e-2
    closure_weight: float = 2.5  # of P B M: a closure that is missed shows more than one too many
    viseme_weight: float = 1.0
    stranger_share: float = 2.0  # how often every recording is embedded again, as of another speaker and microphone
    seed: int = 0


def fit(voices: Voices, config: ReadoutTraining) -> Readout:
    """Trains the readout on the embeddings of the voices."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    readout = Readout(ReadoutConfig(phones=len(PHONES)))
    optimizer = torch.optim.AdamW(readout.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    count = len(voices.newest)
    steps = config.epochs * count // config.batch
    for step in tqdm(range(steps), desc="readout", unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (0.01 + 0.5 + 0.5 * np.cos(np.pi * step / steps))
        rows = rng.integers(count, size=config.batch)
        labels = torch.from_numpy(voices.phones[rows].astype(np.int64))
        logits = readout(torch.from_numpy(voices.windows(rows)))
        loss = phone_loss(logits, labels, config.closure_weight, 0.05)
        loss = loss + config.viseme_weight * viseme_loss(logits, labels, config.closure_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return readout.eval()


def save_readout(readout: Readout, encoder: AudioEncoder, config: ReadoutTraining, path: Path) -> None:
    """float16, with its configuration and the hash of the encoder that it belongs to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() for k, v in readout.state_dict().items()}
    with replacing(path) as partial:
        save_file(state, partial, {"encoder": weights_hash(encoder), "config": json.dumps(asdict(config))})


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
    parser.add_argument(
        "--voices",
        type=Path,
        default=Path("build/encoder/voices.safetensors"),
        help="embeddings of the training speech: read if they are there, otherwise written",
    )
    parser.add_argument("--seed", type=int, default=ReadoutTraining.seed)
    o = parser.parse_args()
    config = ReadoutTraining(seed=o.seed)
    try:
        encoder, info = load_encoder(o.encoder)
        voices = load_voices(
            o.voices, encoder, lookahead_of(info), (), data_folder(), config.stranger_share, config.seed + 1
        )
        save_readout(fit(voices, config), encoder, config, o.out)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    print(o.out)


if __name__ == "__main__":
    main()
