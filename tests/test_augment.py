"""What augmentation may do to speech, and what it must not: move it in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("torch")

SECOND = 16_000


@pytest.fixture(scope="module")
def speech(data_folder: Path) -> np.ndarray:
    from realtime.sound_file import read_speech

    return read_speech(data_folder / "speech" / "ljspeech" / "LJ001-0001.flac").samples[: 4 * SECOND]


@pytest.mark.parametrize("kbit", [12, 32])
def test_opus_keeps_time_and_loses_detail(speech: np.ndarray, kbit: int) -> None:
    from training.augment import opus

    heard = opus(speech, kbit)
    assert heard.shape == speech.shape and heard.dtype == np.float32
    middle = slice(SECOND, 3 * SECOND)
    best = max(range(-200, 201), key=lambda d: float(np.dot(np.roll(heard, -d)[middle], speech[middle])))
    assert abs(best) <= 8, "samples late"
    assert 0.7 < np.corrcoef(heard[middle], speech[middle])[0, 1] < 0.999


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
    heard = room(np.random.default_rng(0), click, AugmentConfig(direct_db=(6, 6)))
    assert np.abs(heard[:1000]).max() < 1e-6 and int(np.abs(heard).argmax()) == 1000
    tail = float((heard[1001:] ** 2).sum())
    assert tail == pytest.approx(10**-0.6, rel=0.05), "6 dB under the direct sound"


def test_noise_has_unit_loudness_and_the_signal_to_noise_ratio_is_met(speech: np.ndarray) -> None:
    from training.augment import AugmentConfig, degrade, noise, rms

    rng = np.random.default_rng(1)
    config = AugmentConfig()
    kinds = [noise(rng, SECOND, [speech], config) for _ in range(40)]
    assert all(rms(kind) == pytest.approx(1, rel=1e-3) for kind in kinds)
    assert len({round(float(np.abs(k).max()), 1) for k in kinds}) > 10, "of many kinds"
    only_noise = AugmentConfig(
        noise_share=1, snr_db=(9.99, 10, 10.01), room_share=0, band_share=0, opus_share=0, clip_share=0, gain_db=(0, 0)
    )
    quiet = np.asarray(0.1 * speech, np.float32)  # nothing clips
    added = np.asarray(degrade(rng, quiet, rms(quiet), [quiet], only_noise) - quiet, np.float32)
    assert 20 * np.log10(rms(quiet) / rms(added)) == pytest.approx(10, abs=0.1)


def test_what_is_done_to_speech_stays_within_range(speech: np.ndarray) -> None:
    from training.augment import AugmentConfig, degrade, rms

    always = AugmentConfig(noise_share=1, room_share=1, band_share=1, opus_share=1, clip_share=1)
    for seed in range(6):
        heard = degrade(np.random.default_rng(seed), speech[:SECOND], rms(speech), [speech], always)
        assert heard.shape == (SECOND,) and heard.dtype == np.float32
        assert np.isfinite(heard).all() and np.abs(heard).max() <= 1


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
    from realtime.mel import hz_to_mel, mel_of_windows
    from training.augment import AugmentConfig, band_centres, other_tract

    t = np.arange(3800) / SECOND
    tone = np.asarray(0.3 * np.sin(2 * np.pi * 1500 * t) * (t > 0.1), np.float32)
    (mel,) = mel_of_windows(tone[None])
    moved = other_tract(np.random.default_rng(0), mel, AugmentConfig(vocal_tract=(1.25, 1.2500001), tilt_db=0))
    step = band_centres()[1] - band_centres()[0]
    shift = (hz_to_mel(np.array([1500.0])) - hz_to_mel(np.array([1500 / 1.25])))[0] / step
    assert shift > 3 and mel[:, -1].argmax() - moved[:, -1].argmax() == pytest.approx(shift, abs=1)
    assert (moved.max(0) > 0).tolist() == (mel.max(0) > 0).tolist(), "the same frames are loud"
    tilted = other_tract(np.random.default_rng(0), mel, AugmentConfig(vocal_tract=(1.0, 1.0000001)))
    assert np.abs(tilted - mel).max() > 0.2 and np.abs(tilted).max() <= 4


def test_kinds_of_noise_are_what_they_say(speech: np.ndarray) -> None:
    from training.augment import babble, modulated, rms, tones

    rng = np.random.default_rng(5)

    def peak_over_median(sound: np.ndarray) -> float:
        spectrum = np.abs(np.fft.rfft(sound[SECOND : 2 * SECOND]))
        return float(spectrum.max() / np.median(spectrum))

    def level_range_db(sound: np.ndarray) -> float:
        levels = [20 * np.log10(rms(piece)) for piece in np.split(sound, 60)]
        return float(max(levels) - min(levels))

    white = np.asarray(rng.standard_normal(3 * SECOND), np.float32)
    assert peak_over_median(white) < 8 and level_range_db(white) < 3
    assert np.median([peak_over_median(tones(rng, 3 * SECOND)) for _ in range(9)]) > 100
    assert np.median([level_range_db(modulated(rng, 3 * SECOND)) for _ in range(9)]) > 6
    long = babble(rng, 20 * SECOND, [speech], 6)
    assert min(rms(quarter) for quarter in np.split(long, 4)) > 0.5 * rms(long), "voices go on to the end"


def test_masked_bands_and_frames_hear_nothing() -> None:
    from training.augment import AugmentConfig, mask

    rng = np.random.default_rng(2)
    whole = np.asarray(rng.random((80, 16)), np.float32)
    heard = whole.copy()
    mask(rng, heard, AugmentConfig())
    changed = heard != whole
    assert 0 < changed.mean() < 0.6 and (heard[changed] == whole.min()).all()
