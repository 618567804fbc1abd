"""Noises are what they say, each as loud as any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from realtime.audio.sound_file import read_speech
from training.augment import AugmentConfig
from training.noises import babble, modulated, noise, rms, tones

SECOND = 16_000


@pytest.fixture(scope="module")
def speech(data_folder: Path) -> np.ndarray:
    return read_speech(data_folder / "speech" / "ljspeech" / "LJ001-0001.flac").samples[: 4 * SECOND]


def test_noise_has_unit_loudness(speech: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    kinds = [noise(rng, SECOND, [speech], AugmentConfig().babble_voices) for _ in range(40)]
    assert all(rms(kind) == pytest.approx(1, rel=1e-3) for kind in kinds)
    assert len({round(float(np.abs(k).max()), 1) for k in kinds}) > 10, "of many kinds"


def test_kinds_of_noise_are_what_they_say(speech: np.ndarray) -> None:
    rng = np.random.default_rng(5)

    def peak_over_median(sound: np.ndarray) -> float:
        spectrum = np.abs(np.fft.rfft(sound[SECOND : 2 * SECOND]))
        return float(spectrum.max() / np.median(spectrum))

    def level_range_db(sound: np.ndarray) -> float:
        levels = [20 * np.log10(rms(piece)) for piece in np.split(sound, 60)]
        return float(max(levels) - min(levels))

    white = np.asarray(rng.standard_normal(3 * SECOND), np.float32)
    assert peak_over_median(white) < 8 and level_range_db(white) < 3
    assert np.median([peak_over_median(tones(rng, 3 * SECOND)) for _ in range(9)]) > 100
    assert np.median([level_range_db(modulated(rng, 3 * SECOND)) for _ in range(9)]) > 6
    long = babble(rng, 20 * SECOND, [speech], 6)
    assert min(rms(quarter) for quarter in np.split(long, 4)) > 0.5 * rms(long), "voices go on to the end"
