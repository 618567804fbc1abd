"""Lips against phones: closures, open vowels and silences are found where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from realtime.avatar import load_avatar

pytestmark = pytest.mark.usefixtures("torch", "gl_context")


def test_lips_part_at_the_widest_jaw(ada: Path, data_folder: Path) -> None:
    """The deformation network's aperture, driven by the speech, is within 2 mm of the truth."""
    from bench.articulation import LipTracker, template_basis, widest_jaw

    avatar = load_avatar(ada)
    widest = widest_jaw(avatar, LipTracker(avatar, template_basis(avatar)))
    true, predicted = widest["true_mm"], widest["predicted_mm"]
    assert isinstance(true, float) and isinstance(predicted, float)
    assert true > 12 and abs(predicted - true) < 2, widest


def test_closures_are_found_within_the_phone() -> None:
    from bench.articulation import phone_minima
    from dataset.phones import Utterance

    phones = (("AA", 0, 20), ("M", 20, 8), ("AA", 28, 20), ("P", 48, 4))
    utterance = Utterance(id="test", seconds=0.52, phones=phones)
    gaps = np.full(13, 9.0, np.float32)
    gaps[6] = 1.0  # at 240 ms, within the M
    assert phone_minima(gaps, utterance, ("P", "B", "M")) == [1.0, 9.0]


def test_open_vowels_count_as_closed_only_if_never_open() -> None:
    from bench.articulation import OPEN, phone_maxima
    from dataset.phones import Utterance

    utterance = Utterance(id="test", seconds=0.6, phones=(("M", 0, 12), ("AH1", 12, 12), ("P", 24, 36)))
    gaps = np.array([0.5] * 4 + [6.0] + [0.5] * 10, np.float32)
    assert phone_maxima(gaps, utterance, OPEN) == [6.0]
    assert phone_maxima(np.full(15, 0.5, np.float32), utterance, OPEN) == [0.5]


def test_silence_is_long_and_quiet() -> None:
    """Far enough from its ends, and not a word that the labels lack."""
    from bench.articulation import is_loud, silent_frames
    from dataset.phones import Utterance

    phones = (("AA", 0, 100), ("SIL", 100, 60), ("AA", 160, 20), ("SIL", 180, 20))
    utterance = Utterance(id="test", seconds=2.0, phones=phones)
    assert silent_frames(utterance, 50) == list(range(28, 37)), "from 1120 to 1480 ms; the second is too short"
    speech = np.zeros(32_000, np.float32)
    speech[:16_000] = 0.1
    speech[640 * 33 : 640 * 34] = 0.1
    assert [k for k in silent_frames(utterance, 50) if is_loud(speech, k)] == [32, 33, 34]


def test_own_voice_is_that_of_most_filmed_speech(ada: Path) -> None:
    from bench.articulation import own_corpus

    avatar = load_avatar(ada)
    assert own_corpus(avatar) == "ljspeech"
    recipe = avatar.info["provenance"]["dataset"]
    info = {**avatar.info, "provenance": {"dataset": {**recipe, "speech": ["grid_s1/a", "ljspeech/b", "grid_s1/c"]}}}
    assert own_corpus(replace(avatar, info=info)) == "grid_s1"
