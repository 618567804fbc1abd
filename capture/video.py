"""Any recording that FFmpeg reads -> takes: upright 8-bit frames at 25 a second, and the speech that they show.

A recording's clock begins with its first picture. Frame k of a take shows the picture that is nearest to 40 k ms on it,
and the speech of the same take has 640 samples for each frame, whenever the sound itself begins and ends.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from capture.decoding import pictures, speech
from capture.recording import Recording, probe
from realtime.arrays import ByteArray, FloatArray
from realtime.contract import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME

FRAME_PIXELS = 512  # side of the frames that an avatar is trained on


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A square of the upright picture, resampled to size x size pixels. What lies outside is the nearest pixel's."""

    left: int  # pixels of the upright picture
    top: int
    side: int
    size: int = FRAME_PIXELS

    def __call__(self, frame: ByteArray) -> ByteArray:
        height, width = frame.shape[:2]
        right, bottom = self.left + self.side, self.top + self.side
        piece = frame[max(0, self.top) : min(height, bottom), max(0, self.left) : min(width, right)]
        margins = (max(0, -self.top), max(0, bottom - height), max(0, -self.left), max(0, right - width))
        if any(margins):
            piece = np.asarray(cv2.copyMakeBorder(piece, *margins, cv2.BORDER_REPLICATE), np.uint8)
        if self.side == self.size:
            return np.ascontiguousarray(piece)
        method = cv2.INTER_AREA if self.side > self.size else cv2.INTER_LANCZOS4
        return np.asarray(cv2.resize(piece, (self.size, self.size), interpolation=method), np.uint8)

    def to_crop(self, points: FloatArray) -> FloatArray:
        """Points [..., 2] of the upright picture -> of the cropped frame."""
        return np.asarray((points - (self.left, self.top)) * (self.size / self.side), np.float32)

    def from_crop(self, points: FloatArray) -> FloatArray:
        """Points [..., 2] of the cropped frame -> of the upright picture."""
        return np.asarray(points * (self.side / self.size) + (self.left, self.top), np.float32)


@dataclass(frozen=True)
class Frames:
    """Frames of a recording, decoded anew each time they are iterated over: uint8 [H, W, 3] sRGB."""

    recording: Recording
    first: int  # on the recording's clock, 25 a second
    end: int
    crop: Crop | None

    def __len__(self) -> int:
        return self.end - self.first

    def __iter__(self) -> Iterator[ByteArray]:
        for picture in pictures(self.recording, self.first, self.end):
            yield picture if self.crop is None else self.crop(picture)


@dataclass(frozen=True, kw_only=True)
class Take:
    """An uninterrupted piece of a recording."""

    name: str
    recording: Recording
    first: int  # frames first .. end - 1 of the recording's clock
    end: int
    speech: FloatArray  # [640 * frame_count] 16 kHz mono, of the same moments; zeros where there is no sound
    crop: Crop | None = None

    @property
    def frames(self) -> Frames:
        """Iterable again and again; each pass decodes."""
        return Frames(self.recording, self.first, self.end, self.crop)

    @property
    def frame_count(self) -> int:
        return self.end - self.first

    @property
    def width(self) -> int:
        return self.recording.width if self.crop is None else self.crop.size

    @property
    def height(self) -> int:
        return self.recording.height if self.crop is None else self.crop.size

    def piece(self, name: str, first: int, end: int) -> Take:
        """Frames first .. end - 1 of this take as a take of its own."""
        speech = self.speech[first * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME]
        return dataclasses.replace(self, name=name, first=self.first + first, end=self.first + end, speech=speech)

    def cropped(self, crop: Crop) -> Take:
        return dataclasses.replace(self, crop=crop)

    def shifted(self, seconds: float) -> Take:
        """The same pictures with a sound that comes `seconds` later (negative: sooner); silence where none is left."""
        samples = round(seconds * SAMPLE_RATE)
        speech = np.zeros_like(self.speech)
        if samples >= 0:
            speech[samples:] = self.speech[: len(speech) - samples]
        else:
            speech[:samples] = self.speech[-samples:]
        return dataclasses.replace(self, speech=speech)


def open_take(path: Path, name: str = "") -> Take:
    """A recording as one take, uncropped: its packets are read, its sound is decoded, its pictures not yet.

    Raises MiravoxError if the file is missing, unreadable, cut off, or shows no moving pictures.
    """
    recording = probe(path)
    end = max(1, math.floor(recording.seconds * FRAME_RATE + 0.01))
    sound = speech(recording, end * SAMPLES_PER_FRAME)
    return Take(name=name or path.stem, recording=recording, first=0, end=end, speech=sound)
