"""WAV files whose headers are wrong: the sound that is there is read, and a line says what was repaired."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from realtime.audio.sound_file import Speech, read_speech
from realtime.audio.wav_header import W64_RIFF, W64_TAIL
from realtime.errors import MiravoxError
from tests.sounds import chunk, form, noise, pcm16, riff

SOUND = noise(1.0)
DATA = pcm16(SOUND)


def read(path: Path, data: bytes) -> Speech:
    (path / "a.wav").write_bytes(data)
    return read_speech(path / "a.wav")


def is_sound(speech: Speech, times: int = 1) -> None:
    assert len(speech.samples) == times * len(SOUND)
    np.testing.assert_allclose(speech.samples, np.tile(SOUND, times), atol=1e-4)


@pytest.mark.parametrize("promised", [0, 2_000_000_000, 1_000_000_000, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0xFFFFFFFF])
@pytest.mark.parametrize("whole", [0, 0xFFFFFFFF, None, "consistent"])
def test_a_server_that_states_a_length_before_it_knows_it(
    tmp_path: Path, promised: int, whole: int | str | None
) -> None:
    """Streamed speech whose data chunk promises two billion bytes, or none: refused as cut off."""
    stated = min(promised + 36, 0xFFFFFFFF) if isinstance(whole, str) else whole
    speech = read(tmp_path, riff(form(), chunk(b"data", DATA, promised), stated=stated))
    is_sound(speech)
    (repair,) = speech.repairs
    assert repair == f"its header promises {promised} bytes of sound where 32000 are: they are read"


@pytest.mark.parametrize("promised", [2, 1001, 20_000, len(DATA) - 2])
def test_a_header_that_promises_less_than_there_is(tmp_path: Path, promised: int) -> None:
    """The rest was lost without a word."""
    speech = read(tmp_path, riff(form(), chunk(b"data", DATA, promised)))
    is_sound(speech)
    assert f"promises {promised} bytes" in speech.repairs[0]


def test_a_data_chunk_that_promises_more_than_the_whole_file_has(tmp_path: Path) -> None:
    """The outermost length is right: nothing was cut off."""
    speech = read(tmp_path, riff(form(), chunk(b"data", DATA, len(DATA) + 5000)))
    is_sound(speech)
    assert "promises 37000 bytes of sound where 32000 are" in speech.repairs[0]


def test_a_file_that_was_cut_off_is_still_refused(tmp_path: Path) -> None:
    whole = riff(form(), chunk(b"data", DATA))
    for length in (len(whole) - 2, len(whole) // 2, 1000):
        with pytest.raises(MiravoxError, match="cut off"):
            read(tmp_path, whole[:length])


@pytest.mark.parametrize("kind", [b"RF64", b"BW64"])
@pytest.mark.parametrize("promised", [len(DATA), 0, 2**40, 1000])
def test_lengths_of_64_bits(tmp_path: Path, kind: bytes, promised: int) -> None:
    sizes = chunk(b"ds64", struct.pack("<QQQI", 72 + promised, promised, promised // 2, 0))
    speech = read(tmp_path, riff(sizes, form(), chunk(b"data", DATA, 0xFFFFFFFF), stated=0xFFFFFFFF, kind=kind))
    is_sound(speech)
    assert bool(speech.repairs) == (promised != len(DATA))


@pytest.mark.parametrize("promised", [len(DATA), 0, 2**50, 1000])
def test_w64(tmp_path: Path, promised: int) -> None:
    wave_name = b"wave" + W64_TAIL
    parts = [W64_RIFF, struct.pack("<Q", 104 + len(DATA)), wave_name]
    parts += [b"fmt " + W64_TAIL, struct.pack("<Q", 24 + 16), form()[8:]]
    parts += [b"data" + W64_TAIL, struct.pack("<Q", 24 + promised if promised else 0), DATA]
    (tmp_path / "a.w64").write_bytes(b"".join(parts))
    speech = read_speech(tmp_path / "a.w64")
    is_sound(speech)
    assert bool(speech.repairs) == (promised != len(DATA))


LIST = chunk(b"LIST", b"INFOINAM" + struct.pack("<I", 6) + b"Title\0")


@pytest.mark.parametrize(
    "chunks",
    [
        (LIST, form(), chunk(b"data", DATA)),
        (form(), LIST, chunk(b"data", DATA)),
        (form(), chunk(b"data", DATA), LIST),
        (form(), chunk(b"note", b"odd"), chunk(b"data", DATA), chunk(b"id3 ", b"tag"), LIST),
        (form(), chunk(b"data", DATA), b"\0" * 12),
    ],
    ids=["text first", "text between", "text behind", "odd chunks", "padding behind"],
)
def test_chunks_in_odd_places_need_no_repair(tmp_path: Path, chunks: tuple[bytes, ...]) -> None:
    speech = read(tmp_path, riff(*chunks))
    is_sound(speech)
    assert speech.repairs == ()


def test_the_format_behind_the_sound(tmp_path: Path) -> None:
    is_sound(read(tmp_path, riff(chunk(b"data", DATA), form())))


def test_an_odd_chunk_without_its_padding(tmp_path: Path) -> None:
    is_sound(read(tmp_path, riff(form(), chunk(b"note", b"odd", pad=False), chunk(b"data", DATA))))


def test_text_behind_sound_of_unknown_length_is_not_heard(tmp_path: Path) -> None:
    is_sound(read(tmp_path, riff(form(), chunk(b"data", DATA, 0xFFFFFFFF), LIST)))


def test_half_a_sample_at_the_end_is_left_out(tmp_path: Path) -> None:
    is_sound(read(tmp_path, riff(form(), chunk(b"data", DATA + b"\x11"))))


def test_a_header_that_was_saved_as_sound(tmp_path: Path) -> None:
    """A whole header plays as a click before the speech. It is left out, and told."""
    speech = read(tmp_path, riff(form(), chunk(b"data", riff(form(), chunk(b"data", b"", 200)) + DATA)))
    is_sound(speech)
    assert speech.repairs[0] == "its sound begins with a second header: left out"


def test_a_wav_without_a_sample_is_still_refused(tmp_path: Path) -> None:
    for data in (riff(form(), chunk(b"data", b"")), riff(form(), chunk(b"data", b""), LIST), riff(form()), b"RIFF"):
        with pytest.raises(MiravoxError):
            read(tmp_path, data)
