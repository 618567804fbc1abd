"""What happens to speech between a mouth and the encoder: noise, rooms, microphones, codecs, other speakers.

Nearly everything works on a piece of waveform, float32 [S] at 16 kHz, and moves nothing in time by more than a few
milliseconds, so that phone labels stay true; other vocal tracts and masks are made in the mel spectrogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import av
import numpy as np
from av.audio.frame import AudioFrame
from scipy.signal import fftconvolve, resample

from realtime.arrays import Float64Array, FloatArray
from realtime.audio.mel import FLOOR_DB, HIGH_HZ, LOW_HZ, MAX_ABS, hz_to_mel, mel_to_hz
from realtime.contract import MEL_BANDS, SAMPLE_RATE
from training.noises import SILENT, noise, rms

OPUS_RATE = 48_000  # what FFmpeg's Opus decoder gives out
OPUS_DELAY = 104  # samples: the encoder looks 6.5 ms ahead


@dataclass(frozen=True)
class AugmentConfig:
    """How often each thing happens, as a share of the pieces, and how strongly."""

    noise_share: float = 0.6
    snr_db: tuple[float, float, float] = (0.0, 8.0, 30.0)  # least, most frequent, greatest
    babble_voices: tuple[int, int] = (2, 10)
    room_share: float = 0.3
    reverberation_seconds: tuple[float, float] = (0.12, 0.7)  # T60
    direct_db: tuple[float, float] = (-2.0, 14.0)  # direct sound over reverberation
    band_share: float = 0.25
    opus_share: float = 0.15
    opus_kbit: tuple[int, int] = (12, 32)
    clip_share: float = 0.1
    gain_db: tuple[float, float] = (-30.0, 6.0)
    speed_share: float = 0.5
    speed: tuple[float, float] = (0.85, 1.18)  # pitch and formants move with it
    pitch: tuple[float, float] = (0.8, 1.25)  # of another speaker, at the same speed
    vocal_tract: tuple[float, float] = (0.88, 1.14)  # frequencies of a formant over another speaker's
    tilt_db: float = 6.0  # RMS of a random response over the bands
    masked_bands: int = 14  # at most, twice
    masked_frames: int = 4  # at most


def room(rng: np.random.Generator, speech_S: FloatArray, config: AugmentConfig) -> FloatArray:
    """A room of random shape: a dense tail that decays by 60 dB within the reverberation time, a few early
    reflections, the direct sound undelayed.
    """
    seconds = rng.uniform(*config.reverberation_seconds)
    length = int(min(seconds, 0.4) * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    tail = rng.standard_normal(length) * 10 ** (-3 * time / seconds)
    tail[: int(rng.uniform(0.001, 0.012) * SAMPLE_RATE)] = 0
    for at in rng.uniform(0.002, 0.03, 4):
        tail[int(at * SAMPLE_RATE) % length] += rng.uniform(-4, 4)
    tail *= 10 ** (-rng.uniform(*config.direct_db) / 20) / max(float(np.linalg.norm(tail)), SILENT)
    tail[0] += 1
    return np.asarray(fftconvolve(speech_S, tail)[: len(speech_S)], np.float32)


def band_limit(rng: np.random.Generator, sound_S: FloatArray) -> FloatArray:
    """A telephone's or a laptop's band, with a tilt."""
    low, high, tilt = rng.uniform(20, 400), rng.uniform(3000, 7800), rng.uniform(-0.6, 0.6)
    hz = np.fft.rfftfreq(len(sound_S), 1 / SAMPLE_RATE)
    response = (np.maximum(hz, 20) / 1000) ** tilt / (1 + (low / np.maximum(hz, 1)) ** 6) / (1 + (hz / high) ** 24)
    return np.asarray(np.fft.irfft(np.fft.rfft(sound_S) * response, len(sound_S)), np.float32)


def opus(sound_S: FloatArray, kbit: int) -> FloatArray:
    """The sound after Opus at `kbit` kbit/s, with the codec's delay taken out."""
    encoder = av.AudioCodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = SAMPLE_RATE, "mono", "s16"
    encoder.bit_rate, encoder.time_base = kbit * 1000, Fraction(1, SAMPLE_RATE)
    encoder.options = {"application": "voip", "frame_duration": "20"}
    decoder = av.AudioCodecContext.create("opus", "r")
    decoder.sample_rate, decoder.layout = OPUS_RATE, "mono"
    step = SAMPLE_RATE // 50
    padded = np.pad(sound_S, (0, 2 * step + (-len(sound_S)) % step))
    pcm = np.round(np.clip(padded, -1, 1) * 32767).astype(np.int16)
    packets = []
    for at in range(0, len(pcm), step):
        frame = AudioFrame.from_ndarray(pcm[None, at : at + step], format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, at
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoded = [f.to_ndarray()[0] for p in packets for f in decoder.decode(p)]
    joined = np.concatenate(decoded).astype(np.float32)
    if np.issubdtype(decoded[0].dtype, np.integer):
        joined /= 32768
    slow = np.asarray(resample(joined, round(len(joined) * SAMPLE_RATE / OPUS_RATE)), np.float32)
    return slow[OPUS_DELAY : OPUS_DELAY + len(sound_S)]


def clip(rng: np.random.Generator, sound_S: FloatArray) -> FloatArray:
    """An overdriven input: the loudest parts cut off."""
    limit = rng.uniform(0.15, 0.7) * max(float(np.abs(sound_S).max()), SILENT)
    return np.clip(sound_S, -limit, limit)


def change_speed(speech_S: FloatArray, samples: int) -> FloatArray:
    """The whole piece played within `samples` samples: faster and higher, or slower and lower."""
    return np.asarray(resample(speech_S, samples), np.float32) if len(speech_S) != samples else speech_S


def change_pitch(speech_S: FloatArray, factor: float) -> FloatArray:
    """Pitch and formants moved by `factor` (0.5 .. 2) at the same tempo: another vocal tract saying the same at the
    same time.

    FFmpeg's atempo begins up to 20 ms early or late, so the result is moved to where its loudness fits best.
    """
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono", time_base=Fraction(1, SAMPLE_RATE))
    nodes = [
        source,
        graph.add("asetrate", str(round(SAMPLE_RATE * factor))),
        graph.add("aresample", str(SAMPLE_RATE)),
        graph.add("atempo", f"{1 / factor:.6f}"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(speech_S[None], np.float32), format="flt", layout="mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    graph.push(frame)
    graph.push(None)
    pieces = []
    while True:
        try:
            pulled = graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            break
        assert isinstance(pulled, AudioFrame)
        pieces.append(pulled.to_ndarray()[0])
    shifted = np.concatenate(pieces)
    shifted = np.pad(shifted, (0, max(0, len(speech_S) - len(shifted))))[: len(speech_S)]
    delay = delay_of(shifted, speech_S)
    moved = shifted[delay:] if delay >= 0 else np.pad(shifted, (-delay, 0))
    return np.asarray(np.pad(moved, (0, max(0, len(speech_S) - len(moved))))[: len(speech_S)], np.float32)


def delay_of(late_S: FloatArray, speech_S: FloatArray, most: int = 640) -> int:
    """By how many samples `late_S` lags behind `speech_S`, judged by their loudness; within +-`most`, in steps of 8."""
    step = 8
    envelopes = [
        np.sqrt(np.convolve(x.astype(np.float64) ** 2, np.full(80, 1 / 80), mode="same"))[::step]
        for x in (late_S, speech_S)
    ]
    late, speech = (e - e.mean() for e in envelopes)
    reach = most // step
    shifts = range(-reach, reach + 1)
    middle = slice(reach, max(reach + 1, len(speech) - reach))
    return step * max(shifts, key=lambda s: float(np.dot(np.roll(late, -s)[middle], speech[middle])))


@cache
def band_centres() -> Float64Array:
    """Centres of the mel bands, [80], in mel."""
    low, high = hz_to_mel(np.array([LOW_HZ, HIGH_HZ]))
    return np.asarray(np.linspace(low, high, MEL_BANDS + 2)[1:-1])


def perturb_vocal_tract(rng: np.random.Generator, mel_MF: FloatArray, config: AugmentConfig) -> FloatArray:
    """A mel spectrogram [80, 16] as another vocal tract and another microphone would shape it: all frequencies scaled
    alike (Jaitly and Hinton 2013), and a smooth random response over the bands; the rhythm stays.
    """
    low, high = np.log(config.vocal_tract)
    scaled = hz_to_mel(mel_to_hz(band_centres()) * np.exp(rng.uniform(low, high)))
    bands = np.interp(scaled, band_centres(), np.arange(MEL_BANDS))
    below = np.minimum(bands.astype(int), MEL_BANDS - 2)
    share = (bands - below).astype(np.float32)[:, None]
    warped = mel_MF[below] * (1 - share) + mel_MF[below + 1] * share
    waves = np.cos(np.pi * np.arange(1, 5)[:, None] * np.linspace(0, 1, MEL_BANDS) + rng.uniform(0, 6.3, (4, 1)))
    response_db = rng.normal(0, config.tilt_db / np.sqrt(2), 4) @ waves
    response = 2 * MAX_ABS * response_db / -FLOOR_DB
    return np.asarray(np.clip(warped + response[:, None], -MAX_ABS, MAX_ABS), np.float32)


def mask(rng: np.random.Generator, mel_MF: FloatArray, config: AugmentConfig) -> None:
    """Takes some bands and frames out of one mel spectrogram [80, 16] (SpecAugment, Park et al. 2019)."""
    least = mel_MF.min()
    for _ in range(2):
        width, first = rng.integers(0, config.masked_bands + 1), rng.integers(MEL_BANDS)
        mel_MF[first : first + width] = least
    width, first = rng.integers(0, config.masked_frames + 1), rng.integers(mel_MF.shape[1])
    mel_MF[:, first : first + width] = least


def degrade(
    rng: np.random.Generator, speech_S: FloatArray, loudness: float, voices: Sequence[FloatArray], config: AugmentConfig
) -> FloatArray:
    """One piece of speech through a room, noise, clipping, a band limit and a codec (each by its share), and a gain.

    Args:
        loudness: RMS of the speaker, the reference of the signal-to-noise ratio.
        voices: recordings to make babble of.
    """
    sound = speech_S
    if rng.random() < config.room_share:
        sound = room(rng, sound, config)
    if rng.random() < config.noise_share:
        sound = sound + noise(rng, len(sound), voices, config.babble_voices) * np.float32(
            loudness * 10 ** (-rng.triangular(*config.snr_db) / 20)
        )
    if rng.random() < config.clip_share:
        sound = clip(rng, sound)
    if rng.random() < config.band_share:
        sound = band_limit(rng, sound)
    if rng.random() < config.opus_share:
        sound = opus(sound, int(rng.integers(config.opus_kbit[0], config.opus_kbit[1] + 1)))
    return np.asarray(np.clip(sound * 10 ** (rng.uniform(*config.gain_db) / 20), -1, 1), np.float32)


def as_other_speaker(
    rng: np.random.Generator, speech_S: FloatArray, voices: Sequence[FloatArray], config: AugmentConfig
) -> FloatArray:
    """A whole recording as another speaker would say it at the same time, through another microphone: nearer to
    speakers that an encoder never saw than a recording that it was trained on.
    """
    low, high = np.log(config.pitch)
    return degrade(rng, change_pitch(speech_S, float(np.exp(rng.uniform(low, high)))), rms(speech_S), voices, config)
