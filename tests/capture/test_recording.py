"""Footage as phones, browsers and screen recorders write it: several tracks, odd channels, pictures that change."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest

from capture.video import Crop, Take, open_take
from realtime.arrays import ByteArray, FloatArray
from realtime.errors import MiravoxError
from tests.audio.test_sound_plan import undecodable
from tests.sounds import hum, voice

SAID = voice(2.0)
NOTHING = np.zeros_like(SAID)


def scene(width: int, height: int, frame: int) -> ByteArray:
    """A picture with a bright square in its middle, and one that moves along its lower edge."""
    picture = np.full((height, width, 3), 60, np.uint8)
    picture[height // 4 : height // 2, width // 4 : width // 2] = 220
    left = round(frame / 50 * width * 0.8)
    picture[round(height * 0.8) :, left : left + width // 10] = (30, 200, 30)
    return picture


def film(
    path: Path, sizes: list[tuple[int, int]], *tracks: FloatArray, layout: str = "mono", seconds: float = 2
) -> Path:
    """A film whose picture has one size after another, for equal times, and sound tracks [n] or [n, 2] at 16 kHz."""
    codec = "libx264" if path.suffix != ".webm" else "libvpx"
    options = {"preset": "ultrafast"} if codec == "libx264" else {"deadline": "realtime", "cpu-used": "8", "b": "2M"}
    frames = round(25 * seconds)
    with av.open(str(path), "w") as container:
        video = cast(av.VideoStream, container.add_stream(codec, rate=25))
        video.width, video.height, video.pix_fmt = *sizes[0], "yuv420p"
        sounds = [container.add_stream("aac", rate=48_000, layout=layout) for _ in tracks]
        packets: list[av.Packet[Any]] = []
        for part, (width, height) in enumerate(sizes):
            encoder = cast(av.VideoCodecContext, av.CodecContext.create(codec, "w"))
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base, encoder.options = Fraction(1, 25), options
            first = part * frames // len(sizes)
            pictures = range(first, (part + 1) * frames // len(sizes))
            for k in pictures:
                picture = av.VideoFrame.from_ndarray(scene(width, height, k), format="rgb24").reformat(format="yuv420p")
                picture.pts, picture.time_base = k, Fraction(1, 25)
                packets += encoder.encode(picture)
            packets += encoder.encode(None)
        for packet in packets:
            packet.stream = video
        for sound, track in zip(sounds, tracks, strict=True):
            planes = np.ascontiguousarray(track.reshape(len(track), -1).T)
            frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
            resampler = av.AudioResampler(sound.format, layout, 48_000, 1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                packets += sound.encode(piece)
            packets += sound.encode(None)
        for packet in sorted(packets, key=lambda p: ((p.pts or 0) * (p.time_base or 0), p.stream_index)):
            container.mux(packet)
    return path


def says(take: Take, wanted: FloatArray = SAID, level: float = 1.0) -> bool:
    """Whether its speech is the voice, by loudness over time, and as loud."""
    n = min(len(take.speech), len(wanted)) // 320 * 320
    one, other = (np.sqrt((x[:n].reshape(-1, 320) ** 2).mean(1)) for x in (take.speech, wanted))
    return bool(np.corrcoef(one, other)[0, 1] > 0.9 and abs(one.mean() / other.mean() / level - 1) < 0.2)


@pytest.mark.parametrize("broken", [0, 1])
def test_a_phone_s_spatial_track(tmp_path: Path, broken: int) -> None:
    """A track without a decoder, before the ordinary one or behind it: the check ended in an AttributeError."""
    take = open_take(undecodable(film(tmp_path / "a.mov", [(160, 120)], SAID, SAID), broken))
    assert says(take) and take.recording.sound == "aac 48000 Hz"
    (repair,) = take.recording.repairs
    assert repair == f"of 2 sound tracks FFmpeg cannot decode track {broken + 1}: track {2 - broken} is taken"


def test_the_voice_on_the_second_track(tmp_path: Path) -> None:
    """The first one is the desktop's, and silent: there was no sound."""
    take = open_take(film(tmp_path / "a.mkv", [(160, 120)], NOTHING, SAID))
    assert says(take) and "track 2 is taken" in take.recording.repairs[0]


def test_no_track_that_can_be_decoded_is_told(tmp_path: Path) -> None:
    take = open_take(undecodable(film(tmp_path / "a.mov", [(160, 120)], SAID), 0))
    assert not take.speech.any() and take.recording.sound == ""
    assert "cannot decode" in take.recording.repairs[0]


@pytest.mark.parametrize("other", [hum(2.0), NOTHING, -SAID], ids=["hum", "empty", "upside down"])
def test_a_lapel_microphone_on_the_left(tmp_path: Path, other: FloatArray) -> None:
    """The right channel hums, is empty, or is the left one upside down: the left alone is good."""
    take = open_take(film(tmp_path / "a.mp4", [(160, 120)], np.stack([SAID, other], 1), layout="stereo"))
    assert says(take) and len(take.recording.repairs) == 1


def test_an_ordinary_film_needs_no_repair(tmp_path: Path) -> None:
    take = open_take(film(tmp_path / "a.mp4", [(160, 120)], np.stack([SAID, SAID], 1), layout="stereo"))
    assert says(take) and take.recording.repairs == () and (take.width, take.height) == (160, 120)


@pytest.mark.parametrize(
    "sizes", [[(320, 240), (160, 120)], [(160, 120), (320, 240)], [(320, 240), (240, 180), (320, 240)]]
)
@pytest.mark.parametrize("ending", ["webm", "mkv"])
def test_a_picture_that_changes_its_size(tmp_path: Path, sizes: list[tuple[int, int]], ending: str) -> None:
    """A browser's recording becomes smaller on a poor network: the second half was cropped wrongly."""
    take = open_take(
        film(tmp_path / f"a.{ending}", sizes, SAID) if ending == "mkv" else film(tmp_path / "a.webm", sizes)
    )
    assert (take.width, take.height) == (320, 240) and take.frame_count == 50
    frames = list(take.frames)
    for k, frame in enumerate(frames):
        assert frame.shape == (240, 320, 3)
        wanted = scene(320, 240, k)
        assert np.abs(cv2.blur(frame, (9, 9)).astype(int) - cv2.blur(wanted, (9, 9))).mean() < 6, k
    (repair,) = take.recording.repairs
    assert repair.startswith("its picture changes its size (" + ", then ".join(f"{w} x {h}" for w, h in sizes) + ")")
    crop = Crop(left=80, top=60, side=80, size=80)
    for frame in take.cropped(crop).frames:
        assert frame[10:-10, 10:-10].mean() > 190, "the square stays where it is"


@pytest.mark.parametrize(
    "sizes", [[(320, 240), (240, 320)], [(320, 240), (240, 240)], [(240, 320), (320, 240), (240, 320)]]
)
def test_a_picture_that_is_turned_is_refused_in_words(tmp_path: Path, sizes: list[tuple[int, int]]) -> None:
    """A phone that is turned while it records."""
    take = open_take(film(tmp_path / "a.mkv", sizes))
    with pytest.raises(MiravoxError, match=f"at {50 // len(sizes) / 25:.2f} s, where others have .* Cut it there"):
        list(take.frames)
