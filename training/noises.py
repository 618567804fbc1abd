"""Noises to mix with speech: other voices, music, machines, clicks, hum; each float32 [samples] at 16 kHz."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from realtime.arrays import FloatArray
from realtime.contract import SAMPLE_RATE

SLOPES = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # of the amplitude over frequency
# What is mixed in, and how often. Voices and what sounds like them are hardest to tell from the speaker.
NOISES = {
    "babble": 0.34,
    "tones": 0.18,
    "modulated": 0.14,
    "clicks": 0.08,
    "hum": 0.05,
    "white": 0.07,
    "pink": 0.08,
    "brown": 0.06,
}
SILENT = 1e-6  # RMS below which there is nothing to scale


def noise(
    rng: np.random.Generator, samples: int, voices: Sequence[FloatArray], babble_voices: tuple[int, int]
) -> FloatArray:
    """Noise of unit RMS, one of NOISES; babble is made of `voices`, least to most of them (the latter excluded)."""
    kind = str(rng.choice(list(NOISES), p=list(NOISES.values())))
    if kind in SLOPES:
        spectrum = np.fft.rfft(rng.standard_normal(samples))
        spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** SLOPES[kind]
        sound = np.fft.irfft(spectrum, samples).astype(np.float32)
    elif kind == "hum":
        sound = hum(rng, samples)
    elif kind == "clicks":
        sound = clicks(rng, samples)
    elif kind == "tones":
        sound = tones(rng, samples)
    elif kind == "modulated":
        sound = modulated(rng, samples)
    else:
        sound = babble(rng, samples, voices, int(rng.integers(*babble_voices)))
    return np.asarray(sound / rms(sound), np.float32)


def babble(rng: np.random.Generator, samples: int, voices: Sequence[FloatArray], count: int) -> FloatArray:
    """`count` of the voices speaking at once, each equally loud."""
    sound = np.zeros(samples, np.float32)
    for _ in range(count):
        voice = voices[int(rng.integers(len(voices)))]
        sound += np.resize(np.roll(voice, -int(rng.integers(len(voice)))), samples) / max(rms(voice), 1e-3)
    return sound


def tones(rng: np.random.Generator, samples: int) -> FloatArray:
    """Sustained music: notes of up to twelve harmonics with vibrato, alone or in chords, legato or apart."""
    sound = np.zeros(samples, np.float64)
    at = -int(rng.uniform(0, 1) * SAMPLE_RATE)
    brightness, vibrato_hz, depth = rng.uniform(0.4, 2.5), rng.uniform(3, 8), rng.uniform(0, 0.015)
    while at < samples:
        length = int(rng.uniform(0.12, 1.6) * SAMPLE_RATE)
        time = np.arange(length) / SAMPLE_RATE
        attack, release = rng.uniform(0.01, 0.12), rng.uniform(0.05, 0.4)
        envelope = np.minimum(time / attack, 1) * np.minimum((time[-1] - time) / release, 1)
        note = np.zeros(length)
        for _ in range(rng.integers(1, 4)):
            hz = 55 * 2 ** (rng.integers(0, 49) / 12)
            phase = 2 * np.pi * hz * time + depth * hz / vibrato_hz * np.sin(2 * np.pi * vibrato_hz * time)
            for harmonic in range(1, min(12, int(7000 / hz)) + 1):
                note += rng.uniform(0.2, 1) / harmonic**brightness * np.sin(harmonic * phase + rng.uniform(0, 6.3))
        first, end = max(0, at), min(samples, at + length)
        if end > first:
            sound[first:end] += (note * envelope)[first - at : end - at]
        at += int(length * rng.uniform(0.5, 1.3))
    return np.asarray(sound + 1e-3 * rng.standard_normal(samples), np.float32)


def modulated(rng: np.random.Generator, samples: int) -> FloatArray:
    """Wind, traffic, machines, rustling: a band of noise that swells and fades, 1 to 12 times a second."""
    hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    centre, octaves = 2 ** rng.uniform(7, 12.3), rng.uniform(0.4, 2.5)
    response = np.exp(-0.5 * (np.log2(np.maximum(hz, 20) / centre) / octaves) ** 2)
    sound = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * response, samples)
    knots = rng.uniform(-1, 1, max(3, int(samples / SAMPLE_RATE * rng.uniform(1, 12)) + 2))
    level_db = rng.uniform(3, 20) * np.interp(np.linspace(0, len(knots) - 1, samples), np.arange(len(knots)), knots)
    return np.asarray(sound * 10 ** (level_db / 20), np.float32)


def clicks(rng: np.random.Generator, samples: int) -> FloatArray:
    """A keyboard: bursts of a few milliseconds, each with a resonance of its own, over a faint hiss."""
    sound = 0.01 * rng.standard_normal(samples)
    for at in rng.integers(0, samples, max(1, rng.poisson(rng.uniform(4, 14) * samples / SAMPLE_RATE))):
        length = min(int(rng.uniform(0.004, 0.025) * SAMPLE_RATE), samples - int(at))
        time = np.arange(length) / SAMPLE_RATE
        ring = np.sin(2 * np.pi * rng.uniform(700, 5000) * time) + rng.standard_normal(length)
        sound[at : at + length] += rng.uniform(0.3, 1) * ring * np.exp(-time / rng.uniform(0.0008, 0.006))
    return np.asarray(sound, np.float32)


def hum(rng: np.random.Generator, samples: int) -> FloatArray:
    """Mains hum: eight harmonics of 50 or 60 Hz."""
    hz = rng.choice([50.0, 60.0]) * np.arange(1, 9)[:, None]
    time = np.arange(samples) / SAMPLE_RATE
    waves = rng.uniform(0, 1, (8, 1)) * np.sin(2 * np.pi * hz * time + rng.uniform(0, 2 * np.pi, (8, 1)))
    return np.asarray(waves.sum(0), np.float32)


def rms(sound_S: FloatArray) -> float:
    """Root mean square, never under SILENT."""
    return max(float(np.sqrt(np.mean(np.square(sound_S, dtype=np.float64)))), SILENT)
