"""Samples of every common kind become the same speech; all others are refused in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from realtime.audio.pcm import mono_samples, sample_rate
from realtime.audio.resampler import SpeechConverter
from realtime.errors import MiravoxError

WAVE = 0.5 * np.sin(np.arange(1000) / 7)


@pytest.mark.parametrize(
    ("samples", "error"),
    [
        (WAVE, 1e-7),
        (WAVE.astype(np.float32), 1e-7),
        (WAVE.astype(np.float16), 1e-3),
        (WAVE.astype(">f4"), 1e-7),
        ((WAVE * 2**15).astype(np.int16), 2**-15),
        ((WAVE * 2**31).astype(np.int32), 1e-7),
        ((WAVE * 2**7 + 128).astype(np.uint8), 2**-7),
        (WAVE.tolist(), 1e-7),
        (np.stack([WAVE, WAVE], 1), 1e-7),
        (np.stack([1.5 * WAVE, 0.5 * WAVE], 1).astype(np.float32), 1e-7),
        (np.asfortranarray(np.stack([WAVE] * 8, 1)), 1e-7),
        (np.repeat(WAVE, 2)[::2], 1e-7),
        (WAVE[::-1].copy()[::-1], 1e-7),
    ],
    ids=lambda value: f"{getattr(value, 'dtype', type(value).__name__)}{list(np.shape(value))}",
)
def test_kinds_agree(samples: Any, error: float) -> None:
    found = mono_samples(samples)
    assert found.dtype == np.float32 and found.shape == (1000,) and found.flags.c_contiguous
    assert np.abs(found - WAVE).max() <= error


def test_the_extremes_of_integers_are_full_scale() -> None:
    assert mono_samples(np.array([-(2**15), 0, 2**15 - 1], np.int16)).tolist() == [-1, 0, np.float32(1 - 2**-15)]
    assert mono_samples(np.array([0, 128, 255], np.uint8)).tolist() == [-1, 0, 127 / 128]


def test_nan_and_infinity_become_silence_and_loud_samples_are_clipped() -> None:
    assert mono_samples([np.nan, np.inf, -np.inf, 3.0, -7.5, 0.25]).tolist() == [0, 0, 0, 1, -1, 0.25]
    assert mono_samples([[np.nan, 0.5], [9.0, 0.0]]).tolist() == [0.25, 0.5]


@pytest.mark.parametrize("empty", [[], np.zeros(0, np.int16), np.zeros((0, 2))])
def test_no_samples_are_no_speech(empty: Any) -> None:
    assert mono_samples(empty).shape == (0,)


def test_the_result_is_a_copy() -> None:
    samples = np.zeros(4, np.float32)
    found = mono_samples(samples)
    samples[:] = 1
    assert not found.any()


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros((2, 1000)), "[2, 1000]; wanted [n] or [n, channels] of .* Transpose them"),
        (np.zeros((1000, 9)), "[1000, 9]"),
        (np.zeros((1000, 0)), "[1000, 0]"),
        (np.zeros((1, 2, 3)), "[1, 2, 3]"),
        (0.5, "the shape []"),
        (np.zeros(3, np.int64), "values of type int64"),
        (np.zeros(3, np.uint16), "values of type uint16"),
        (np.zeros(3, bool), "values of type bool"),
        (np.zeros(3, complex), "values of type complex128"),
        (np.zeros(3, np.longdouble), "values of type"),
        (b"RIFF", "the shape []"),
        (None, "the shape []"),
        ([None], "values of type object"),
        (["1"], "values of type <U1"),
        ([[1.0], [1.0, 2.0]], "no array"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_others_are_refused(samples: Any, words: str) -> None:
    with pytest.raises(MiravoxError, match=words.replace("[", r"\[").replace("]", r"\]")):
        mono_samples(samples)


@pytest.mark.parametrize("rate", [4_000, 24_000, np.int64(48_000), 44_100.0, np.float32(16_000), 384_000])
def test_rates(rate: Any) -> None:
    assert sample_rate(rate) == rate and type(sample_rate(rate)) is int


@pytest.mark.parametrize(
    "rate",
    [0, -16_000, 3_999, 384_001, 22_050.5, float("nan"), float("inf"), True, "16000", None, 16j, 10**400],
    ids=lambda rate: repr(rate)[:10],
)
def test_rates_that_cannot_be(rate: Any) -> None:
    with pytest.raises(MiravoxError, match="sample rate: found .* 4000 to 384000"):
        sample_rate(rate)


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100])
def test_speech_in_pieces_of_any_size_is_the_whole(rate: int) -> None:
    """As a network hands it over, in pieces of 1 to 8191 bytes, each with what was left of the sample before it."""
    rng = np.random.default_rng(0)
    data = (0.5 * np.sin(np.arange(2 * rate) / 9) * 2**15).astype("<i2").tobytes()
    convert, pieces, rest, at = SpeechConverter(), [], b"", 0
    while at < len(data):
        size = int(rng.choice([1, 777, 1025, 4095, 6000, 8191]))
        rest, at = rest + data[at : at + size], at + size
        whole = len(rest) // 2 * 2
        pieces.append(convert(mono_samples(np.frombuffer(rest[:whole], "<i2")), rate))
        rest = rest[whole:]
    found = np.concatenate([*pieces, convert.finish()])
    once = SpeechConverter()
    wanted = np.concatenate([once(mono_samples(np.frombuffer(data, "<i2")), rate), once.finish()])
    assert len(found) == len(wanted) == pytest.approx(32_000, abs=2)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
