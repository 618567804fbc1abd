"""Every kind of recording, whole and broken, through read_speech. The files are made here."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.arrays import FloatArray
from realtime.audio.block import Block
from realtime.audio.sound_file import blocks, read_speech
from realtime.errors import MiravoxError
from tests.sounds import encode, noise, tone, write_float, write_pcm16


def error_of(path: Path) -> MiravoxError:
    with pytest.raises(MiravoxError) as caught:
        read_speech(path)
    error = caught.value
    assert error.thing == str(path) and error.found and error.wanted and error.remedy
    assert "\n" not in str(error)
    return error


def best_lag(found: FloatArray, wanted: FloatArray, reach: int = 40) -> tuple[int, float]:
    """By how many samples `found` comes late, and the RMS that is left then."""
    n = min(len(found), len(wanted)) - 2 * reach
    middle = wanted[reach : reach + n]
    left = {lag: float(np.sqrt(np.mean((found[reach + lag :][:n] - middle) ** 2))) for lag in range(-reach, reach)}
    lag = min(left, key=lambda k: left[k])
    return lag, left[lag]


# Whole recordings


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 96_000])
def test_every_rate_gives_the_same_tone(tmp_path: Path, rate: int) -> None:
    speech = read_speech(write_pcm16(tmp_path / "a.wav", rate, tone(0.5, rate)[:, None]))
    assert speech.samples.dtype == np.float32 and speech.bad_samples == 0
    assert len(speech.samples) == pytest.approx(8000, abs=1) and speech.seconds == pytest.approx(0.5, abs=1e-4)
    lag, left = best_lag(speech.samples, tone(0.5), 8)
    assert lag == 0 and left < 0.01


@pytest.mark.parametrize("channels", [1, 2, 6, 7, 12, 32])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    weights = np.linspace(0.2, 1, channels, dtype=np.float32)
    speech = read_speech(write_pcm16(tmp_path / "a.wav", 16_000, tone(0.1)[:, None] * weights))
    np.testing.assert_allclose(speech.samples, tone(0.1) * weights.mean(), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout", "video"),
    [
        ("a.mp3", "libmp3lame", 44_100, "stereo", False),
        ("a.flac", "flac", 96_000, "mono", False),
        ("a.m4a", "aac", 44_100, "stereo", False),
        ("a.opus", "libopus", 48_000, "mono", False),
        ("a.webm", "libopus", 48_000, "stereo", False),
        ("a.mka", "aac", 48_000, "mono", False),
        ("a.aiff", "pcm_s16be", 16_000, "mono", False),
        ("u8.wav", "pcm_u8", 8_000, "mono", False),
        ("s24.wav", "pcm_s24le", 48_000, "stereo", False),
        ("s32.wav", "pcm_s32le", 16_000, "mono", False),
        ("f64.wav", "pcm_f64le", 16_000, "mono", False),
        ("a.mp4", "aac", 48_000, "mono", True),
        ("a.mkv", "libmp3lame", 44_100, "mono", True),
    ],
)
def test_every_format_keeps_the_speech_in_time(
    tmp_path: Path, name: str, codec: str, rate: int, layout: str, video: bool
) -> None:
    wanted = noise(2)
    speech = read_speech(encode(tmp_path / name, codec, wanted, rate, layout, video))
    assert speech.bad_samples == 0 and np.abs(speech.samples).max() <= 1
    assert 2 <= speech.seconds < 2.1, "an encoder pads its last frame"
    lag, left = best_lag(speech.samples, wanted)
    assert abs(lag) <= 1 and left < 0.03 * np.sqrt(2), "within 0.1 ms"


@pytest.mark.parametrize(("rate", "samples"), [(16_000, 1), (8_000, 1), (96_000, 1), (44_100, 3), (16_000, 639)])
def test_very_short_sources(tmp_path: Path, rate: int, samples: int) -> None:
    speech = read_speech(write_pcm16(tmp_path / "a.wav", rate, np.full((samples, 1), 0.5, np.float32)))
    assert len(speech.samples) == max(1, round(samples * 16_000 / rate))
    assert np.isfinite(speech.samples).all()


def test_silence_stays_silence(tmp_path: Path) -> None:
    speech = read_speech(write_pcm16(tmp_path / "a.wav", 44_100, np.zeros((44_100, 2), np.float32)))
    assert len(speech.samples) == 16_000 and not speech.samples.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity_become_silence_and_are_counted(tmp_path: Path, dtype: type) -> None:
    values: NDArray[np.floating] = tone(0.2).astype(dtype)
    bad = {10: np.nan, 11: np.inf, 999: -np.inf}
    for index, value in bad.items():
        values[index] = value
    speech = read_speech(write_float(tmp_path / "a.wav", values))
    wanted = tone(0.2)
    wanted[list(bad)] = 0
    assert speech.bad_samples == 3
    np.testing.assert_allclose(speech.samples, wanted, atol=1e-6)


def test_a_source_of_nothing_but_nan_is_silence(tmp_path: Path) -> None:
    speech = read_speech(write_float(tmp_path / "a.wav", np.full(1600, np.nan, np.float32)))
    assert speech.bad_samples == 1600 and len(speech.samples) == 1600 and not speech.samples.any()


def test_values_out_of_range_are_clipped(tmp_path: Path) -> None:
    speech = read_speech(write_float(tmp_path / "a.wav", np.array([0.5, 3.0, -1e300, 1e300], np.float64)))
    np.testing.assert_allclose(speech.samples, [0.5, 1, -1, 1])
    assert speech.bad_samples == 0


def test_blocks_are_stamped_and_lose_nothing() -> None:
    speech = np.arange(1000, dtype=np.float32)
    pieces = list(blocks(speech, 640))
    assert all(isinstance(b, Block) for b in pieces)
    assert [(b.start, len(b.samples)) for b in pieces] == [(0, 640), (640, 360)]
    np.testing.assert_array_equal(np.concatenate([b.samples for b in pieces]), speech)


# Broken ones


def test_missing(tmp_path: Path) -> None:
    assert error_of(tmp_path / "none.wav").found == "no such file"
    assert error_of(tmp_path).found == "a folder"


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert error_of(tmp_path / "a.wav").found == "an empty file"


def test_a_wav_without_samples(tmp_path: Path) -> None:
    error = error_of(write_pcm16(tmp_path / "a.wav", 16_000, np.zeros((0, 1), np.float32)))
    assert "without a sample" in error.found or "no recording" in error.found


@pytest.mark.parametrize("name", ["a.txt", "a.wav", "a.mp3", "a.flac", "a.m4a", "noending"])
@pytest.mark.parametrize("content", [b"This is no sound at all.\n" * 300, bytes(range(256)) * 40])
def test_not_audio(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    found = error_of(tmp_path / name).found
    assert "no recording" in found or "damaged" in found or "without a sample" in found


def test_a_picture_is_no_recording(tmp_path: Path) -> None:
    encode_picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8))
    encode_picture.save(tmp_path / "a.png")
    assert "no recording" in error_of(tmp_path / "a.png").found


@pytest.mark.parametrize("name", ["a.m3u8", "a.wav"])
def test_a_playlist_opens_nothing_else(tmp_path: Path, name: str) -> None:
    write_pcm16(tmp_path / "other.wav", 16_000, tone(0.1)[:, None])
    (tmp_path / name).write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nother.wav\n#EXT-X-ENDLIST\n")
    assert "no recording" in error_of(tmp_path / name).found


def test_video_only(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        picture = container.add_stream("libx264", rate=25)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(picture.encode(None))
    assert error_of(tmp_path / "a.mp4").found == "video streams only"


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize(
    ("name", "codec", "rate", "video"),
    [
        ("a.wav", "pcm_s16le", 16_000, False),
        ("a.mp3", "libmp3lame", 44_100, False),
        ("a.flac", "flac", 44_100, False),
        ("a.opus", "libopus", 48_000, False),
        ("a.m4a", "aac", 44_100, False),
        ("a.mp4", "aac", 48_000, True),
        ("a.mov", "pcm_s16le", 48_000, True),
        ("a.webm", "libopus", 48_000, False),
        ("a.mkv", "aac", 48_000, True),
    ],
)
def test_cut_off(tmp_path: Path, name: str, codec: str, rate: int, video: bool, share: float) -> None:
    whole = encode(tmp_path / name, codec, noise(4), rate, video=video).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    found = error_of(tmp_path / name).found
    assert "cut off" in found or "breaks off" in found or "without a sample" in found


def test_a_wav_that_promises_more_than_there_is(tmp_path: Path) -> None:
    path = write_pcm16(tmp_path / "a.wav", 16_000, tone(0.5)[:, None])
    path.write_bytes(path.read_bytes()[:-1000])
    assert (
        error_of(path).found == "a file that was cut off or damaged (15044 bytes, 1000 fewer than its header promises)"
    )


def test_a_wav_from_a_pipe_states_no_length_and_is_whole(tmp_path: Path) -> None:
    data = bytearray(write_pcm16(tmp_path / "a.wav", 16_000, tone(0.5)[:, None]).read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(data)
    assert len(read_speech(tmp_path / "a.wav").samples) == 8000


def test_a_wav_with_another_chunk_before_the_data(tmp_path: Path) -> None:
    data = write_pcm16(tmp_path / "a.wav", 16_000, tone(0.5)[:, None]).read_bytes()
    note = struct.pack("<4sI", b"note", 5) + b"hello\0"
    (tmp_path / "a.wav").write_bytes(data[:36] + note + data[36:])
    assert len(read_speech(tmp_path / "a.wav").samples) == 8000
    (tmp_path / "a.wav").write_bytes(data[:36] + note + data[36:-2])
    assert "2 fewer than its header promises" in error_of(tmp_path / "a.wav").found


def test_an_mp3_with_a_tag_in_front_is_whole_or_cut_off(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.mp3", "libmp3lame", noise(2), 44_100).read_bytes()
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 10]) + bytes(2 * 128 + 10)
    start = data.index(b"\xff\xfb")
    (tmp_path / "a.mp3").write_bytes(tag + data[start:])
    assert read_speech(tmp_path / "a.mp3").seconds == pytest.approx(2, abs=0.1)
    (tmp_path / "a.mp3").write_bytes(tag + data[start : len(data) // 2])
    assert "cut off" in error_of(tmp_path / "a.mp3").found


@pytest.mark.parametrize(("name", "codec"), [("a.flac", "flac"), ("a.mp3", "libmp3lame"), ("a.m4a", "aac")])
def test_damage_in_the_middle(tmp_path: Path, name: str, codec: str) -> None:
    data = bytearray(encode(tmp_path / name, codec, noise(4), 44_100).read_bytes())
    middle, count = len(data) // 2, len(data) // 5
    data[middle : middle + count] = bytes(count)
    (tmp_path / name).write_bytes(data)
    assert "damaged" in error_of(tmp_path / name).found


def test_a_recording_longer_than_allowed_is_refused(tmp_path: Path) -> None:
    path = write_pcm16(tmp_path / "long.wav", 16_000, tone(3)[:, None])
    assert read_speech(path, max_seconds=3.5).seconds == 3
    with pytest.raises(MiravoxError, match="more than 2 s of sound; wanted 2 s at most"):
        read_speech(path, max_seconds=2.0)
