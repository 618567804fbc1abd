"""Labelled recordings in memory: speech, phones and the mouth's shape for every 10 ms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataset.phones import Utterance
from dataset.speech_curves import ARTICULATORS, OPENING, expression_curves
from realtime.arrays import BoolArray, FloatArray, Int64Array
from realtime.audio.sound_file import read_speech
from training.augment import change_pitch

BORDER_UNITS = 4  # labels (10 ms): nearer to the border of a silence, presence is uncertain
CLOSED_CM = 0.15  # lip opening over rest under which a mouth counts as closed
SPREAD = {"mouthStretch": 1.0, "mouthSmile": 1.0, "mouthPucker": -1.0, "mouthFunnel": -1.0}  # width of the mouth


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Utterances; labels are for every 10 ms."""

    versions: list[list[FloatArray]]  # of each utterance: the recording, and the same at other pitches
    phones: list[Int64Array]  # [n] index into PHONES
    articulation: list[FloatArray]  # [n, 3]: opening (cm), width, closed (0 or 1)
    near_border: list[BoolArray]  # [n] near_border(phones)

    @property
    def speech(self) -> list[FloatArray]:
        """The recordings as they are."""
        return [v[0] for v in self.versions]


def load_corpus(utterances: list[Utterance], data: Path) -> Corpus:
    """Reads the utterances from the data folder, without other pitches."""
    versions, phones, articulation = [], [], []
    for utterance in tqdm(utterances, desc="reading speech", unit="file"):
        versions.append([read_speech(utterance.path(data)).samples])
        phones.append(utterance.phone_indices())
        articulation.append(mouth_shape(utterance, len(phones[-1])))
    return Corpus(
        versions=versions, phones=phones, articulation=articulation, near_border=[near_border(p) for p in phones]
    )


def add_pitches(corpus: Corpus, count: int, pitch: tuple[float, float], seed: int) -> None:
    """Adds `count` versions of every recording with other pitches and vocal tracts: more speakers than there are.

    Args:
        pitch: least and greatest factor.
    """
    rng = np.random.default_rng(seed)
    for versions in tqdm(corpus.versions, desc="other pitches", unit="file"):
        # One lower and one higher, and so on.
        for k in range(count):
            low, high = np.log(pitch)
            factor = float(np.exp(rng.uniform(low, low / 4) if k % 2 == 0 else rng.uniform(high / 4, high)))
            versions.append(change_pitch(versions[0], factor))


def mouth_shape(utterance: Utterance, units: int) -> FloatArray:
    """ARTICULATION of the studio's actor saying it, [units, 3], every 10 ms."""
    curves = expression_curves(utterance.phones, units, ARTICULATORS, instants_per_frame=1)
    aperture = curves @ np.array([OPENING[a] for a in ARTICULATORS], np.float32)
    width = curves @ np.array([SPREAD.get(a, 0.0) for a in ARTICULATORS], np.float32)
    return np.stack([aperture, width, aperture < CLOSED_CM], 1).astype(np.float32)


def near_border(phones: Int64Array) -> BoolArray:
    """Which labels lie so near to where a silence begins or ends that presence is uncertain: alignments err."""
    border = np.flatnonzero(np.diff((phones > 0).astype(int)) != 0) + 1
    near = np.zeros(len(phones), bool)
    for at in border:
        near[max(0, at - BORDER_UNITS) : at + BORDER_UNITS] = True
    return near
