"""Mel spectrogram: streaming equals offline, and both equal a slow, obvious one."""

from __future__ import annotations

import numpy as np
import pytest

from realtime.audio.block import Block
from realtime.audio.mel import mel_filters, mel_of_windows, windows_of_take
from realtime.audio.ring import AudioRing
from realtime.contract import MEL_FRAMES, MEL_HOP, MEL_WINDOW, SAMPLES_PER_FRAME, WINDOW_SAMPLES

LOOKAHEAD = 1800


def speech(samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / 16000
    tone = sum(0.2 / h * np.sin(2 * np.pi * 140 * h * t + h) for h in range(1, 20))
    return np.asarray(tone * (0.5 + 0.5 * np.sin(2 * np.pi * 3 * t)) + 0.01 * rng.standard_normal(samples), np.float32)


def slow_mel(window: np.ndarray) -> np.ndarray:
    """Wav2Lip's formula, written as it is described: float64, one frame at a time, a direct Fourier sum."""
    emphasised = np.concatenate([window[:1], window[1:] - 0.97 * window[:-1]]).astype(np.float64)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(MEL_WINDOW) / MEL_WINDOW)
    turns = np.outer(np.arange(MEL_WINDOW // 2 + 1), np.arange(MEL_WINDOW)) % MEL_WINDOW / MEL_WINDOW
    columns = []
    for frame in range(MEL_FRAMES):
        piece = emphasised[frame * MEL_HOP : frame * MEL_HOP + MEL_WINDOW] * hann
        magnitude = np.abs(np.exp(-2j * np.pi * turns) @ piece)
        decibel = 20 * np.log10(np.maximum(1e-5, magnitude @ mel_filters().astype(np.float64))) - 20
        columns.append(np.clip(8 * (decibel + 100) / 100 - 4, -4, 4))
    return np.stack(columns, 1)


def test_matches_the_slow_one() -> None:
    window = speech(WINDOW_SAMPLES)
    assert np.abs(mel_of_windows(window[None])[0] - slow_mel(window)).max() < 1e-4


def test_streaming_equals_offline() -> None:
    """Blocks of odd sizes through the ring give the mel that the whole take gives."""
    take = speech(16000)
    frames = len(take) // SAMPLES_PER_FRAME
    offline = mel_of_windows(windows_of_take(take, frames, LOOKAHEAD))
    padded = np.concatenate([take, np.zeros(LOOKAHEAD, np.float32)])
    ring = AudioRing(8000)
    rng = np.random.default_rng(1)
    start, frame, largest = 0, 0, 0.0
    while frame < frames:
        size = int(rng.integers(1, 700))
        ring.write(Block(start, padded[start : start + size]))
        start = min(start + size, len(padded))
        while frame < frames and frame * SAMPLES_PER_FRAME + LOOKAHEAD <= start:
            streamed = mel_of_windows(ring.window(frame * SAMPLES_PER_FRAME + LOOKAHEAD)[None])
            largest = max(largest, float(np.abs(streamed[0] - offline[frame]).max()))
            frame += 1
    assert largest < 1e-4


def test_a_window_ends_at_its_lookahead_and_is_zero_outside_the_take() -> None:
    take = np.arange(1, 5001, dtype=np.float32)
    windows = windows_of_take(take, 8, LOOKAHEAD, first_frame=-3)
    assert windows.shape == (8, WINDOW_SAMPLES)
    assert not windows[0].any()  # frame -3 ends at sample -120
    assert windows[3, -1] == take[LOOKAHEAD - 1] and windows[3, -LOOKAHEAD - 1] == 0
    end = 4 * SAMPLES_PER_FRAME + LOOKAHEAD  # frame 4: 4360, within the take
    assert windows[7, -1] == take[end - 1]
    assert windows_of_take(take, 10, LOOKAHEAD)[9, -1] == 0  # frame 9 ends beyond the take


def test_silence_is_the_floor_and_the_range_is_kept() -> None:
    assert (mel_of_windows(np.zeros((1, WINDOW_SAMPLES), np.float32)) == -4).all()
    loud = mel_of_windows(np.sign(speech(WINDOW_SAMPLES))[None])
    assert loud.max() <= 4 and loud.min() >= -4 and loud.max() > 1


def test_filters_are_slaneys() -> None:
    filters = mel_filters()
    hz = np.arange(filters.shape[0]) * 20.0
    peaks = hz[filters.argmax(0)]
    assert (np.diff(peaks) >= 0).all() and peaks[0] < 140 and 7300 < peaks[-1] < 7600
    area = filters.sum(0) * 20  # unit area in Hz, where bins are narrower than the filter
    assert area[40:] == pytest.approx(np.ones(40), abs=0.06)


def test_windows_may_be_a_view_and_none() -> None:
    speech = np.random.default_rng(5).normal(0, 0.1, 2 * WINDOW_SAMPLES).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(speech, WINDOW_SAMPLES)[::700]
    before = windows.copy()
    assert np.array_equal(mel_of_windows(windows), mel_of_windows(before)) and np.array_equal(windows, before)
    assert mel_of_windows(windows[:0]).shape == (0, 80, 16)


def test_a_window_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="3799"):
        mel_of_windows(np.zeros((1, WINDOW_SAMPLES - 1), np.float32))
