"""Trains the audio encoder on phone labels of many speakers; the phone head is dropped afterwards (thesis 3.3, Table
3.1).

    python -m training.speech --out build/encoder [--resume] [--steps N]

Every training window is cut anywhere in the speech and augmented on the waveform: gain, noise, other voices, band
limits. Windows of noise alone teach silence. The result is encoder.safetensors (float16) with the phone accuracy
beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from networks.audio_encoder import AudioEncoder
from networks.contract import DEFAULT_LOOKAHEAD, EMBEDDING, LOOKAHEAD_STEP, SAMPLE_RATE, WINDOW_SAMPLES
from realtime.errors import MiravoxError
from realtime.mel import mel_of_windows
from realtime.sound_file import read_speech
from training.phones import PHONE_RATE, PHONES, VISEME_OF_PHONE, VISEMES, Utterance, data_folder, load_utterances
from training.run import Checkpoint, log_line, open_run, plot_log

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

PRESENCE_REACH = 8  # label units (10 ms): somebody speaks if a phone lies within this distance
LIPS = ("P", "B", "M", "F", "V")  # phones whose misses everybody sees


@dataclass(frozen=True)
class SpeechConfig:
    """Everything that decides the result of a run."""

    lookahead_samples: int = DEFAULT_LOOKAHEAD
    steps: int = 3200
    batch: int = 96
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05
    lip_weight: float = 2.0  # of P B M F V in the phone loss
    presence_weight: float = 0.5
    noise_only_share: float = 0.08  # windows without speech
    noisy_share: float = 0.6  # windows of speech with noise added
    band_limited_share: float = 0.2
    gain_db: tuple[float, float] = (-24.0, 6.0)
    snr_db: tuple[float, float] = (0.0, 30.0)
    seed: int = 0


@dataclass(frozen=True)
class Corpus:
    """Utterances in memory: their speech, and for every 10 ms the phone and whether somebody speaks."""

    speech: list[FloatArray]
    phones: list[IntArray]
    present: list[NDArray[np.bool_]]

    @property
    def weights(self) -> NDArray[np.float64]:
        lengths = np.array([len(s) for s in self.speech], np.float64)
        return np.asarray(lengths / lengths.sum())


def load_corpus(utterances: list[Utterance], data: Path) -> Corpus:
    speech, phones, present = [], [], []
    for utterance in tqdm(utterances, desc="reading speech", unit="file"):
        speech.append(read_speech(utterance.path(data)).samples)
        indices = utterance.phone_indices()
        phones.append(indices)
        reach = np.ones(2 * PRESENCE_REACH + 1)
        present.append(np.convolve(indices > 0, reach, mode="same") > 0)
    return Corpus(speech, phones, present)


def noise(rng: np.random.Generator, corpus: Corpus) -> FloatArray:
    """A window of noise of unit RMS: white, pink, hum, or babble of four other voices."""
    kind = rng.integers(4)
    if kind == 0:
        sound = rng.standard_normal(WINDOW_SAMPLES)
    elif kind == 1:
        spectrum = np.fft.rfft(rng.standard_normal(WINDOW_SAMPLES))
        sound = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), WINDOW_SAMPLES)
    elif kind == 2:
        hz = rng.choice([50.0, 60.0]) * np.arange(1, 9)[:, None]
        phase = rng.uniform(0, 2 * np.pi, (8, 1))
        t = np.arange(WINDOW_SAMPLES) / SAMPLE_RATE
        sound = (rng.uniform(0, 1, (8, 1)) * np.sin(2 * np.pi * hz * t + phase)).sum(0)
    else:
        sound = np.zeros(WINDOW_SAMPLES)
        for _ in range(4):
            voice = corpus.speech[rng.integers(len(corpus.speech))]
            start = rng.integers(max(1, len(voice) - WINDOW_SAMPLES))
            piece = voice[start : start + WINDOW_SAMPLES]
            sound[: len(piece)] += piece
    return np.asarray(sound / (np.sqrt(np.mean(sound**2)) + 1e-6), np.float32)


def band_limit(rng: np.random.Generator, window_S: FloatArray) -> FloatArray:
    """A telephone's or a laptop's band: everything outside of it gone."""
    low, high = rng.uniform(60, 400), rng.uniform(3000, 7000)
    spectrum = np.fft.rfft(window_S)
    hz = np.fft.rfftfreq(len(window_S), 1 / SAMPLE_RATE)
    return np.asarray(np.fft.irfft(spectrum * ((hz > low) & (hz < high)), len(window_S)), np.float32)


def cut(speech: FloatArray, at: int, lookahead_samples: int) -> FloatArray:
    """The window whose last sample is `at + lookahead_samples - 1`, zeros outside the recording."""
    end = at + lookahead_samples
    window_S = np.zeros(WINDOW_SAMPLES, np.float32)
    first = max(0, end - WINDOW_SAMPLES)
    piece = speech[first : max(0, end)]
    offset = first - (end - WINDOW_SAMPLES)
    window_S[offset : offset + len(piece)] = piece
    return window_S


def training_batch(config: SpeechConfig, corpus: Corpus, step: int) -> tuple[FloatArray, IntArray, FloatArray]:
    """Mel [B, 1, 80, 16], phone index [B], presence [B]; the same for the same seed and step."""
    rng = np.random.default_rng([config.seed, step])
    windows, phones, presence = [], [], []
    weights = corpus.weights
    for _ in range(config.batch):
        if rng.random() < config.noise_only_share:
            windows.append(noise(rng, corpus) * 10 ** (rng.uniform(-65, -20) / 20) * (rng.random() > 0.1))
            phones.append(0)
            presence.append(0.0)
            continue
        i = rng.choice(len(weights), p=weights)
        at = int(rng.integers(len(corpus.speech[i])))
        unit = min(at * PHONE_RATE // SAMPLE_RATE, len(corpus.phones[i]) - 1)
        window_S = cut(corpus.speech[i], at, config.lookahead_samples)
        if rng.random() < config.noisy_share:
            loudness = np.sqrt(np.mean(corpus.speech[i] ** 2))
            window_S = window_S + noise(rng, corpus) * loudness * 10 ** (-rng.uniform(*config.snr_db) / 20)
        if rng.random() < config.band_limited_share:
            window_S = band_limit(rng, window_S)
        windows.append(np.clip(window_S * 10 ** (rng.uniform(*config.gain_db) / 20), -1, 1))
        phones.append(int(corpus.phones[i][unit]))
        presence.append(float(corpus.present[i][unit]))
    mel = mel_of_windows(np.stack(windows).astype(np.float32))
    return mel[:, None], np.array(phones), np.array(presence, np.float32)


@torch.no_grad()
def evaluate(
    encoder: AudioEncoder,
    head: nn.Linear,
    corpus: Corpus,
    lookahead_samples: int,
    count: int = 3000,
    snr_db: float | None = None,
) -> dict[str, float]:
    """Accuracies over `count` moments of the held-out speakers, evenly drawn, always the same ones."""
    encoder.eval()
    rng = np.random.default_rng(1)
    weights = corpus.weights
    windows, phones, present = [], [], []
    for _ in range(count):
        i = rng.choice(len(weights), p=weights)
        at = int(rng.integers(len(corpus.speech[i])))
        unit = min(at * PHONE_RATE // SAMPLE_RATE, len(corpus.phones[i]) - 1)
        window_S = cut(corpus.speech[i], at, lookahead_samples)
        if snr_db is not None:
            loudness = np.sqrt(np.mean(corpus.speech[i] ** 2))
            window_S = window_S + rng.standard_normal(WINDOW_SAMPLES).astype(np.float32) * loudness * 10 ** (
                -snr_db / 20
            )
        windows.append(window_S)
        phones.append(int(corpus.phones[i][unit]))
        present.append(bool(corpus.present[i][unit]))
    mel = torch.from_numpy(mel_of_windows(np.stack(windows).astype(np.float32))[:, None])
    embedding, presence = (torch.cat(x) for x in zip(*(encoder(m) for m in mel.split(500)), strict=True))
    probability = head(embedding).softmax(1).numpy()
    truth, viseme_truth = np.array(phones), VISEME_OF_PHONE[np.array(phones)]
    viseme_probability = np.stack([probability[:, v == VISEME_OF_PHONE].sum(1) for v in range(len(VISEMES))], 1)
    viseme = viseme_probability.argmax(1)
    return {
        "phone_accuracy": float(np.mean(probability.argmax(1) == truth)),
        "viseme_accuracy": float(np.mean(viseme == viseme_truth)),
        "closure_recall": float(np.mean(viseme[viseme_truth == 1] == 1)),
        "presence_accuracy": float(np.mean((presence[:, 0].numpy() > 0.5) == np.array(present))),
    }


def train(config: SpeechConfig, folder: Path, data: Path, resume: bool = False) -> Path:
    """Runs or resumes the training; returns the path of the encoder's weights."""
    open_run(folder, config, resume)
    torch.manual_seed(config.seed)
    utterances = load_utterances(data)
    corpus = load_corpus([u for u in utterances if not u.held_out], data)
    held_out = load_corpus([u for u in utterances if u.held_out and u.corpus == "librispeech"], data)

    encoder = AudioEncoder()
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a tenth faster on a CPU
    head = nn.Linear(EMBEDDING, len(PHONES))
    phone_weight = torch.tensor([config.lip_weight if p in LIPS else 1.0 for p in PHONES])
    optimizer = torch.optim.AdamW(
        [*encoder.parameters(), *head.parameters()], config.learning_rate, weight_decay=config.weight_decay
    )
    checkpoint = Checkpoint(folder, {"encoder": encoder, "head": head}, optimizer)
    first = checkpoint.load()
    started = time.monotonic()

    with ThreadPoolExecutor(1) as reader:
        batch = reader.submit(training_batch, config, corpus, first)
        for step in tqdm(
            range(first, config.steps), initial=first, total=config.steps, desc="audio encoder", unit="step"
        ):
            mel, phones, present = (torch.from_numpy(x) for x in batch.result())
            batch = reader.submit(training_batch, config, corpus, step + 1)

            # Learning rate: a tenth of the run to rise, then a cosine to nothing.
            progress = step / config.steps
            scale = min(progress / 0.1, 0.5 + 0.5 * np.cos(np.pi * (progress - 0.1) / 0.9)) if step else 0.01
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * max(scale, 0.005)

            encoder.train()
            embedding, presence = encoder(mel)
            phone_loss = F.cross_entropy(head(embedding), phones, phone_weight, label_smoothing=config.label_smoothing)
            presence_loss = F.binary_cross_entropy(presence[:, 0], present)
            loss = phone_loss + config.presence_weight * presence_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            if step % 50 == 0:
                log_line(folder, step=step, phone_loss=phone_loss.item(), presence_loss=presence_loss.item())
            if step % 500 == 499 or step == config.steps - 1:
                log_line(folder, step=step, **evaluate(encoder, head, held_out, config.lookahead_samples))
                plot_log(folder)
            checkpoint.save_if_due(step + 1)
    checkpoint.save(config.steps)
    return _save(config, folder, encoder, head, held_out, time.monotonic() - started)


def _save(
    config: SpeechConfig, folder: Path, encoder: AudioEncoder, head: nn.Linear, held_out: Corpus, seconds: float
) -> Path:
    """Writes encoder.safetensors, float16, with the configuration and the figures on held-out speakers in its
    metadata.
    """
    figures = evaluate(encoder, head, held_out, config.lookahead_samples, 6000)
    figures |= {
        f"{k}_snr10": v for k, v in evaluate(encoder, head, held_out, config.lookahead_samples, 6000, 10.0).items()
    }
    path = folder / "encoder.safetensors"
    state = {k: v.half().contiguous() for k, v in encoder.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, path, {"config": json.dumps(asdict(config)), "held_out_figures": json.dumps(figures)})
    print(
        json.dumps(
            {"encoder": str(path), "seconds_this_run": round(seconds), **{k: round(v, 4) for k, v in figures.items()}}
        )
    )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.speech", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--out", type=Path, default=Path("build/encoder"), help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--steps", type=int, default=SpeechConfig.steps)
    parser.add_argument("--lookahead-samples", type=int, default=SpeechConfig.lookahead_samples)
    parser.add_argument("--seed", type=int, default=SpeechConfig.seed)
    options = parser.parse_args()
    try:
        if options.lookahead_samples % LOOKAHEAD_STEP or options.lookahead_samples < 0:
            raise MiravoxError(
                "--lookahead-samples", found=str(options.lookahead_samples),
                wanted=f"a multiple of {LOOKAHEAD_STEP}, 0 or more", remedy="1800 is the default.",
            )  # fmt: skip
        config = SpeechConfig(lookahead_samples=options.lookahead_samples, steps=options.steps, seed=options.seed)
        train(config, options.out, data_folder(), options.resume)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
