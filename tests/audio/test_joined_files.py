"""Sentences that were joined end to end, each with its own header: all of them are heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from realtime.audio import joined_files
from realtime.audio.sound_file import read_speech
from realtime.errors import MiravoxError
from tests.sounds import chunk, encode, form, pcm16, riff, voice, write_pcm16

JOINED = "3 recordings are joined, each with its own header: all of them are read"


@pytest.mark.parametrize(
    ("ending", "codec", "rate"),
    [
        ("mp3", "libmp3lame", 44_100),
        ("mp3", "libmp3lame", 24_000),
        ("opus", "libopus", 48_000),
        ("flac", "flac", 24_000),
        ("m4a", "aac", 44_100),
        ("webm", "libopus", 48_000),
        ("wav", "pcm_s24le", 44_100),
        ("aiff", "pcm_s16be", 16_000),
        ("au", "pcm_s16be", 16_000),
    ],
)
def test_three_sentences(tmp_path: Path, ending: str, codec: str, rate: int) -> None:
    """A decoder stopped after the first, or took the second header for damage."""
    said, whole = [], b""
    for k, seconds in enumerate((1.0, 0.7, 1.3)):
        path = encode(tmp_path / f"{k}.{ending}", codec, voice(seconds, k), rate)
        said.append(read_speech(path).samples)
        whole += path.read_bytes()
    (tmp_path / f"all.{ending}").write_bytes(whole)
    speech = read_speech(tmp_path / f"all.{ending}")
    wanted = np.concatenate(said)
    assert JOINED in speech.repairs
    assert len(speech.samples) == len(wanted)
    np.testing.assert_allclose(speech.samples, wanted, atol=1e-4)


@pytest.mark.parametrize("promised", [None, 0, 0xFFFFFFFF, 2_000_000_000])
def test_wav_whatever_the_lengths_say(tmp_path: Path, promised: int | None) -> None:
    pieces = [voice(0.5, k) for k in range(3)]
    data = b"".join(riff(form(), chunk(b"data", pcm16(piece), promised), stated=promised) for piece in pieces)
    (tmp_path / "a.wav").write_bytes(data)
    speech = read_speech(tmp_path / "a.wav")
    assert speech.repairs[0] == JOINED
    np.testing.assert_allclose(speech.samples, np.concatenate(pieces), atol=1e-4)


def test_rates_and_channels_may_differ(tmp_path: Path) -> None:
    one = write_pcm16(tmp_path / "1.wav", 16_000, voice(0.5)[:, None]).read_bytes()
    two = write_pcm16(tmp_path / "2.wav", 48_000, np.repeat(voice(0.5, 1, 48_000)[:, None], 2, 1)).read_bytes()
    (tmp_path / "a.wav").write_bytes(one + two + one)
    speech = read_speech(tmp_path / "a.wav")
    assert len(speech.samples) == 24_000
    np.testing.assert_allclose(speech.samples[:8000], voice(0.5), atol=1e-4)
    np.testing.assert_allclose(speech.samples[16_000:], voice(0.5), atol=1e-4)


def test_an_mp3_with_a_tag_behind_it(tmp_path: Path) -> None:
    """The old tag of 128 bytes lies between the sentences."""
    one = encode(tmp_path / "1.mp3", "libmp3lame", voice(1.0), 44_100)
    alone = read_speech(one).samples
    tagged = one.read_bytes() + b"TAG" + b"Title".ljust(125, b"\0")
    (tmp_path / "a.mp3").write_bytes(tagged * 2)
    speech = read_speech(tmp_path / "a.mp3")
    assert len(speech.repairs) == 1 and len(speech.samples) == pytest.approx(2 * len(alone), abs=1600)


@pytest.mark.parametrize(("ending", "codec"), [("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("m4a", "aac")])
def test_the_last_one_cut_off_is_still_refused(tmp_path: Path, ending: str, codec: str) -> None:
    data = encode(tmp_path / f"1.{ending}", codec, voice(2.0), 44_100).read_bytes()
    (tmp_path / f"a.{ending}").write_bytes(data + data[: len(data) // 2])
    with pytest.raises(MiravoxError, match="cut off|damaged|breaks off|no recording"):
        read_speech(tmp_path / f"a.{ending}")


@pytest.mark.parametrize(
    ("ending", "codec", "rate"),
    [("mp3", "libmp3lame", 44_100), ("opus", "libopus", 48_000), ("flac", "flac", 24_000), ("m4a", "aac", 44_100)],
)
def test_one_recording_is_one(tmp_path: Path, ending: str, codec: str, rate: int) -> None:
    assert read_speech(encode(tmp_path / f"a.{ending}", codec, voice(3.0), rate)).repairs == ()


def test_a_heap_of_headers_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined_files, "MAX_PARTS", 20)
    (tmp_path / "a.wav").write_bytes(riff(form(), chunk(b"data", pcm16(voice(0.1)))) * 21)
    with pytest.raises(MiravoxError, match="more than 20 recordings"):
        read_speech(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.wav", "pcm_s16le", 16_000),
        ("a.mp3", "libmp3lame", 44_100),
        ("a.flac", "flac", 24_000),
        ("a.opus", "libopus", 48_000),
        ("a.m4a", "aac", 44_100),
        ("a.webm", "libopus", 48_000),
    ],
)
def test_any_damage_is_repaired_or_refused_in_words(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    """Bytes of the headers changed at random, pieces taken out, put in twice: speech or one line, nothing else."""
    data = encode(tmp_path / name, codec, voice(0.5), rate).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(data * int(rng.integers(1, 3)))
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(0, 200 if rng.random() < 0.7 else len(broken)))
            broken[at % len(broken)] = int(rng.choice([0, 255, 127, 128, int(rng.integers(0, 256))]))
        if rng.random() < 0.4:
            first, end = sorted(rng.integers(0, len(broken), 2))
            broken[first:end] = broken[first:end] * int(rng.integers(0, 3))
        (tmp_path / name).write_bytes(broken)
        try:
            speech = read_speech(tmp_path / name, max_seconds=60)
            assert np.isfinite(speech.samples).all() and np.abs(speech.samples).max() <= 1
        except MiravoxError as error:
            assert "\n" not in str(error)


def test_files_that_are_all_headers_do_not_take_long(tmp_path: Path) -> None:
    """Made to be searched for ever: each is refused or read, and asks at most a few thousand times."""
    for name, piece in {
        "a.wav": b"RIFF\x24\0\0\0WAVEfmt ",
        "b.wav": riff(form(), b"junk\0\0\0\0"),
        "a.ogg": b"OggS\0\2" + bytes(22),
        "a.mp3": b"ID3\4\0\0\0\0\0\0\xff\xfb\x90\x00",
        "a.mp4": b"\0\0\0\x08ftyp\0\0\0\x08moov",
        "a.flac": b"fLaC\0\0\0\x22",
        "a.webm": b"\x1aE\xdf\xa3\x87\x42\x82\x84webm",
    }.items():
        (tmp_path / name).write_bytes(piece * (2_000_000 // len(piece)))
        with pytest.raises(MiravoxError):
            read_speech(tmp_path / name)
