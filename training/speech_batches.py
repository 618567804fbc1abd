"""What the audio encoder is trained on: recordings, degraded anew for every epoch, and windows of random moments."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from dataset.phones import UNIT
from networks.readout import LOOKAHEADS
from realtime.arrays import Float64Array, FloatArray
from realtime.audio.mel import mel_of_windows
from realtime.contract import DEFAULT_LOOKAHEAD, SAMPLE_RATE, WINDOW_SAMPLES
from training.augment import AugmentConfig, change_speed, degrade, mask, perturb_vocal_tract
from training.noises import noise, rms
from training.speech_corpus import Corpus

MARGIN = WINDOW_SAMPLES + max(LOOKAHEADS)  # samples of silence before and after a recording
NOISE_SECONDS = 10  # of a recording without speech


@dataclass(frozen=True)
class SpeechConfig:
    """Everything that decides the result of a run of training.speech."""

    lookahead_samples: int = DEFAULT_LOOKAHEAD
    steps: int = 9000
    batch: int = 128  # windows, each of another moment
    epoch: int = 600  # steps after which every recording is degraded anew
    learning_rate: float = 2e-3
    weight_decay: float = 3e-2
    label_smoothing: float = 0.05
    closure_weight: float = 2.5  # of P B M in the losses: a closure that is missed shows more than one too many
    viseme_weight: float = 0.5
    ahead_weight: float = 0.4
    presence_weight: float = 0.7
    articulation_weight: float = 1.0
    noise_only_share: float = 0.08  # of the recordings, without speech
    masked_share: float = 0.4  # windows that lack bands and frames
    tract_share: float = 0.6  # windows as of another vocal tract and microphone
    pitches: int = 4  # versions of every recording with another pitch
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    source: str = ""  # name of the Wav2Lip checkpoint whose convolutions are used as they are
    init: str = ""  # name of the avatar or run whose encoder the training begins with
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Degraded:
    """The recordings of one epoch, each through a room, noise and a microphone of its own, and recordings of noise."""

    sound: list[FloatArray]  # MARGIN samples of the surroundings before and after
    speed: list[float]  # by which a recording is faster than its labels
    source: list[int]  # index of the recording in the corpus; -1: noise alone

    @property
    def weights(self) -> Float64Array:
        """How often each is drawn from: by its length; they sum to 1."""
        lengths = np.array([len(s) for s in self.sound], np.float64)
        return np.asarray(lengths / lengths.sum())


def degrade_corpus(config: SpeechConfig, corpus: Corpus, epoch: int) -> Degraded:
    """Every recording of the corpus degraded in its own way; the same for the same seed and epoch."""
    rng = np.random.default_rng([config.seed, 1, epoch])
    voices, degraded = corpus.speech, Degraded(sound=[], speed=[], source=[])
    for i, versions in enumerate(corpus.versions):
        speech = versions[rng.integers(len(versions))]
        speed = float(rng.uniform(*config.augment.speed)) if rng.random() < config.augment.speed_share else 1.0
        # Lengths that a Fourier transform takes quickly.
        padded = np.pad(speech, (0, next_fast_len(len(speech)) - len(speech)))
        fast = change_speed(padded, next_fast_len(round(len(padded) / speed)) if speed != 1 else len(padded))
        after = next_fast_len(len(fast) + 2 * MARGIN) - len(fast) - MARGIN
        degraded.sound.append(degrade(rng, np.pad(fast, (MARGIN, after)), rms(speech), voices, config.augment))
        degraded.speed.append(len(padded) / len(fast))
        degraded.source.append(i)
    count = round(config.noise_only_share / (1 - config.noise_only_share) * len(voices))
    for _ in range(count):
        level = 10 ** (rng.uniform(-70, -20) / 20) * (rng.random() > 0.1)
        sound = noise(rng, NOISE_SECONDS * SAMPLE_RATE, voices, config.augment.babble_voices) * np.float32(level)
        if rng.random() < 0.5:
            sound = degrade(rng, sound, rms(sound), voices, config.augment)
        degraded.sound.append(sound)
        degraded.speed.append(1.0)
        degraded.source.append(-1)
    return degraded


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A step's input and truth: B windows.

    Labels at the encoder's own lookahead come first, then those at each of LOOKAHEADS.
    """

    mel: Tensor  # [B, 1, 80, 16]
    phones: Tensor  # int64 [B, 1 + 6, 3]: the labels 10 ms before, at and 10 ms after
    presence: Tensor  # [B] 0 or 1
    judged: Tensor  # [B] 0 where presence is uncertain
    articulation: Tensor  # [B, 3]


def training_batch(config: SpeechConfig, corpus: Corpus, degraded: Degraded, step: int) -> Batch:
    """Windows of random moments of random recordings; the same for the same seed and step."""
    rng = np.random.default_rng([config.seed, 0, step])
    backward = np.array([config.lookahead_samples, *LOOKAHEADS])
    count = config.batch
    windows = np.zeros((count, WINDOW_SAMPLES), np.float32)
    phones = np.zeros((count, len(backward), 3), np.int64)
    presence, judged = np.zeros(count, np.float32), np.ones(count, np.float32)
    articulation = np.tile(np.array([0, 0, 1], np.float32), (count, 1))  # at rest
    weights = degraded.weights
    for row, k in enumerate(rng.choice(len(weights), count, p=weights)):
        sound, i = degraded.sound[k], degraded.source[k]
        end = int(rng.integers(WINDOW_SAMPLES, len(sound) + 1))
        windows[row] = sound[end - WINDOW_SAMPLES : end]
        if i < 0:
            continue
        labels = corpus.phones[i]
        unit = np.floor((end - MARGIN - backward) * degraded.speed[k] / UNIT).astype(int)
        around = unit[:, None] + np.arange(-1, 2)
        inside = (around >= 0) & (around < len(labels))
        phones[row] = np.where(inside, labels[np.clip(around, 0, len(labels) - 1)], 0)
        presence[row] = phones[row, 0, 1] > 0
        if 0 <= unit[0] < len(labels):
            judged[row] = not corpus.near_border[i][unit[0]]
            articulation[row] = corpus.articulation[i][unit[0]]
    mel = mel_of_windows(windows)
    for one in mel:
        if rng.random() < config.tract_share:
            one[:] = perturb_vocal_tract(rng, one, config.augment)
        if rng.random() < config.masked_share:
            mask(rng, one, config.augment)
    return Batch(
        mel=torch.from_numpy(mel[:, None]),
        phones=torch.from_numpy(phones),
        presence=torch.from_numpy(presence),
        judged=torch.from_numpy(judged),
        articulation=torch.from_numpy(articulation),
    )
