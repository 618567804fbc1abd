"""Recordings of every manner become upright frames at 25 a second, and the speech of the same moments."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from capture.video import Crop, open_take
from realtime.errors import MiravoxError
from tests.conftest import ROOT
from tests.films import RATE, ByteArray, write_film


def counted(frame: int) -> ByteArray:
    """A picture that tells its number in five bright or dark fields, and which corner is its upper left."""
    picture = np.full((120, 160, 3), 40, np.uint8)
    for bit in range(8):
        if frame >> bit & 1:
            picture[40:80, 16 * bit + 16 : 16 * bit + 32] = 220
    picture[:20, :20] = (220, 30, 30)
    return picture


def number(picture: ByteArray) -> int:
    """What `counted` wrote."""
    return sum(int(picture[60, 16 * bit + 24].mean() > 130) << bit for bit in range(8))


def ticks(seconds: float, at: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Silence with a burst of 10 ms at each of some moments."""
    sound = np.zeros(round(seconds * RATE), np.float32)
    for moment in at:
        start = round(moment * RATE)
        sound[start : start + 160] = 0.8 * np.sin(np.arange(160) * 0.7)
    return sound


def test_frames_and_speech_are_on_one_clock(tmp_path: Path) -> None:
    take = open_take(write_film(tmp_path / "a.mp4", map(counted, range(50)), ticks(2, [1.2])))
    assert (take.width, take.height, take.frame_count, len(take.speech)) == (160, 120, 50, 32_000)
    assert [number(f) for f in take.frames] == list(range(50))
    assert [number(f) for f in take.frames] == list(range(50)), "frames can be read again"
    assert abs(int(np.abs(take.speech).argmax()) - 1.2 * RATE) < 250
    piece = take.piece("p", 30, 40)
    assert [number(f) for f in piece.frames] == list(range(30, 40))
    assert np.array_equal(piece.speech, take.speech[30 * 640 : 40 * 640])
    assert abs(int(np.abs(take.shifted(-0.3).speech).argmax()) - 0.9 * RATE) < 250
    assert abs(int(np.abs(take.shifted(0.3).speech).argmax()) - 1.5 * RATE) < 250


@pytest.mark.parametrize("rate", [24, 30, 50, 60])
def test_any_frame_rate(tmp_path: Path, rate: int) -> None:
    """Frame k shows the picture nearest to 40 k ms."""
    take = open_take(write_film(tmp_path / "a.mp4", map(counted, range(2 * rate)), rate=rate))
    shown = [number(f) for f in take.frames]
    assert len(shown) == 50 and take.recording.frame_rate == pytest.approx(rate, rel=0.02)
    assert all(abs(n / rate - k / 25) <= 0.5 / rate + 0.001 for k, n in enumerate(shown))


def test_variable_frame_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = np.round(np.cumsum(rng.uniform(0.01, 0.07, 60)), 3)
    times -= times[0]
    take = open_take(write_film(tmp_path / "a.mkv", map(counted, range(60)), ticks(2.4, [0.5]), times=times.tolist()))
    assert take.recording.variable
    shown = [number(f) for f in take.frames]
    nearest = [np.abs(times - k / 25).min() for k in range(len(shown))]
    assert all(abs(times[n] - k / 25) <= nearest[k] + 0.0011 for k, n in enumerate(shown))
    assert abs(int(np.abs(take.speech).argmax()) - 0.5 * RATE) < 250


def test_sound_that_begins_later(tmp_path: Path) -> None:
    """Sound and picture start at different times in the file; what is heard stays beside what is seen."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        frame = av.AudioFrame.from_ndarray((ticks(1, [0.4]) * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts = RATE, 8000
        container.mux(sound.encode(frame))
        for k in range(50):
            picture = av.VideoFrame.from_ndarray(counted(k), format="rgb24")
            picture.pts = k + 5
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    take = open_take(path)  # pictures from 0.2 s on, sound from 0.5 s on
    assert [number(f) for f in take.frames] == list(range(50))
    assert not take.speech[: round(0.29 * RATE)].any()
    assert abs(int(np.abs(take.speech).argmax()) - 0.7 * RATE) < 250


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotated_phone_video(tmp_path: Path, turns: int) -> None:
    """The picture lies on its side in the file, whose metadata tells a player how to turn it."""
    lying = [np.ascontiguousarray(np.rot90(counted(k), turns)) for k in range(5)]
    take = open_take(write_film(tmp_path / "a.mp4", lying, rotation=-90 * turns))
    assert (take.width, take.height) == (160, 120)
    frames = list(take.frames)
    assert [number(f) for f in frames] == list(range(5))
    assert frames[0][5, 5, 0] > 150 > frames[0][5, 5, 1]


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(2)
        for k in range(5):
            container.mux(video.encode(av.VideoFrame.from_ndarray(counted(k), format="rgb24")))
        container.mux(video.encode(None))
    take = open_take(path)
    assert (take.width, take.height) == (320, 120)
    assert next(iter(take.frames)).shape == (120, 320, 3)


def test_ten_bits_and_the_matrix(tmp_path: Path) -> None:
    """Colours come back from 10-bit video, whichever of the two matrices is meant."""
    colors = np.zeros((64, 256, 3), np.uint8)
    colors[:] = np.repeat([[200, 120, 90], [60, 60, 200], [30, 160, 60], [230, 230, 230]], 64, 0)
    options = {"preset": "ultrafast", "x265-params": "log-level=none:qp=4"}
    ten = write_film(tmp_path / "a.mp4", [colors] * 3, codec="libx265", pixels="yuv420p10le", options=options)
    take = open_take(ten)
    assert take.recording.bits == 10
    found = next(iter(take.frames))
    assert found.dtype == np.uint8
    assert np.abs(found[32, 32::64].astype(int) - colors[32, 32::64]).max() <= 6


def test_hdr_becomes_sdr(tmp_path: Path) -> None:
    """Hybrid log-gamma, as phones record it: a grey ramp stays one; paper, three quarters of the signal, is white."""
    transfer, white = 18, 0.75
    path = tmp_path / "a.mp4"
    ramp = np.repeat(np.linspace(0, white, 16), 16)
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "x265-params": "log-level=none:qp=4"}
        video = container.add_stream("libx265", rate=25, options=options)
        video.width, video.height, video.pix_fmt = 256, 64, "yuv420p10le"
        context = video.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 1
        for k in range(3):
            picture = av.VideoFrame(256, 64, "yuv420p10le")
            for plane, level in zip(
                picture.planes, (64 + 876 * ramp, np.full(128, 512), np.full(128, 512)), strict=True
            ):
                rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                rows[:, : len(level)] = level
                plane.update(rows.tobytes())
            picture.color_trc, picture.color_primaries, picture.colorspace, picture.color_range = transfer, 9, 9, 1
            picture.pts = k
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    take = open_take(path)
    assert take.recording.hdr and take.recording.bits == 10
    shown = next(iter(take.frames))[32, 8::16].astype(int)
    assert np.ptp(shown, axis=1).max() <= 3, "grey stays grey"
    assert (np.diff(shown[:, 1]) >= 0).all() and shown[-1, 1] >= 235 and 50 <= shown[8, 1] <= 150


def test_interlaced_video(tmp_path: Path) -> None:
    """A bar that moves from field to field has no comb."""

    def field(x: int) -> ByteArray:
        picture = np.zeros((288, 360, 3), np.uint8)
        picture[100:180, x : x + 60] = 255
        return picture

    woven = [field(4 * k) for k in range(20)]
    for k, frame in enumerate(woven):
        frame[1::2] = field(4 * k + 4)[1::2]
    take = open_take(write_film(tmp_path / "a.mkv", woven, options={"x264-params": "interlaced=1:qp=4"}))
    assert take.recording.interlaced

    def comb(frame: ByteArray) -> float:
        return float(np.abs(np.diff(frame[120:160, :, 1].astype(int), axis=0)).mean())

    assert comb(list(take.frames)[10]) < 0.3 * comb(woven[10])


def test_crop(tmp_path: Path) -> None:
    """A crop beyond the picture repeats its edge; points go there and back."""
    take = open_take(write_film(tmp_path / "a.mp4", [counted(3)] * 3))
    crop = Crop(left=-20, top=10, side=80, size=160)
    frame = next(iter(take.cropped(crop).frames))
    assert frame.shape == (160, 160, 3)
    wanted = np.pad(next(iter(take.frames)), ((0, 0), (20, 0), (0, 0)), "edge")[10:90, :80]
    assert np.abs(cv2.resize(frame, (80, 80), interpolation=cv2.INTER_AREA).astype(int) - wanted).mean() < 2
    points = np.array([[0.0, 0.0], [60.0, 90.0]], np.float32)
    assert np.allclose(crop.to_crop(points), [[40, -20], [160, 160]])
    assert np.allclose(crop.from_crop(crop.to_crop(points)), points)


def test_what_is_no_video(tmp_path: Path, data_folder: Path) -> None:
    good = write_film(tmp_path / "good.mp4", map(counted, range(100)), ticks(4, [1])).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.mp4").write_text("no video at all\n" * 99)
    (tmp_path / "empty.mp4").touch()
    cv2.imwrite(str(tmp_path / "still.png"), counted(1))
    sound = next((data_folder / "speech" / "ljspeech").glob("*.flac"))
    for path in (*tmp_path.glob("[cte]*.mp4"), tmp_path / "still.png", tmp_path / "none.mp4", tmp_path, sound):
        with pytest.raises(MiravoxError) as raised:
            list(open_take(path).frames)
        assert path.name in raised.value.thing and raised.value.remedy


def test_damage_is_told(tmp_path: Path) -> None:
    """Not painted over: a few hundred bytes in the middle are noise."""
    rng = np.random.default_rng(0)
    small = (rng.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(100))
    noise = [np.asarray(cv2.resize(picture, (160, 120)), np.uint8) for picture in small]
    data = bytearray(write_film(tmp_path / "a.mp4", noise).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 800] = rng.integers(0, 256, 800, dtype=np.uint8).tobytes()
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(MiravoxError, match="damaged"):
        list(open_take(tmp_path / "a.mp4").frames)


def test_a_video_that_was_cut_off(tmp_path: Path) -> None:
    """Matroska can be read up to where it ends; its header tells that there should be more."""
    data = write_film(tmp_path / "a.mkv", map(counted, range(100)), ticks(4, [1])).read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) // 2])
    with pytest.raises(MiravoxError, match="cut off"):
        list(open_take(tmp_path / "a.mkv").frames)


def test_looking_for_faces_opens_no_sound_card() -> None:
    """MediaPipe comes with an audio library that opens PortAudio as soon as it is imported."""
    code = "import sys, numpy; from capture.landmarks import detect; detect([numpy.zeros((64, 64, 3), numpy.uint8)])"
    done = subprocess.run([sys.executable, "-c", f"{code}; sys.exit('sounddevice' in sys.modules)"], cwd=ROOT)
    assert done.returncode == 0
