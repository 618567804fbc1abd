"""What a recording may cost: memory, time, rates and channels are bounded, and nothing but sound is decoded."""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from realtime.audio import decoding_bounds, sound_decoder
from realtime.audio.sound_file import open_speech, read_speech
from realtime.errors import MiravoxError
from tests.conftest import ROOT, lacking
from tests.sounds import chunk, encode, form, pcm16, riff, voice, write_pcm16

READ = """
import json, resource, sys
from pathlib import Path
from realtime.audio.sound_file import open_speech, read_speech
from realtime.errors import MiravoxError
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
read_speech(Path(sys.argv[1]))
before = peak()
try:
    with open_speech(Path(sys.argv[2])) as speech:
        found = sum(map(len, speech.pieces())) / 16_000
except MiravoxError as error:
    found = str(error)
print(json.dumps([found, peak() - before]))
"""


def costs(small: Path, path: Path) -> tuple[float | str, float]:
    """Seconds of speech or the error, and megabytes that reading took, in a process that has read a small file."""
    if sys.platform != "linux":
        lacking("a peak of memory in KiB")
    done = subprocess.run([sys.executable, "-c", READ, small, path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, megabytes = json.loads(done.stdout)
    return found, megabytes


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pcm16(tmp_path_factory.mktemp("small") / "a.wav", 16_000, np.repeat(voice(1.0)[:, None], 2, 1))


def test_an_hour_in_a_small_file(tmp_path: Path, small: Path) -> None:
    """A FLAC of silence: an hour of it took half a gigabyte."""
    path = tmp_path / "a.flac"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        stream.codec_context.format = "s16"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for k in range(8000 * 3600 // 4608):
            frame.pts, frame.time_base = 4608 * k, Fraction(1, 8000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert path.stat().st_size < 1_000_000
    seconds, megabytes = costs(small, path)
    assert seconds == pytest.approx(3600, abs=1) and megabytes < 60


@pytest.mark.parametrize(("rate", "channels"), [(1, 1), (100, 1), (3999, 1), (400_000, 1), (655_350, 8), (16_000, 40)])
def test_rates_and_channels_that_no_speech_has(tmp_path: Path, rate: int, channels: int) -> None:
    """A WAV of one sample a second became half an hour; a FLAC claimed 655 kHz."""
    header = chunk(b"fmt ", struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16))
    (tmp_path / "a.wav").write_bytes(riff(header, chunk(b"data", bytes(2 * channels * 1800))))
    with pytest.raises(MiravoxError, match=rf"{rate} samples a second of {channels} channels; wanted 4000 to 384000"):
        read_speech(tmp_path / "a.wav")


def png(side: int) -> bytes:
    """A black picture of four bytes a pixel."""
    pack = zlib.compressobj(1)
    row = bytes(1 + 4 * side)
    data = b"".join(pack.compress(row) for _ in range(side)) + pack.flush()

    def part(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", data) + part(b"IEND", b"")


@pytest.mark.parametrize("ending", ["avi", "mov", "nut"])
@pytest.mark.parametrize("with_sound", [True, False])
def test_a_huge_picture_beside_the_sound_is_not_decoded(
    tmp_path: Path, small: Path, ending: str, with_sound: bool
) -> None:
    """It took two gigabytes."""
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("png", rate=1)
        picture.width = picture.height = 6000
        picture.pix_fmt = "rgba"
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono") if with_sound else None
        packet = av.Packet(png(6000))
        packet.stream, packet.pts, packet.dts, packet.time_base, packet.is_keyframe = picture, 0, 0, Fraction(1), True
        container.mux(packet)
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm16(voice(1.0)), np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts = 16_000, 0
            container.mux(sound.encode(frame))
    found, megabytes = costs(small, path)
    assert megabytes < 50  # the picture has 144
    assert found == 1.0 if with_sound else "video streams only" in str(found)


def test_only_decoders_of_sound(tmp_path: Path) -> None:
    names = sound_decoder.sound_codecs().split(",")
    assert {"aac", "flac", "mp3float", "opus", "pcm_s16le", "vorbis"} <= set(names)
    assert not {"png", "h264", "mjpeg", "vp8", "srt"} & set(names)


def test_reading_is_called_off(tmp_path: Path) -> None:
    """Decoding went on for a minute after the page had gone."""
    path = encode(tmp_path / "a.mp3", "libmp3lame", voice(20.0), 44_100, "stereo")
    for patience in (0, 1, 5, 15):
        answers = itertools.chain(itertools.repeat(False, patience), [True])
        with pytest.raises(MiravoxError, match="called off"):
            read_speech(path, cancelled=answers.__next__)  # a question after the answer would end in StopIteration
    assert read_speech(path, cancelled=lambda: False).seconds == pytest.approx(20, abs=0.1)


def test_sound_that_costs_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By this thread's own time of computing, so that a busy machine refuses nothing."""
    path, spent = write_pcm16(tmp_path / "a.wav", 16_000, voice(20.0)[:, None]), itertools.count(0, 4)
    monkeypatch.setattr(decoding_bounds.time, "thread_time", lambda: float(next(spent)))
    with pytest.raises(MiravoxError, match=r"s of computing for \d+ s of it"):
        read_speech(path)


def test_more_than_allowed_is_noticed_before_all_is_decoded(tmp_path: Path) -> None:
    path = write_pcm16(tmp_path / "a.wav", 16_000, np.repeat(voice(30.0)[:, None], 2, 1))
    asked = itertools.count()
    with pytest.raises(MiravoxError, match="more than 3 s of sound; wanted 3 s at most"):
        read_speech(path, 3.0, lambda: next(asked) < 0)
    assert next(asked) <= 6


def test_names_in_another_alphabet_are_no_fault(tmp_path: Path) -> None:
    """A title that is not UTF-8."""
    title = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"\xe9t\xe9\xff "))
    (tmp_path / "a.wav").write_bytes(riff(form(), title, chunk(b"data", pcm16(voice(0.5)))))
    assert len(read_speech(tmp_path / "a.wav").samples) == 8000


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_pieces_are_the_whole_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, channels: int
) -> None:
    """A long recording that is read piece by piece, after its file was removed, too."""
    monkeypatch.setattr("realtime.audio.sound_file.HELD_SECONDS", 2.0)
    path = write_pcm16(tmp_path / "a.wav", rate, np.repeat(voice(5.3, rate=rate)[:, None], channels, 1))
    wanted = read_speech(path).samples
    with open_speech(path) as speech:
        path.unlink()
        assert not speech.is_held and len(speech) == len(wanted) and speech.bad_samples == 0
        for _ in range(2):
            pieces = list(speech.pieces())
            assert max(map(len, pieces)) < 3 * 16_000
            np.testing.assert_allclose(np.concatenate(pieces), wanted, atol=1e-6)
