"""Many voices as an encoder hears them, and how the actor would say what they say: geometry that needs no film, since
the studio's curves exist for every recording with phone timings. Trained on one voice alone, the projection mishears
the others.

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

from networks.audio_encoder import AudioEncoder
from networks.contract import EMBEDDING, EMBEDDINGS, SAMPLES_PER_FRAME
from networks.readout import LOOKAHEADS
from realtime.sound_file import read_speech
from studio.speech_curves import expression_curves
from training.augment import AugmentConfig, stranger
from training.dataset import Dataset, embed_speech
from training.encoders import weights_hash
from training.phones import LIPS_TOGETHER, UNIT, load_utterances

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

TOLERANCE_UNITS = 2  # of 10 ms: a frame this near to P, B or M shows it
PHASE_UNITS = 2  # a stranger's recording begins half a frame later: other moments of the same speech


@dataclass(frozen=True)
class Voices:
    """Embeddings of recordings that were trained on, and the mouth of every frame."""

    embeddings: NDArray[np.float16]  # [N, 512], each recording after the eight that precede its first frame
    newest: IntArray  # [R], index of each frame's newest embedding
    expression: FloatArray  # [R, C]
    together: NDArray[np.bool_]  # [R], whether the frame shows P, B or M
    phones: NDArray[np.int8]  # [R, 6, 3]: LOOKAHEADS before the window's end, and 10 ms before and after that

    def save(self, path: Path, made_with: dict[str, str]) -> None:
        """Writes it to a file that says which encoder and strangers these embeddings are of."""
        save_file({name: np.ascontiguousarray(value) for name, value in vars(self).items()}, path, made_with)

    def windows(self, rows: IntArray) -> FloatArray:
        """A_TE of some frames, [len(rows), 9, 512], oldest first."""
        back = np.arange(1 - EMBEDDINGS, 1)
        return np.asarray(self.embeddings[self.newest[rows][:, None] + back], np.float32)


def load_voices(
    cache: Path, encoder: AudioEncoder, lookahead_samples: int, expression_names: tuple[str, ...], data: Path,
    stranger_share: float, seed: int,
) -> Voices:  # fmt: skip
    """The voices of an earlier run with the same encoder, strangers and seed, from `cache`; otherwise embeds them, and
    writes `cache`.

    Without `expression_names` there is no expression.
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
    encoder: AudioEncoder, lookahead_samples: int, expression_names: tuple[str, ...], data: Path, stranger_share: float,
    seed: int,
) -> Voices:  # fmt: skip
    """Embeds every recording that may be trained on, and again, `stranger_share` times on average, as strangers would
    say it.
    """
    rng = np.random.default_rng(seed)
    utterances = [u for u in load_utterances(data) if not u.held_out]
    speeches = [read_speech(u.path(data)).samples for u in utterances]
    times = int(stranger_share) + (rng.random(len(utterances)) < stranger_share % 1)
    again = np.repeat(np.arange(len(utterances)), times)
    config = AugmentConfig()
    embeddings, newest, expression, together, phones_heard = [], [], [], [], []
    count, reach = 0, EMBEDDINGS - 1
    jobs = [(i, False) for i in range(len(utterances))] + [(int(i), True) for i in again]
    for i, strange in tqdm(jobs, desc="embedding voices", unit="recording"):
        utterance, speech, phase = utterances[i], speeches[i], 0
        if strange:
            phase = PHASE_UNITS
            speech = stranger(rng, speech, speeches, config)[phase * UNIT :]
        frames = len(speech) // SAMPLES_PER_FRAME
        phones = tuple((p, s - phase, d) for p, s, d in utterance.phones)
        embeddings.append(embed_speech(encoder, speech, frames + reach, lookahead_samples, -reach).astype(np.float16))
        newest.append(count + reach + np.arange(frames))
        expression.append(expression_curves(phones, frames, expression_names))
        together.append(shows_closure(phones, frames))
        ends = SAMPLES_PER_FRAME * np.arange(frames) + lookahead_samples + phase * UNIT
        phones_heard.append(phones_before(ends, utterance.phone_indices()))
        count += frames + reach
    return Voices(
        np.concatenate(embeddings), np.concatenate(newest), np.concatenate(expression), np.concatenate(together),
        np.concatenate(phones_heard),
    )  # fmt: skip


def own_voice(dataset: Dataset, windows: FloatArray) -> Voices:
    """The film's own speech, of its training takes, as training/voices.py has that of others."""
    trained = [t for t in dataset.takes if not t.held_out]
    frames = np.concatenate([np.arange(t.first, t.end) for t in trained])
    together = np.concatenate([shows_closure(t.phones, t.frames) for t in trained])
    return Voices(
        windows[frames].reshape(-1, EMBEDDING).astype(np.float16),
        EMBEDDINGS * np.arange(len(frames)) + EMBEDDINGS - 1, dataset.expression[frames].astype(np.float32), together,
        np.zeros((len(frames), len(LOOKAHEADS), 3), np.int8),
    )  # fmt: skip


def phones_before(ends: IntArray, labels: IntArray) -> NDArray[np.int8]:
    """Phones [len(ends), 6, 3] at LOOKAHEADS before the samples `ends`, and 10 ms before and after; silence outside."""
    unit = ((ends[:, None] - np.array(LOOKAHEADS)) // UNIT)[..., None] + np.arange(-1, 2)
    inside = (unit >= 0) & (unit < len(labels))
    return np.where(inside, labels[np.clip(unit, 0, len(labels) - 1)], 0).astype(np.int8)


def shows_closure(phones: tuple[tuple[str, int, int], ...], frames: int) -> NDArray[np.bool_]:
    """Which frames [frames] lie within P, B or M, or nearer to it than TOLERANCE_UNITS."""
    shown = np.zeros(frames, bool)
    for phone, start, duration in phones:
        if phone.rstrip("012") in LIPS_TOGETHER:
            units_a_frame = SAMPLES_PER_FRAME / UNIT
            first = int(np.ceil((start - TOLERANCE_UNITS) / units_a_frame))
            last = int(np.floor((start + duration + TOLERANCE_UNITS) / units_a_frame))
            shown[max(0, first) : last + 1] = True
    return shown
