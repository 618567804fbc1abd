"""Several sound tracks: the one on which somebody speaks is taken, and what FFmpeg cannot decode is passed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from realtime.arrays import FloatArray
from realtime.audio.sound_file import read_speech
from realtime.errors import MiravoxError
from tests.sounds import hum, voice, write_tracks

SAID = voice(4.0)
NOTHING = np.zeros_like(SAID)
NOTES = np.asarray(
    sum(0.2 * np.sin(2 * np.pi * f * np.arange(len(SAID)) / 16_000) for f in (220, 277, 330)), np.float32
)


def is_said(samples: FloatArray) -> bool:
    """Whether it is the voice, by its loudness over time."""
    n = min(len(samples), len(SAID)) // 320 * 320
    one, other = (np.sqrt((x[:n].reshape(-1, 320) ** 2).mean(1)) for x in (samples, SAID))
    return float(np.corrcoef(one, other)[0, 1]) > 0.8


@pytest.mark.parametrize("first", [NOTHING, hum(4.0), NOTES], ids=["silence", "hum", "notes"])
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_a_screen_recording_whose_first_track_is_the_desktop(tmp_path: Path, first: FloatArray, ending: str) -> None:
    """The silent first track was taken, and nothing was said."""
    speech = read_speech(write_tracks(tmp_path / f"a.{ending}", first, SAID))
    assert is_said(speech.samples)
    assert speech.repairs == ("of 2 sound tracks track 2 is taken: nobody speaks on track 1",)


def test_of_two_voices_the_first_track(tmp_path: Path) -> None:
    speech = read_speech(write_tracks(tmp_path / "a.mkv", SAID, voice(4.0, 1)))
    assert is_said(speech.samples) and speech.repairs == ()


def test_silence_is_told_with_the_number_of_tracks(tmp_path: Path) -> None:
    speech = read_speech(write_tracks(tmp_path / "a.mkv", NOTHING, NOTHING, NOTHING))
    assert speech.repairs == ("of 3 sound tracks none has a voice: track 1 is taken",)


def undecodable(path: Path, *tracks: int) -> Path:
    """Makes AAC tracks of a MOV file into ones that FFmpeg has no decoder for, as phones record them beside AAC."""
    data = bytearray(path.read_bytes())
    index = data.rfind(b"moov")
    found = [
        at for at in range(index, len(data) - 4) if data[at : at + 4] == b"mp4a" and data[at - 12 : at - 8] != b"esds"
    ]
    entries = [at for at in found if b"stsd" in data[at - 20 : at]]
    for track in tracks:
        at = entries[track]
        box = data.find(b"esds", at)
        data[at : at + 4], data[box : box + 4] = b"apac", b"dapa"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("broken", [0, 1])
def test_a_phone_s_spatial_track(tmp_path: Path, broken: int) -> None:
    """A track without a decoder, before the ordinary one or behind it."""
    path = undecodable(write_tracks(tmp_path / "a.mov", SAID, SAID), broken)
    speech = read_speech(path)
    assert is_said(speech.samples)
    wanted = f"of 2 sound tracks FFmpeg cannot decode track {broken + 1}: track {2 - broken} is taken"
    assert speech.repairs == (wanted,)


def test_no_track_that_can_be_decoded_is_refused_in_words(tmp_path: Path) -> None:
    for tracks in ((SAID,), (SAID, SAID)):
        path = undecodable(write_tracks(tmp_path / "a.mov", *tracks), *range(len(tracks)))
        with pytest.raises(MiravoxError, match="cannot decode"):
            read_speech(path)
