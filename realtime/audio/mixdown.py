"""Several channels -> the voice: their mean, one of them, or their difference, chosen over a whole recording.

A voice may be on one channel of two, the other empty or humming; or on both, but upside down on one of them (a balanced
line that was taken for stereo), so that their mean would be silence.

Shape letters: C channels, S samples, N short stretches of time, F frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray

STRETCHES_A_SECOND = 50
VOICE_HZ = 100.0, 4000.0
WHOLE_SECONDS, SOME = 20, 5  # so much of the beginning is listened to, then one second of so many
EMPTY = 1e-4  # of the loudest channel's power
INVERSE, ALIKE = -0.5, 0.3  # correlation with the channel of the voice
NO_VOICE = 0.1  # of the voice in the channel that has most of it
LOUDEST_POWER = 4  # values beyond 16 times full scale are not loud, but of another scale
RARE = 1e-4  # of the values
LEAST_VOICE = 1e-5  # of full scale: less is nobody


class ChannelSurvey:
    """What is heard on each channel of a recording, a second at a time."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._seconds = 0  # that went in
        self._products = np.zeros((channels, channels))  # sums of powers, in the band of the voice
        self._loudness = np.zeros(channels)  # sums over the seconds of the amplitude's mean, and its variance
        self._variance = np.zeros(channels)

    def add(self, values: FloatArray, rate: int) -> None:
        """Values [channels, n] of about a second."""
        self._seconds += 1
        if self._seconds > WHOLE_SECONDS and self._seconds % SOME:
            return
        size = rate // STRETCHES_A_SECOND
        count = values.shape[1] // size
        if count < 2:
            return
        stretches_CNS = values[:, : count * size].reshape(self.channels, count, size)
        band = slice(round(VOICE_HZ[0] * size / rate), 1 + round(VOICE_HZ[1] * size / rate))
        spectra_CNF = np.fft.rfft(stretches_CNS, axis=-1)[..., band] / size
        flat = spectra_CNF.reshape(self.channels, -1)
        self._products += (flat @ flat.conj().T).real
        amplitude_CN = np.sqrt((np.abs(spectra_CNF) ** 2).sum(-1))
        if count >= 6:  # syllables last longer than 60 ms, the ripple of a hum does not
            smooth = np.cumsum(np.pad(amplitude_CN, ((0, 0), (1, 0))), axis=1)
            amplitude_CN = (smooth[:, 3:] - smooth[:, :-3]) / 3
        self._loudness += amplitude_CN.mean(1)
        self._variance += amplitude_CN.var(1)

    @property
    def voice_C(self) -> FloatArray:
        """How much of a voice each channel has, in parts of full scale: loudness comes and goes, as syllables do."""
        return np.asarray(self._variance / np.maximum(self._loudness, 1e-12), np.float32)

    def mix(self) -> Mix:
        """Which channels are said, and with which sign."""
        even = np.full(self.channels, 1 / self.channels, np.float32)
        power_C = np.diag(self._products)
        if self.channels == 1 or not power_C.max() > 0:
            return Mix(even, ())
        there = power_C > EMPTY * power_C.max()
        voice_C = np.where(there, self.voice_C, 0)
        main = int(voice_C.argmax()) if voice_C.max() > 0 else int(power_C.argmax())
        scale_C = np.sqrt(np.maximum(power_C * power_C[main], 1e-30))
        correlation_C = self._products[:, main] / scale_C
        signs_C = np.where(correlation_C < INVERSE, -1.0, 1.0)
        strange = there & (np.abs(correlation_C) < ALIKE) & (voice_C < NO_VOICE * voice_C[main])
        kept = there & ~strange
        weights = np.asarray(np.where(kept, signs_C, 0) / kept.sum(), np.float32)
        return Mix(weights, self._told(kept, kept & (signs_C < 0)))

    def _told(self, kept: BoolArray, inverse: BoolArray) -> tuple[str, ...]:
        """What is said of it, one line each."""
        names = ["left", "right"] if self.channels == 2 else [f"channel {i + 1}" for i in range(self.channels)]

        def named(which: BoolArray) -> str:
            return ", ".join(name for name, is_so in zip(names, which, strict=True) if is_so)

        what, said = f"of {self.channels} channels", []
        if not kept.all():
            said.append(f"{what} {named(~kept)} without a voice (empty, hum or noise): {named(kept)} taken")
        if inverse.any():
            said.append(f"{what} {named(inverse)} upside down: turned before the mean is taken")
        return tuple(said)


@dataclass(frozen=True)
class Mix:
    """How channels become one."""

    weights_C: FloatArray
    repairs: tuple[str, ...]


def mixed(values: FloatArray, weights_C: FloatArray | None) -> FloatArray:
    """Values [channels, n] -> float32 [n]; without weights, or with those of another number of channels, their mean."""
    if weights_C is None or len(weights_C) != len(values):
        return np.asarray(values.mean(axis=0) if len(values) > 1 else values[0], np.float32)
    return np.asarray(weights_C @ values, np.float32)


class ScaleSurvey:
    """How large the values of a float recording are: some programs write integers as floats, without scaling them."""

    def __init__(self) -> None:
        self._counts = np.zeros(256, np.int64)  # of values whose power of two is i - 127

    def add(self, values: FloatArray) -> None:
        _, exponents = np.frexp(values[values != 0])
        self._counts += np.bincount(np.clip(exponents + 127, 0, 255), minlength=256)

    def full_scale(self) -> tuple[float, str]:
        """What stands for 1, and what is told if that is not 1: the scale of integers of 16, 24 or 32 bits that the
        values fill. A few wild values do not count.
        """
        total = int(self._counts.sum())
        beyond = np.cumsum(self._counts[::-1])[::-1]  # values of this power of two and above
        power = int(np.flatnonzero(beyond > RARE * total).max(initial=0)) - 127
        if total == 0 or not LOUDEST_POWER < power <= 32:
            return 1.0, ""
        bits = next(b for b in (16, 24, 32) if power <= b)
        scale = 2 ** (bits - 1)
        return float(scale), f"its values are integers of {bits} bits written as floats: divided by {scale}"
