"""The mouth does what the phones say: it closes, opens, rounds and rests on the face model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataset.phones import data_folder as find_data_folder
from dataset.phones import load_utterances
from dataset.speech_curves import OPENING, expression_curves
from realtime.arrays import FloatArray, Int64Array
from studio.actor import ADA_SEED, Actor
from studio.face_model import load_face_model

UPPER, LOWER = 62, 66  # landmarks on the inner lip rims


@pytest.fixture(scope="module")
def actor(data_folder: Path) -> Actor:
    return Actor(load_face_model(), ADA_SEED)


def lip_distance(actor: Actor, weights_FC: FloatArray) -> tuple[FloatArray, float]:
    """Distance (cm) between the inner lips in every frame, and in the neutral face."""
    a, b = actor.landmarks_68[[UPPER, LOWER]]
    neutral = actor.neutral_V3[a] - actor.neutral_V3[b]
    moved = neutral + weights_FC @ (actor.model.expression_CV3[:, a] - actor.model.expression_CV3[:, b])
    return np.linalg.norm(moved, axis=1), float(np.linalg.norm(neutral))


def spoken(actor: Actor, count: int = 8) -> list[tuple[dict[str, Any], FloatArray, float]]:
    """Label rows of LJ Speech and LibriSpeech, each with its lip distance in every frame; and the neutral distance."""
    rows = []
    for corpus in ("ljspeech", "librispeech"):
        labels = [asdict(u) for u in load_utterances(find_data_folder()) if u.corpus == corpus]
        rows += labels[:: len(labels) // count][:count]
    result = []
    for row in rows:
        frames = int(np.ceil(row["seconds"] * 25))
        distance, neutral = lip_distance(actor, expression_curves(row["phones"], frames, actor.model.expression_names))
        result.append((row, distance, neutral))
    return result


def frames_near(start: int, duration: int, frames: int) -> Int64Array:
    """Frames within 20 ms of a phone."""
    at = np.arange(frames) * 4
    return np.flatnonzero((at >= start - 2) & (at <= start + duration + 2))


def test_lips_close_on_bilabials(actor: Actor, data_folder: Path) -> None:
    closed = total = 0
    for row, distance, neutral in spoken(actor):
        for phone, start, duration in row["phones"]:
            near = frames_near(start, duration, len(distance))
            if phone in ("P", "B", "M") and len(near):
                closed += distance[near].min() < neutral + 0.15
                total += 1
    assert total > 80
    assert closed / total >= 0.95


def test_a_30_ms_closure_between_open_vowels_is_seen_at_every_phase(actor: Actor, data_folder: Path) -> None:
    for shift in range(4):
        phones = [("SIL", 0, 20 + shift), ("AA", 20 + shift, 15), ("B", 35 + shift, 3), ("AA", 38 + shift, 15)]
        distance, neutral = lip_distance(actor, expression_curves(phones, 30, actor.model.expression_names))
        assert distance[frames_near(35 + shift, 3, 30)].min() < neutral + 0.05
        assert distance[frames_near(24 + shift, 8, 30)].max() > neutral + 0.8


def test_open_vowels_are_open(actor: Actor, data_folder: Path) -> None:
    widest = [
        distance[frames_near(start, duration, len(distance))].max()
        for row, distance, _ in spoken(actor)
        for phone, start, duration in row["phones"]
        if phone in ("AA", "AO", "AE") and duration >= 8 and start / 4 < len(distance)
    ]
    assert len(widest) > 20
    assert 1.0 < np.median(widest) < 1.8
    assert max(widest) < 2.0


def test_the_mouth_is_at_rest_in_silence(actor: Actor) -> None:
    phones = [("AA", 0, 30), ("SIL", 30, 60), ("UW", 90, 20)]
    curves = expression_curves(phones, 50, actor.model.expression_names)
    assert np.abs(curves[12:18]).max() < 0.03
    assert np.abs(expression_curves([], 20, actor.model.expression_names)).max() == 0


def test_lips_never_pass_through_each_other(actor: Actor, data_folder: Path) -> None:
    a, b = actor.landmarks_68[[UPPER, LOWER]]
    opening = actor.model.expression_CV3[:, a, 1] - actor.model.expression_CV3[:, b, 1]
    for row, distance, _ in spoken(actor):
        curves = expression_curves(row["phones"], len(distance), actor.model.expression_names)
        assert (curves @ opening).min() > -0.05


def test_opening_coefficients_are_the_models(actor: Actor) -> None:
    a, b = actor.landmarks_68[[UPPER, LOWER]]
    names = actor.model.expression_names
    for name, wanted in OPENING.items():
        channels = [c for c, n in enumerate(names) if n in (name, f"{name}_L", f"{name}_R")]
        shape = actor.model.expression_CV3[channels]
        assert (shape[:, a, 1] - shape[:, b, 1]).sum() == pytest.approx(wanted, abs=0.002), name


def test_rounding_is_anticipated(actor: Actor) -> None:
    names = actor.model.expression_names
    pucker = expression_curves([("T", 0, 20), ("UW", 20, 20), ("T", 40, 20)], 15, names)[:, names.index("mouthPucker")]
    before, after = pucker[3], pucker[12]  # 80 ms before the vowel, 80 ms after it
    assert before > 2 * after
    assert pucker.max() > 0.5


def test_the_same_speech_gives_the_same_mouth(actor: Actor) -> None:
    names = actor.model.expression_names
    phones = [("HH", 0, 8), ("AH", 8, 7), ("L", 15, 8), ("OW", 23, 20)]
    assert np.array_equal(expression_curves(phones, 14, names), expression_curves(phones, 14, names))
