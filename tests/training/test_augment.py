"""What augmentation may do to speech, and what it must not: move it in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("torch")

SECOND = 16_000


@pytest.fixture(scope="module")
def speech(data_folder: Path) -> np.ndarray:
    from realtime.audio.sound_file import read_speech

    return read_speech(data_folder / "speech" / "ljspeech" / "LJ001-0001.flac").samples[: 4 * SECOND]


@pytest.mark.parametrize("kbit", [12, 32])
def test_opus_keeps_time_and_loses_detail(speech: np.ndarray, kbit: int) -> None:
    from training.augment import opus

    coded = opus(speech, kbit)
    assert coded.shape == speech.shape and coded.dtype == np.float32
    middle = slice(SECOND, 3 * SECOND)
    best = max(range(-200, 201), key=lambda d: float(np.dot(np.roll(coded, -d)[middle], speech[middle])))
    assert abs(best) <= 8, "samples late"
    assert 0.7 < np.corrcoef(coded[middle], speech[middle])[0, 1] < 0.999


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_pitch_moves_and_time_does_not(speech: np.ndarray, factor: float) -> None:
    from training.augment import change_pitch, delay_of

    changed = change_pitch(speech, factor)
    assert changed.shape == speech.shape
    quarter = len(speech) // 4
    for start in (quarter, 2 * quarter):
        piece = slice(start, start + quarter)
        assert abs(delay_of(changed[piece], speech[piece])) <= 160, "10 ms"

    tone = np.asarray(0.3 * np.sin(2 * np.pi * 1000 * np.arange(2 * SECOND) / SECOND), np.float32)
    moved = np.abs(np.fft.rfft(change_pitch(tone, factor)[SECOND // 2 : SECOND * 3 // 2]))
    assert int(moved.argmax()) == pytest.approx(1000 * factor, abs=2), "Hz"


def test_rooms_add_a_tail_and_no_delay() -> None:
    from training.augment import AugmentConfig, room

    click = np.zeros(SECOND, np.float32)
    click[1000] = 1
    reverberant = room(np.random.default_rng(0), click, AugmentConfig(direct_db=(6, 6)))
    assert np.abs(reverberant[:1000]).max() < 1e-6 and int(np.abs(reverberant).argmax()) == 1000
    tail = float((reverberant[1001:] ** 2).sum())
    assert tail == pytest.approx(10**-0.6, rel=0.05), "6 dB under the direct sound"


def test_the_signal_to_noise_ratio_is_met(speech: np.ndarray) -> None:
    from training.augment import AugmentConfig, degrade
    from training.noises import rms

    rng = np.random.default_rng(1)
    only_noise = AugmentConfig(
        noise_share=1, snr_db=(9.99, 10, 10.01), room_share=0, band_share=0, opus_share=0, clip_share=0, gain_db=(0, 0)
    )
    quiet = np.asarray(0.1 * speech, np.float32)  # nothing clips
    added = np.asarray(degrade(rng, quiet, rms(quiet), [quiet], only_noise) - quiet, np.float32)
    assert 20 * np.log10(rms(quiet) / rms(added)) == pytest.approx(10, abs=0.1)


def test_what_is_done_to_speech_stays_within_range(speech: np.ndarray) -> None:
    from training.augment import AugmentConfig, degrade
    from training.noises import rms

    always = AugmentConfig(noise_share=1, room_share=1, band_share=1, opus_share=1, clip_share=1)
    for seed in range(6):
        degraded = degrade(np.random.default_rng(seed), speech[:SECOND], rms(speech), [speech], always)
        assert degraded.shape == (SECOND,) and degraded.dtype == np.float32
        assert np.isfinite(degraded).all() and np.abs(degraded).max() <= 1


def test_clipping_and_bands(speech: np.ndarray) -> None:
    from training.augment import band_limit, clip

    rng = np.random.default_rng(0)
    cut = clip(rng, speech)
    assert np.abs(cut).max() < np.abs(speech).max()
    limited = band_limit(rng, np.asarray(np.random.default_rng(1).standard_normal(SECOND), np.float32))
    power = np.abs(np.fft.rfft(limited)) ** 2
    assert power[10:15].mean() < 0.1 * power[1000:2000].mean() and power[7900:].mean() < 0.1 * power[1000:2000].mean()


def test_another_tract_moves_formants_and_keeps_the_rhythm() -> None:
    """A tone's band moves by the scale in frequency, and every frame alike."""
    from realtime.audio.mel import hz_to_mel, mel_of_windows
    from training.augment import AugmentConfig, band_centres, perturb_vocal_tract

    t = np.arange(3800) / SECOND
    tone = np.asarray(0.3 * np.sin(2 * np.pi * 1500 * t) * (t > 0.1), np.float32)
    (mel,) = mel_of_windows(tone[None])
    moved = perturb_vocal_tract(np.random.default_rng(0), mel, AugmentConfig(vocal_tract=(1.25, 1.2500001), tilt_db=0))
    step = band_centres()[1] - band_centres()[0]
    shift = (hz_to_mel(np.array([1500.0])) - hz_to_mel(np.array([1500 / 1.25])))[0] / step
    assert shift > 3 and mel[:, -1].argmax() - moved[:, -1].argmax() == pytest.approx(shift, abs=1)
    assert (moved.max(0) > 0).tolist() == (mel.max(0) > 0).tolist(), "the same frames are loud"
    tilted = perturb_vocal_tract(np.random.default_rng(0), mel, AugmentConfig(vocal_tract=(1.0, 1.0000001)))
    assert np.abs(tilted - mel).max() > 0.2 and np.abs(tilted).max() <= 4


def test_masked_bands_and_frames_hold_nothing() -> None:
    from training.augment import AugmentConfig, mask

    rng = np.random.default_rng(2)
    whole = np.asarray(rng.random((80, 16)), np.float32)
    masked = whole.copy()
    mask(rng, masked, AugmentConfig())
    changed = masked != whole
    assert 0 < changed.mean() < 0.6 and (masked[changed] == whole.min()).all()
