"""Short recordings for tests, made here: whole, joined, and written as badly as programs write them."""

from __future__ import annotations

import struct
import wave
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray

from realtime.arrays import FloatArray


def tone(seconds: float, rate: int = 16_000, hz: float = 440.0) -> FloatArray:
    return np.asarray(0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate), np.float32)


def write_pcm16(path: Path, rate: int, channels: FloatArray) -> Path:
    """Writes [n, channels] in [-1, 1]."""
    with wave.open(str(path), "wb") as w:
        w.setnchannels(channels.shape[1])
        w.setsampwidth(2)
        w.setframerate(rate)
        w.writeframes(np.round(channels * 32767).astype("<i2").tobytes())
    return path


def write_float(path: Path, values: NDArray[np.floating], rate: int = 16_000) -> Path:
    """Writes mono float32 or float64 values as they are, NaN included."""
    data, width = values.astype(values.dtype.newbyteorder("<")).tobytes(), values.itemsize
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, rate, rate * width, width, 8 * width)
    header += struct.pack("<4sI", b"data", len(data))
    path.write_bytes(struct.pack("<4sI4s", b"RIFF", 4 + len(header) + len(data), b"WAVE") + header + data)
    return path


def encode(path: Path, codec: str, speech: FloatArray, rate: int, layout: str = "mono", video: bool = False) -> Path:
    """Encodes 16 kHz speech with FFmpeg; the format follows from the path's ending."""
    options = {"movflags": "faststart"} if path.suffix in (".mp4", ".m4a") else {}
    with av.open(str(path), "w", options=options) as container:
        if video:
            picture = container.add_stream("libx264", rate=25)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate=rate)
        assert isinstance(sound, av.AudioStream)
        sound.layout = layout
        size = sound.codec_context.frame_size
        resampler = av.AudioResampler(sound.format, layout, rate, size or None)
        frame = av.AudioFrame.from_ndarray(speech[None], format="flt", layout="mono")
        frame.sample_rate = 16_000
        frame.pts, frame.time_base = 0, Fraction(1, 16_000)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
        if video:
            for k in range(len(speech) // 640):
                image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), k % 256, np.uint8))
                image.pts = k
                container.mux(picture.encode(image))
            container.mux(picture.encode(None))
    return path


def noise(seconds: float, seed: int = 0) -> FloatArray:
    """Speech-like: noise below 3 kHz, so that every rate from 8 kHz on can carry it."""
    n = round(seconds * 16_000)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    spectrum[np.fft.rfftfreq(n, 1 / 16_000) > 3000] = 0
    sound = np.fft.irfft(spectrum, n)
    return np.asarray(0.5 * sound / np.abs(sound).max(), np.float32)


def voice(seconds: float, seed: int = 0, rate: int = 16_000) -> FloatArray:
    """What comes and goes as speech does: noise below 3 kHz in syllables, four a second, with pauses."""
    n = round(seconds * rate)
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequencies = np.fft.rfftfreq(n, 1 / rate)
    spectrum[(frequencies > 3000) | (frequencies < 150)] = 0
    t = np.arange(n) / rate
    loudness = np.maximum(0, np.sin(2 * np.pi * 2 * (t + rng.uniform()))) ** 2 * (np.sin(2 * np.pi * 0.4 * t) > -0.7)
    sound = np.fft.irfft(spectrum, n) * loudness
    return np.asarray(0.5 * sound / np.abs(sound).max(initial=1e-9), np.float32)


def hum(seconds: float, rate: int = 16_000) -> FloatArray:
    """An unplugged input: mains and its overtones."""
    t = np.arange(round(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * 50 * k * t + k) / k for k in (1, 2, 3, 5, 7, 11))
    return np.asarray(0.4 * sound / np.abs(sound).max(), np.float32)


def pcm16(values: FloatArray) -> bytes:
    return np.round(values * 32767).astype("<i2").tobytes()


def chunk(name: bytes, data: bytes, stated: int | None = None, pad: bool = True) -> bytes:
    """A chunk of a WAV file that states a length of its own."""
    odd = b"\0" if pad and len(data) % 2 else b""
    return struct.pack("<4sI", name, len(data) if stated is None else stated) + data + odd


def form(rate: int = 16_000, channels: int = 1) -> bytes:
    """The format chunk of 16-bit samples."""
    return chunk(b"fmt ", struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16))


def riff(*chunks: bytes, stated: int | None = None, kind: bytes = b"RIFF") -> bytes:
    """A WAV file of chunks. `stated`: the length of all that its first line states; by default what is true."""
    body = b"WAVE" + b"".join(chunks)
    return struct.pack("<4sI", kind, len(body) if stated is None else stated) + body


def write_tracks(path: Path, *tracks: FloatArray, codec: str = "aac") -> Path:
    """Tracks of 16 kHz speech beside each other in one container, as screen recorders write them."""
    with av.open(str(path), "w") as container:
        streams = [cast(av.AudioStream, container.add_stream(codec, rate=48_000, layout="mono")) for _ in tracks]
        packets: list[av.Packet[av.AudioStream]] = []
        for stream, track in zip(streams, tracks, strict=True):
            resampler = av.AudioResampler(stream.format, "mono", 48_000, stream.codec_context.frame_size or 1024)
            frame = av.AudioFrame.from_ndarray(track[None], format="flt", layout="mono")
            frame.sample_rate = 16_000
            frame.pts, frame.time_base = 0, Fraction(1, 16_000)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                packets += stream.encode(piece)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda p: ((p.pts or 0) * (p.time_base or 0), p.stream_index)):
            container.mux(packet)
    return path
