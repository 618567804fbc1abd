"""Short films for the tests of capture: clips of the data folder joined, spoilt and written in every manner."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np

from capture.video import open_take
from realtime.arrays import ByteArray, FloatArray

RATE = 16_000
FRAME_SAMPLES = 640


def clips(data_folder: Path, count: int, first: int = 0) -> tuple[list[ByteArray], FloatArray]:
    """Frames (360 x 288, 25 a second) and speech of clips of one speaker, one after another."""
    takes = [open_take(p) for p in sorted((data_folder / "portrait" / "grid_s1").glob("*.mpg"))[first : first + count]]
    return [f for t in takes for f in t.frames], np.concatenate([t.speech for t in takes])


def write_film(
    path: Path,
    frames: Iterable[ByteArray],
    speech: FloatArray | None = None,
    *,
    rate: int = 25,
    times: list[float] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: int = 0,
    options: dict[str, str] | None = None,
    sound_rate: int = RATE,
) -> Path:
    """Writes a film and returns its path.

    Args:
        times: when each frame is shown, seconds; by default one after another at `rate`.
        rotation: degrees, as metadata: what a player turns the picture by.
    """
    with av.open(str(path), "w") as container:
        video = cast(
            av.VideoStream,
            container.add_stream(codec, rate=rate, options=options or {"preset": "ultrafast", "crf": "12"}),
        )
        video.codec_context.time_base = Fraction(1, 1000)
        video.pix_fmt = pixels
        if rotation:
            video.set_display_rotation(rotation)
        sound = container.add_stream("aac", rate=48_000, layout="mono") if speech is not None else None
        for k, frame in enumerate(frames):
            if k == 0:
                video.height, video.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixels)
            picture.pts, picture.time_base = round(1000 * (times[k] if times else k / rate)), Fraction(1, 1000)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if sound is not None and speech is not None:
            wave = av.AudioFrame.from_ndarray(speech[None], format="flt", layout="mono")
            wave.sample_rate, wave.pts, wave.time_base = sound_rate, 0, Fraction(1, sound_rate)
            resampler = av.AudioResampler(sound.format, "mono", 48_000, 1024)
            for piece in [*resampler.resample(wave), *resampler.resample(None)]:
                container.mux(sound.encode(piece))
            container.mux(sound.encode(None))
    return path


def covered(frames: list[ByteArray], first: int, end: int) -> list[ByteArray]:
    """A hand-sized thing of the skin's colour before the mouth in frames first .. end - 1."""
    skin = frames[0][150, 150].astype(np.float32)
    rng = np.random.default_rng(0)
    spoilt = [f.copy() for f in frames]
    for k in range(first, end):
        palm = np.zeros((70, 100, 3), np.float32) + skin * 0.9
        palm += cv2.GaussianBlur(rng.normal(0, 60, (70, 100, 1)), (0, 0), 6)[..., None]
        for finger in range(4):
            cv2.line(palm, (0, 14 + 16 * finger), (99, 10 + 16 * finger), tuple(float(c) * 0.6 for c in skin), 2)
        spoilt[k][190:260, 100:200] = np.clip(palm, 0, 255)
    return spoilt


def music(seconds: float) -> FloatArray:
    """Chords of a few overtones, in a slow beat."""
    t = np.arange(int(seconds * RATE)) / RATE
    sound = np.zeros_like(t)
    for beat in range(int(seconds * 2) + 1):
        for note in ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7))[beat // 4 % 4]:
            age = np.maximum(0, t - beat / 2)
            for overtone in (1, 2, 3):
                tone = np.sin(2 * np.pi * 220 * 2 ** (note / 12) * overtone * t)
                sound += tone / overtone * np.exp(-4 * age) * (t >= beat / 2)
    return np.asarray(0.3 * sound / np.abs(sound).max(), np.float32)


def cartoon(count: int) -> list[ByteArray]:
    """A drawn face whose mouth moves: flat colours, hard lines."""
    frames = []
    for k in range(count):
        frame = np.full((288, 360, 3), (120, 190, 230), np.uint8)
        cv2.ellipse(frame, (180, 150), (70, 95), 0, 0, 360, (245, 205, 170), -1)
        cv2.ellipse(frame, (180, 85), (75, 45), 0, 180, 360, (90, 60, 30), -1)
        for x in (150, 210):
            cv2.ellipse(frame, (x, 130), (15, 9), 0, 0, 360, (255, 255, 255), -1)
            cv2.circle(frame, (x, 130), 6, (60, 90, 60), -1)
            cv2.ellipse(frame, (x, 112), (18, 5), 0, 180, 360, (70, 45, 20), 4)
        cv2.line(frame, (180, 140), (172, 172), (200, 150, 120), 3)
        cv2.line(frame, (172, 172), (188, 172), (200, 150, 120), 3)
        cv2.ellipse(frame, (180, 205), (28, 4 + int(8 * abs(np.sin(k / 3)))), 0, 0, 360, (180, 60, 60), -1)
        frames.append(frame)
    return frames
