"""Sound of any rate and layout -> 16 kHz mono float32, piece by piece, without a seam between the pieces (PyAV)."""

from __future__ import annotations

import av
import numpy as np

from ..arrays import FloatArray
from ..contract import SAMPLE_RATE

# How much faster or slower a stream may be played to correct a sound card's clock: inaudible.
SPEED_STEP = 0.005


class StreamResampler:
    """Mono float32 at `rate` Hz -> mono float32 at 16 kHz, at a speed of 1 - 0.005, 1 or 1 + 0.005 of the original."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.speed = 0  # -1, 0 or 1 steps
        self.held_samples = 0.0  # at 16 kHz: went in and has not come out yet
        self._resampler = self._make()

    def _make(self) -> av.AudioResampler | None:
        if self._claimed_rate == SAMPLE_RATE:
            return None
        return av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)

    @property
    def _claimed_rate(self) -> int:
        """Sound that claims a higher rate than it has comes out shorter."""
        return round(self.rate * (1 + SPEED_STEP * self.speed))

    def set_speed(self, speed: int) -> FloatArray:
        """Changes the speed from the next piece on; returns the few samples that the old setting still held back."""
        if speed == self.speed:
            return np.zeros(0, np.float32)
        rest = self._run(None)
        self.speed, self.held_samples = speed, 0.0
        self._resampler = self._make()
        return rest

    def __call__(self, samples: FloatArray) -> FloatArray:
        """float32 [n] -> float32 [about n * 16000 / rate]."""
        if self._resampler is None or not len(samples):
            return samples
        self.held_samples += len(samples) * SAMPLE_RATE / self._claimed_rate
        carrier = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
        carrier.sample_rate = self._claimed_rate
        return self._run(carrier)

    def finish(self) -> FloatArray:
        """The few samples that are still held back; nothing goes in any more."""
        return self._run(None)

    def _run(self, carrier: av.AudioFrame | None) -> FloatArray:
        if self._resampler is None:
            return np.zeros(0, np.float32)
        pieces = [np.asarray(out.to_ndarray()[0], np.float32) for out in self._resampler.resample(carrier)]
        speech = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        self.held_samples -= len(speech)
        return speech


class SpeechConverter:
    """Mono samples of any rate, which may change from piece to piece -> 16 kHz in [-1, 1], all of them finite."""

    def __init__(self) -> None:
        self.resampler = StreamResampler(SAMPLE_RATE)
        self.bad_samples = 0  # NaN or infinite so far: silenced

    def restart(self) -> None:
        """What comes next does not go on from what came before."""
        self.resampler = StreamResampler(SAMPLE_RATE)

    def held_samples(self, rate: int) -> int:
        """How many 16 kHz samples will come out, ahead of those of a next piece at that rate, that went in before."""
        return round(self.resampler.held_samples) if rate == self.resampler.rate else 0

    def __call__(self, samples: FloatArray, rate: int) -> FloatArray:
        """float32 [n] at `rate` Hz -> float32 [about n * 16000 / rate]."""
        if rate != self.resampler.rate:
            self.resampler = StreamResampler(rate)
        if not np.isfinite(samples).all():
            good = np.isfinite(samples)
            self.bad_samples += int(samples.size - np.count_nonzero(good))
            samples = np.where(good, samples, np.float32(0))
        return np.clip(self.resampler(samples), -1, 1)

    def finish(self) -> FloatArray:
        """The last few samples of what came before, [n]: what comes next does not go on from it."""
        rest = np.clip(self.resampler.finish(), -1, 1)
        self.restart()
        return rest

    def set_speed(self, speed: int) -> FloatArray:
        """As StreamResampler.set_speed."""
        return np.clip(self.resampler.set_speed(speed), -1, 1)


def mono(frame: av.AudioFrame) -> tuple[FloatArray, int]:
    """The mean of a frame's channels as float32 [n] in [-1, 1], and how many values were not finite.

    By hand, since the resampler refuses channel layouts that have no name, and would smear a NaN over its neighbours.
    """
    values = frame.to_ndarray()
    if values.dtype == np.int16 and frame.layout.nb_channels == 2 and not frame.format.is_planar:  # a browser's
        left, right = values[0, 0::2].astype(np.float32), values[0, 1::2]
        left += right
        left *= np.float32(0.5 / 32768)
        return left, 0
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype == np.uint8:
        return ((values.astype(np.float32) - 128) / 128).mean(axis=0), 0
    if np.issubdtype(values.dtype, np.integer):
        return (values.astype(np.float32) / np.float32(2 ** (8 * values.itemsize - 1))).mean(axis=0), 0
    good = np.isfinite(values)
    bad = int(values.size - np.count_nonzero(good))
    clipped = np.clip(np.where(good, values, 0) if bad else values, -1, 1)
    return clipped.mean(axis=0, dtype=np.float32), bad
