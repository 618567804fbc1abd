"""Mel spectrogram of one window of speech (numpy). Live and training use this same code.

Wav2Lip's settings: pre-emphasis 0.97, n_fft = window = 800, hop 200, periodic Hann, 80 Slaney mel bands from 55 to
7600 Hz, magnitude in dB minus 20, floor -100 dB, scaled and clipped to [-4, 4].

Shape letters: see realtime/contract.py.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..arrays import FloatArray
from ..contract import MEL_BANDS, MEL_FRAMES, MEL_HOP, MEL_WINDOW, SAMPLE_RATE, SAMPLES_PER_FRAME, WINDOW_SAMPLES

PRE_EMPHASIS = 0.97
LOW_HZ, HIGH_HZ = 55.0, 7600.0
REFERENCE_DB, FLOOR_DB, MAX_ABS = 20.0, -100.0, 4.0


def hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's mel scale: linear below 1 kHz, logarithmic above."""
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1e-9) / 1000) * 27 / np.log(6.4))


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of hz_to_mel."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))


@cache
def mel_filters() -> FloatArray:
    """Triangular filters of unit area in Hz (Slaney), shape [401, 80] float32: bins x bands."""
    bins = np.linspace(0, SAMPLE_RATE / 2, MEL_WINDOW // 2 + 1)
    low_mel, high_mel = hz_to_mel(np.array([LOW_HZ, HIGH_HZ]))
    edges = mel_to_hz(np.linspace(low_mel, high_mel, MEL_BANDS + 2))
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / (centre - low)
    falling = (high - bins[:, None]) / (high - centre)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low), np.float32)


@cache
def hann_window() -> FloatArray:
    """Periodic Hann window, shape [800].

    Its first value is 0, so a frame never needs the sample before its own first one.
    """
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(MEL_WINDOW) / MEL_WINDOW), np.float32)


def mel_of_windows(windows_BS: FloatArray) -> FloatArray:
    """Mel spectrograms of windows of 3800 samples.

    Args:
        windows_BS: float32 [B, 3800], speech in [-1, 1]; no level normalisation is applied.

    Returns:
        float32 [B, 80, 16] in [-4, 4]; frame f covers samples 200 f .. 200 f + 799 of its window.
    """
    if windows_BS.shape[-1] != WINDOW_SAMPLES:
        raise ValueError(f"a window has {windows_BS.shape[-1]} samples; wanted {WINDOW_SAMPLES}")
    emphasised_BS = np.array(windows_BS, order="C")
    emphasised_BS[:, 1:] -= PRE_EMPHASIS * windows_BS[:, :-1]
    window, sample = emphasised_BS.strides
    frames_BFS: FloatArray = np.ndarray(
        (len(windows_BS), MEL_FRAMES, MEL_WINDOW),
        emphasised_BS.dtype,
        emphasised_BS.data,
        strides=(window, MEL_HOP * sample, sample),
    )
    magnitude = np.abs(np.fft.rfft(frames_BFS * hann_window(), axis=-1)).astype(np.float32)
    decibel_BFM = 20 * np.log10(np.maximum(magnitude @ mel_filters(), 1e-5)) - REFERENCE_DB
    scaled_BFM = np.clip(2 * MAX_ABS * (decibel_BFM - FLOOR_DB) / -FLOOR_DB - MAX_ABS, -MAX_ABS, MAX_ABS)
    return np.ascontiguousarray(scaled_BFM.transpose(0, 2, 1), np.float32)


def windows_of_take(speech: FloatArray, frames: int, lookahead_samples: int, first_frame: int = 0) -> FloatArray:
    """The windows of frames first_frame .. first_frame + frames - 1 of one take: zeros outside the take.

    Args:
        speech: float32 [n], the whole take, sample 0 at frame 0.
        lookahead_samples: the last sample of window k is 640 k + lookahead_samples - 1.

    Returns:
        float32 [frames, 3800].
    """
    ends = SAMPLES_PER_FRAME * np.arange(first_frame, first_frame + frames) + lookahead_samples
    padding = WINDOW_SAMPLES + SAMPLES_PER_FRAME * max(0, -first_frame)
    after = max(0, int(ends[-1]) - len(speech)) if frames else 0
    padded = np.concatenate([np.zeros(padding, np.float32), speech, np.zeros(after, np.float32)])
    starts = ends - WINDOW_SAMPLES + padding
    return (
        np.stack([padded[s : s + WINDOW_SAMPLES] for s in starts])
        if frames
        else np.zeros((0, WINDOW_SAMPLES), np.float32)
    )


assert MEL_WINDOW + (MEL_FRAMES - 1) * MEL_HOP == WINDOW_SAMPLES
