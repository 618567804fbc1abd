"""Lips against phones on held-out speech: how far the mouth of the networks follows the curves that the studio would
film.

    python -m bench articulation --avatar avatars/ada --json F

Geometry only, no pixels: the deformation network's vertices against those of the studio's expression curves, for held-
out speech of the avatar's own voice (Ada's is LJ Speech) and held-out LibriSpeech (speakers never heard). `python -m
bench speech` measures the same on any labelled speech, `python -m bench fidelity` on a captured person's held-out takes
against the tracked face.
- closed: the inner lips come within 1.5 mm of the rest gap at some frame within P, B or M, 20 ms of tolerance on both
  sides.
- open vowel closed: they are that near at every frame within AA, AE, AH, AO, AW or AY, so that it is never seen. (At
  one frame they are in many, next to P, B and M: the studio's own, too.)
- rest: they are that near in the silences of 300 ms or more, 120 ms away from their ends, where the lips of the studio
  rest, too. Labels lack words now and then: what is nearly as loud as the recording itself is no silence, and left out
  (the share with it is reported as rest_as_labelled).
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from bench.intervals import mean_interval, share_interval
from dataset.folder import INNER_LOWER, INNER_UPPER
from dataset.phones import LIPS_TOGETHER, Utterance, data_folder, load_utterances, phone_index
from dataset.speech_curves import expression_curves
from realtime.arrays import FloatArray
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import DEFORMATION, FRAME_RATE, SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from realtime.face.engine import Engine
from realtime.face.latent import LatentTrack
from studio.face_model import load_face_model

LEFT_CORNER, RIGHT_CORNER = 48, 54  # landmarks of the mouth
CLOSED_MM = 1.5  # above the rest gap
OPEN = ("AA", "AE", "AH", "AO", "AW", "AY")
TOLERANCE_UNITS = 2  # of 10 ms, around a phone
LOUD_DB = -12.0  # against the whole recording: nobody is silent there


class Lips(NamedTuple):
    """Distances in mm between the inner lips, and between the corners of the mouth."""

    gap: float
    width: float


class LipTracker:
    """The lips of every frame, from an avatar's networks and from the studio's curves."""

    def __init__(self, avatar: Avatar, basis_CV3: FloatArray) -> None:
        self.avatar = avatar
        self.deformation = Engine(avatar.folder / "targets" / "onnx" / "deformation.onnx", DEFORMATION, threads=1)
        landmarks = [INNER_UPPER, INNER_LOWER, LEFT_CORNER, RIGHT_CORNER]
        corners = avatar.triangles[avatar.landmark_triangles[landmarks]]  # [4, 3]
        self.corners = corners.ravel()
        self.weights = avatar.landmark_barycentrics[landmarks]
        self.points = avatar.scale(avatar.canonical)[self.corners]
        self.neutral = avatar.template[self.corners]
        self.basis = basis_CV3[:, self.corners]
        self.rest_gap = self._lips(np.zeros_like(self.neutral)).gap

    def _lips(self, displacement: FloatArray) -> Lips:
        upper, lower, left, right = np.einsum(
            "lk,lkx->lx", self.weights, (self.neutral + displacement).reshape(4, 3, 3)
        )
        return Lips(float(10 * np.linalg.norm(upper - lower)), float(10 * np.linalg.norm(left - right)))

    def predicted(self, latent: FloatArray) -> Lips:
        return self._lips(self.deformation.run(self.points, latent)[0])

    def true(self, weights_C: FloatArray) -> Lips:
        return self._lips(np.tensordot(weights_C, self.basis, 1).astype(np.float32))


def is_synthetic(avatar: Avatar) -> bool:
    """Whether the studio filmed its actor, so that the true lips of any speech are known."""
    provenance = avatar.info["provenance"]
    assert isinstance(provenance, dict)
    return bool(provenance["dataset"].get("generator") == "studio")


def template_basis(avatar: Avatar) -> FloatArray:
    """The face model's expression shapes on the avatar's template, for the identity of its provenance: [C, V, 3].

    Raises MiravoxError for a person who was captured.
    """
    from dataset.template import build_template
    from studio.actor import identity_vertices

    if not is_synthetic(avatar):
        raise MiravoxError(
            str(avatar.folder),
            found="a person who was captured, whose true lips nobody knows",
            wanted="a synthetic actor's avatar",
            remedy="Hold it against the tracked lips: `python -m bench fidelity --avatar ... --dataset ...`.",
        )
    model, provenance = load_face_model(), avatar.info["provenance"]
    return build_template(model, identity_vertices(model, provenance["dataset"]["identity"])).basis(
        model.expression_CV3
    )


def speech_latents(avatar: Avatar, speech: FloatArray, frames: int) -> list[FloatArray]:
    """b [1, 64] of every frame, by the live code."""
    ring = AudioRing(len(speech) + 4 * SAMPLES_PER_FRAME * FRAME_RATE)
    ring.write(Block(0, np.concatenate([speech, np.zeros(2 * SAMPLES_PER_FRAME * FRAME_RATE, np.float32)])))
    track = LatentTrack(avatar, ring)
    return [track.advance(k) for k in range(frames)]


def frames_within(start: int, duration: int, tolerance: int, count: int) -> slice:
    """The frames between the ends of a phone (10 ms units), `tolerance` units beyond them included."""
    first = int(np.ceil((start - tolerance) * FRAME_RATE / 100))
    last = int(np.floor((start + duration + tolerance) * FRAME_RATE / 100))
    return slice(max(0, first), min(count, last + 1))


def phone_minima(gaps: FloatArray, utterance: Utterance, phones: tuple[str, ...]) -> list[float]:
    """The least gap within each occurrence of the phones; occurrences that no frame falls into are left out."""
    pieces = [
        gaps[frames_within(start, duration, TOLERANCE_UNITS, len(gaps))]
        for phone, start, duration in utterance.phones
        if phone.rstrip("012") in phones
    ]
    return [float(piece.min()) for piece in pieces if len(piece)]


def phone_maxima(gaps: FloatArray, utterance: Utterance, phones: tuple[str, ...]) -> list[float]:
    """The greatest gap within each occurrence of the phones; occurrences that no frame falls into are left out."""
    pieces = [
        gaps[frames_within(start, duration, 0, len(gaps))]
        for phone, start, duration in utterance.phones
        if phone.rstrip("012") in phones
    ]
    return [float(piece.max()) for piece in pieces if len(piece)]


def own_corpus(avatar: Avatar) -> str:
    """The corpus that most of the avatar's filmed speech is from."""
    provenance = avatar.info["provenance"]
    assert isinstance(provenance, dict)
    corpora: Counter[str] = Counter(name.split("/")[0] for name in provenance["dataset"]["speech"])
    return corpora.most_common(1)[0][0]


def widest_jaw(avatar: Avatar, tracker: LipTracker) -> dict[str, object]:
    """The frame of the training voice's speech whose mouth is open widest: do the networks part the lips as far?"""
    names = load_face_model().expression_names
    widest: tuple[float, int, Utterance] | None = None
    corpus = own_corpus(avatar)
    for utterance in load_utterances(data_folder()):
        if utterance.corpus == corpus and not utterance.held_out:
            curves = expression_curves(utterance.phones, int(utterance.seconds * FRAME_RATE), names)
            gaps = [tracker.true(w).gap for w in curves]
            frame = int(np.argmax(gaps))
            if widest is None or gaps[frame] > widest[0]:
                widest = gaps[frame], frame, utterance
    assert widest is not None
    true, frame, utterance = widest
    latents = speech_latents(avatar, read_speech(utterance.path(data_folder())).samples, frame + 1)
    predicted = tracker.predicted(latents[frame]).gap
    return {"utterance": utterance.id, "frame": frame, "true_mm": true, "predicted_mm": predicted}


@dataclass(frozen=True)
class Labelled:
    """A recording and its phones, and how the face moved if that is known."""

    utterance: Utterance
    path: Path
    expression_FC: FloatArray | None = None  # weights of each frame; None: as the studio would move it


def share(hits: list[bool]) -> dict[str, Any]:
    """A share (None of nothing), how many it was taken of, and its 95 % interval."""
    found = sum(hits) / len(hits) if hits else None
    return {"share": found, "of": len(hits), "interval": share_interval(sum(hits), len(hits))}


def articulation(avatar: Avatar, recordings: list[Labelled], basis_CV3: FloatArray | None = None) -> dict[str, object]:
    """How the avatar's lips follow the phones of recordings: shares (0..1), millimetres, and the counts behind them.

    `basis_CV3`: expression shapes of the avatar's template; the studio's by default.
    """
    tracker = LipTracker(avatar, template_basis(avatar) if basis_CV3 is None else basis_CV3)
    names = load_face_model().expression_names if any(r.expression_FC is None for r in recordings) else ()
    limit = tracker.rest_gap + CLOSED_MM
    predicted, true, clips = [], [], []
    lists: dict[str, list[float]] = {
        k: [] for k in ("closures", "true_closures", "vowels", "true_vowels", "silent", "silent_as_labelled")
    }
    for labelled in tqdm(recordings, desc="lips", unit="recording"):
        utterance, speech = labelled.utterance, read_speech(labelled.path).samples
        frames = int(np.ceil(len(speech) / SAMPLES_PER_FRAME))
        lips = np.array([tracker.predicted(b) for b in speech_latents(avatar, speech, frames)], np.float32)
        moved = labelled.expression_FC
        if moved is None:
            moved = expression_curves(utterance.phones, frames, names)
        true_lips = np.array([tracker.true(w) for w in moved], np.float32)
        predicted.append(lips)
        true.append(true_lips)
        clips.append(np.abs(lips - true_lips).mean(0))
        gaps, truth = lips[:, 0], true_lips[:, 0]
        lists["closures"] += phone_minima(gaps, utterance, LIPS_TOGETHER)
        lists["true_closures"] += phone_minima(truth, utterance, LIPS_TOGETHER)
        lists["vowels"] += phone_maxima(gaps, utterance, OPEN)
        lists["true_vowels"] += phone_maxima(truth, utterance, OPEN)
        silent = silent_frames(utterance, frames)
        lists["silent_as_labelled"] += [float(gaps[k]) for k in silent]
        lists["silent"] += [float(gaps[k]) for k in silent if not is_loud(speech, k)]
    p, t = np.concatenate(predicted), np.concatenate(true)
    error = np.abs(p - t).mean(0)
    shares = {name: share([gap < limit for gap in values]) for name, values in lists.items()}
    return {
        "closure": shares["closures"]["share"],
        "open_vowels_closed": shares["vowels"]["share"],
        "rest": shares["silent"]["share"],
        "rest_as_labelled": shares["silent_as_labelled"]["share"],
        "aperture_correlation": float(np.corrcoef(p[:, 0], t[:, 0])[0, 1]),
        "aperture_error_mm": float(error[0]),
        "aperture_error_interval": mean_interval([float(c[0]) for c in clips]),
        "width_error_mm": float(error[1]),
        "width_error_interval": mean_interval([float(c[1]) for c in clips]),
        "open_vowel_mm": float(np.mean(lists["vowels"])) if lists["vowels"] else None,
        "true_open_vowel_mm": float(np.mean(lists["true_vowels"])) if lists["vowels"] else None,
        "recordings": len(recordings),
        "frames": len(p),
        "counts": shares,
    }


def held_out_articulation(avatar: Avatar) -> dict[str, dict[str, object]]:
    """Figures of the avatar's own voice, of speakers never heard, and its widest jaw."""
    data = data_folder()
    held_out = [u for u in load_utterances(data) if u.held_out]
    figures = {
        name: articulation(avatar, [Labelled(u, u.path(data)) for u in held_out if u.corpus == corpus])
        for name, corpus in (("own voice", own_corpus(avatar)), ("never heard", "librispeech"))
    }
    tracker = LipTracker(avatar, template_basis(avatar))
    return figures | {"widest jaw": widest_jaw(avatar, tracker)}


def silent_frames(utterance: Utterance, frames: int) -> list[int]:
    """Frames in silences of 300 ms or more, 120 ms away from their ends, as labelled."""
    inside: list[int] = []
    for phone, start, duration in utterance.phones:
        if phone_index(phone) == 0 and duration >= 30:
            first, last = (start + 12) * FRAME_RATE / 100, (start + duration - 12) * FRAME_RATE / 100
            inside += range(int(np.ceil(first)), min(frames, int(last)))
    return inside


def is_loud(speech: FloatArray, frame: int) -> bool:
    """Whether a frame and its two neighbours are no more than 12 dB quieter than the whole recording."""
    around = speech[max(0, frame - 1) * SAMPLES_PER_FRAME : (frame + 2) * SAMPLES_PER_FRAME]
    limit = float(np.mean(np.square(speech, dtype=np.float64))) * 10 ** (LOUD_DB / 10)
    return len(around) > 0 and float(np.mean(np.square(around, dtype=np.float64))) > limit


def print_table(figures: dict[str, dict[str, object]]) -> None:
    for corpus, values in figures.items():
        print(corpus)
        for key, value in values.items():
            print(f"  {key:26}{value if not isinstance(value, float) else round(value, 3)}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None but the avatar."""


def run(o: argparse.Namespace) -> dict[str, object]:
    figures = held_out_articulation(load_avatar(o.avatar))
    print_table(figures)
    return {"figures": figures}
