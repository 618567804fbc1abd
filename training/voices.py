"""Embeddings of many voices, and how the actor's mouth would move to them: geometry that needs no film, since the
studio's curves exist for every recording with phone timings. A projection that was trained on one voice alone fails on
others.

Every recording is embedded once as it is, and again as of other speakers (augment.as_other_speaker).

Shape letters: R frames of all recordings, C expression shapes, N embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from dataset.folder import Dataset
from dataset.phones import LIPS_TOGETHER, UNIT, load_utterances
from dataset.speech_curves import expression_curves
from networks.audio_encoder import AudioEncoder
from networks.readout import LOOKAHEADS
from realtime.arrays import BoolArray, FloatArray, Int64Array
from realtime.audio.sound_file import read_speech
from realtime.contract import EMBEDDING, EMBEDDINGS, SAMPLES_PER_FRAME
from realtime.whole_file import replacing
from training.augment import AugmentConfig, as_other_speaker
from training.embeddings import embed_speech
from training.encoders import weights_hash

TOLERANCE_UNITS = 2  # of 10 ms: a frame this near to P, B or M shows it
PHASE_UNITS = 2  # a perturbed recording begins half a frame later: other moments of the same speech


@dataclass(frozen=True, kw_only=True)
class Voices:
    """Embeddings of recordings that were trained on, and the mouth of every frame."""

    embeddings: NDArray[np.float16]  # [N, 512], each recording after the eight that precede its first frame
    newest: Int64Array  # [R], index of each frame's newest embedding
    expression: FloatArray  # [R, C]
    together: BoolArray  # [R], whether the frame shows P, B or M
    phones: NDArray[np.int8]  # [R, 6, 3]: LOOKAHEADS before the window's end, and 10 ms before and after that

    def save(self, path: Path, made_with: dict[str, str]) -> None:
        """Writes it to a file whose metadata say which encoder and perturbation the embeddings are of."""
        with replacing(path) as partial:
            save_file({name: np.ascontiguousarray(value) for name, value in vars(self).items()}, partial, made_with)

    def windows(self, rows: Int64Array) -> FloatArray:
        """A_TE of some frames, [len(rows), 9, 512], oldest first."""
        back = np.arange(1 - EMBEDDINGS, 1)
        return np.asarray(self.embeddings[self.newest[rows][:, None] + back], np.float32)


def load_voices(
    cache: Path,
    encoder: AudioEncoder,
    lookahead_samples: int,
    expression_names: tuple[str, ...],
    data: Path,
    stranger_share: float,
    seed: int,
) -> Voices:
    """The voices of an earlier run with the same encoder, share and seed, from the file `cache`; otherwise embeds them,
    and writes `cache`. Arguments as of embed_voices.
    """
    made_with = {"encoder": weights_hash(encoder), "strangers": f"{stranger_share}, seed {seed}"}
    if cache.is_file():
        with safe_open(cache, "np") as file:
            if (file.metadata() or {}) == made_with:
                voices = Voices(**{name: file.get_tensor(name) for name in file.keys()})
                if not expression_names or voices.expression.shape[1] == len(expression_names):
                    return voices
    voices = embed_voices(encoder, lookahead_samples, expression_names, data, stranger_share, seed)
    voices.save(cache, made_with)
    return voices


def embed_voices(
    encoder: AudioEncoder,
    lookahead_samples: int,
    expression_names: tuple[str, ...],
    data: Path,
    stranger_share: float,
    seed: int,
) -> Voices:
    """Embeds every recording that may be trained on.

    Args:
        expression_names: shapes of the face model whose weights are wanted; none: no expression.
        data: the data folder.
        stranger_share: how often, on average, each is embedded again as of another speaker.
    """
    rng = np.random.default_rng(seed)
    utterances = [u for u in load_utterances(data) if not u.held_out]
    speeches = [read_speech(u.path(data)).samples for u in utterances]
    times = int(stranger_share) + (rng.random(len(utterances)) < stranger_share % 1)
    again = np.repeat(np.arange(len(utterances)), times)
    config = AugmentConfig()
    embeddings, newest, expression, together, spoken = [], [], [], [], []
    count, reach = 0, EMBEDDINGS - 1
    jobs = [(i, False) for i in range(len(utterances))] + [(int(i), True) for i in again]
    for i, perturbed in tqdm(jobs, desc="embedding voices", unit="recording"):
        utterance, speech, phase = utterances[i], speeches[i], 0
        if perturbed:
            phase = PHASE_UNITS
            speech = as_other_speaker(rng, speech, speeches, config)[phase * UNIT :]
        frames = len(speech) // SAMPLES_PER_FRAME
        phones = tuple((p, s - phase, d) for p, s, d in utterance.phones)
        embeddings.append(embed_speech(encoder, speech, frames + reach, lookahead_samples, -reach).astype(np.float16))
        newest.append(count + reach + np.arange(frames))
        expression.append(expression_curves(phones, frames, expression_names))
        together.append(shows_closure(phones, frames))
        ends = SAMPLES_PER_FRAME * np.arange(frames) + lookahead_samples + phase * UNIT
        spoken.append(phones_before(ends, utterance.phone_indices()))
        count += frames + reach
    return Voices(
        embeddings=np.concatenate(embeddings),
        newest=np.concatenate(newest),
        expression=np.concatenate(expression),
        together=np.concatenate(together),
        phones=np.concatenate(spoken),
    )


def own_voice(dataset: Dataset, windows: FloatArray) -> Voices:
    """The film's own speech, of its training takes, as Voices.

    Args:
        windows: [N, 9, 512], A_TE of every frame of the dataset.
    """
    trained = [t for t in dataset.takes if not t.held_out]
    frames = np.concatenate([np.arange(t.first, t.end) for t in trained])
    together = np.concatenate([shows_closure(t.phones, t.frames) for t in trained])
    return Voices(
        embeddings=windows[frames].reshape(-1, EMBEDDING).astype(np.float16),
        newest=EMBEDDINGS * np.arange(len(frames)) + EMBEDDINGS - 1,
        expression=dataset.expression[frames].astype(np.float32),
        together=together,
        phones=np.zeros((len(frames), len(LOOKAHEADS), 3), np.int8),
    )


def phones_before(ends: Int64Array, labels: Int64Array) -> NDArray[np.int8]:
    """Phones [len(ends), 6, 3] at LOOKAHEADS before the samples `ends`, and 10 ms before and after; silence outside."""
    unit = ((ends[:, None] - np.array(LOOKAHEADS)) // UNIT)[..., None] + np.arange(-1, 2)
    inside = (unit >= 0) & (unit < len(labels))
    return np.where(inside, labels[np.clip(unit, 0, len(labels) - 1)], 0).astype(np.int8)


def shows_closure(phones: tuple[tuple[str, int, int], ...], frames: int) -> BoolArray:
    """Which frames [frames] lie within P, B or M, or nearer to it than TOLERANCE_UNITS."""
    shown = np.zeros(frames, bool)
    for phone, start, duration in phones:
        if phone.rstrip("012") in LIPS_TOGETHER:
            units_a_frame = SAMPLES_PER_FRAME / UNIT
            first = int(np.ceil((start - TOLERANCE_UNITS) / units_a_frame))
            last = int(np.floor((start + duration + TOLERANCE_UNITS) / units_a_frame))
            shown[max(0, first) : last + 1] = True
    return shown
