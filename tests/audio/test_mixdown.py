"""Several channels: the voice is heard as loud as it was said, whichever of them have it. Odd scales are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from realtime.arrays import FloatArray
from realtime.audio.mixdown import LEAST_VOICE, WHOLE_SECONDS, ChannelSurvey
from realtime.audio.sound_file import Speech, read_speech
from tests.sounds import encode, hum, noise, voice, write_float, write_pcm16

SAID = voice(4.0)
OTHER = voice(4.0, seed=1)
HUM = hum(4.0)
HISS = np.asarray(0.05 * np.random.default_rng(9).standard_normal(len(SAID)), np.float32)
NOTHING = np.zeros_like(SAID)


def read(folder: Path, *channels: FloatArray) -> Speech:
    return read_speech(write_pcm16(folder / "a.wav", 16_000, np.stack(channels, 1)))


@pytest.mark.parametrize(
    ("left", "right", "taken"),
    [
        (SAID, NOTHING, "right without a voice (empty, hum or noise): left taken"),
        (NOTHING, SAID, "left without a voice (empty, hum or noise): right taken"),
        (SAID, 0.002 * OTHER, "right without a voice (empty, hum or noise): left taken"),
        (SAID, HUM, "right without a voice (empty, hum or noise): left taken"),
        (HUM, 0.3 * SAID, "left without a voice (empty, hum or noise): right taken"),
        (SAID, HISS, "right without a voice (empty, hum or noise): left taken"),
    ],
    ids=["right empty", "left empty", "crosstalk", "right hums", "loud hum on the left", "right hisses"],
)
def test_a_voice_on_one_channel(tmp_path: Path, left: FloatArray, right: FloatArray, taken: str) -> None:
    """The voice was 6 dB down beside an empty channel, and drowned beside a humming one."""
    speech = read(tmp_path, left, right)
    wanted = left if "left taken" in taken else right
    np.testing.assert_allclose(speech.samples, wanted, atol=1e-4)
    assert speech.repairs == (f"of 2 channels {taken}",)


@pytest.mark.parametrize("loudness", [1.0, 0.5])
def test_a_balanced_line_that_was_taken_for_stereo(tmp_path: Path, loudness: float) -> None:
    """Right is left upside down: their mean was silence."""
    speech = read(tmp_path, SAID, np.float32(-loudness) * SAID)
    np.testing.assert_allclose(speech.samples, SAID * (1 + loudness) / 2, atol=1e-4)
    assert speech.repairs == ("of 2 channels right upside down: turned before the mean is taken",)


@pytest.mark.parametrize(
    ("left", "right"),
    [(SAID, SAID), (SAID, OTHER), (SAID, 0.3 * SAID), (NOTHING, NOTHING), (HUM, HUM), (SAID + HISS, SAID - HISS)],
    ids=["the same", "two voices", "to one side", "silence", "hum", "one room"],
)
def test_otherwise_the_mean_and_nothing_is_told(tmp_path: Path, left: FloatArray, right: FloatArray) -> None:
    speech = read(tmp_path, left, right)
    np.testing.assert_allclose(speech.samples, (left + right) / 2, atol=1e-4)
    assert speech.repairs == ()


def test_three_of_four_channels(tmp_path: Path) -> None:
    speech = read(tmp_path, NOTHING, SAID, -SAID, HUM)
    np.testing.assert_allclose(speech.samples, SAID, atol=1e-4)
    assert [r.partition(" channels ")[2] for r in speech.repairs] == [
        "channel 1, channel 4 without a voice (empty, hum or noise): channel 2, channel 3 taken",
        "channel 3 upside down: turned before the mean is taken",
    ]


def test_the_whole_recording_decides(tmp_path: Path) -> None:
    """The one who asks is on the left in the first second, the one who answers on the right in the next ten."""
    left, right = voice(1.0), voice(10.0, 1)
    a, b = np.zeros(11 * 16_000, np.float32), np.zeros(11 * 16_000, np.float32)
    a[:16_000], b[16_000:] = left, right
    speech = read(tmp_path, a, b)
    np.testing.assert_allclose(speech.samples, (a + b) / 2, atol=1e-4)


def test_a_codec_with_two_channels(tmp_path: Path) -> None:
    speech = read_speech(encode(tmp_path / "a.m4a", "aac", SAID, 44_100, "stereo"))
    assert speech.repairs == () and np.abs(speech.samples).max() > 0.3


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loudness", [1.0, 0.02])
def test_integers_that_were_written_as_floats(tmp_path: Path, bits: int, dtype: type, loudness: float) -> None:
    """They were cut off at one, all of them: a square wave."""
    said = np.float32(loudness) * noise(1.0)
    scale = 2.0 ** (bits - 1)
    speech = read_speech(write_float(tmp_path / "a.wav", (said * scale).astype(dtype)))
    found = speech.samples * np.float32(np.abs(said).max() / np.abs(speech.samples).max())
    np.testing.assert_allclose(found, said, atol=1e-5)
    assert "written as floats: divided by" in speech.repairs[0]
    if loudness == 1:
        np.testing.assert_allclose(speech.samples, said, atol=1e-5)


@pytest.mark.parametrize("loudness", [1e-3, 1.0, 2.0, 8.0])
def test_floats_that_are_quiet_or_loud_are_not_rescaled(tmp_path: Path, loudness: float) -> None:
    said = np.float32(loudness) * noise(1.0)
    speech = read_speech(write_float(tmp_path / "a.wav", said))
    np.testing.assert_allclose(speech.samples, np.clip(said, -1, 1), atol=1e-6)
    assert speech.repairs == ()


def test_a_wild_value_does_not_change_the_scale(tmp_path: Path) -> None:
    said = noise(1.0)
    said[500] = 30_000
    speech = read_speech(write_float(tmp_path / "a.wav", said))
    np.testing.assert_allclose(speech.samples, np.clip(said, -1, 1), atol=1e-6)


def test_a_quiet_voice_and_a_click_stay_as_they_are(tmp_path: Path) -> None:
    """Speech 54 dB down, and a click at full scale before it: both were right, and are."""
    click = np.concatenate([np.full(320, 1.0), np.zeros(8000), 0.002 * SAID]).astype(np.float32)
    for values in (np.float32(0.004) * SAID, click):
        speech = read_speech(write_pcm16(tmp_path / "a.wav", 16_000, values[:, None]))
        np.testing.assert_allclose(speech.samples, values, atol=1e-4)
        assert speech.repairs == ()


def test_a_voice_is_as_loud_in_a_long_recording_as_in_a_short_one() -> None:
    """Of a long one only some seconds are looked at; a quiet voice must not become nobody for its length."""
    time_s = np.arange(16_000) / 16_000
    second = (0.01 * np.sin(2 * np.pi * 300 * time_s) * (np.sin(2 * np.pi * 3 * time_s) > 0))[None].astype(np.float32)
    found = []
    for seconds in (3, 2 * WHOLE_SECONDS):
        survey = ChannelSurvey(1)
        for _ in range(seconds):
            survey.add(second, 16_000)
        found.append(float(survey.voice_C[0]))
    assert found[0] == pytest.approx(found[1], rel=1e-4) and found[0] > LEAST_VOICE
