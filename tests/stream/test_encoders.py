"""Encoded packets read back: pictures, colours, time stamps, keyframes, bitrates; speech."""

from __future__ import annotations

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from realtime.audio.block import BLOCK_SAMPLES
from realtime.contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.face.yuv import FrameConverter
from realtime.stream.encoders import Packet, SpeechEncoder, VideoEncoder
from realtime.stream.rate_control import BITRATES, START_BITRATE

SIZE = 128


def picture(k: int) -> NDArray[np.uint8]:
    """A smooth picture that moves."""
    x = np.arange(SIZE) + 3 * k
    wave = 128 + 100 * np.sin(x / 20)[None, :] * np.cos(np.arange(SIZE) / 17)[:, None]
    return np.stack([wave, 255 - wave, np.full_like(wave, 90)], -1).astype(np.uint8)


def encode(codec: str, frames: int, requests: tuple[int, ...] = (), first: int = 0) -> list[Packet]:
    encoder, convert, packets = VideoEncoder(codec, SIZE), FrameConverter(), []
    for k in range(first, first + frames):
        if k in requests:
            encoder.request_keyframe()
        packets += encoder.encode(convert(picture(k)), k, START_BITRATE)
    return packets


@pytest.mark.parametrize(("codec", "decoder"), [("H264", "h264"), ("VP8", "vp8")])
def test_every_frame_comes_out_at_once_and_looks_the_same(codec: str, decoder: str) -> None:
    packets = encode(codec, 10)
    assert [p.pts for p in packets] == [SAMPLES_PER_FRAME * k for k in range(10)]
    context = av.CodecContext.create(decoder, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.flags |= 1 << 19  # low delay
    shown = [f for p in [*packets, None] for f in context.decode(p)]
    assert len(shown) == 10
    for k, decoded in enumerate(shown):
        rgb = decoded.reformat(format="rgb24", src_colorspace="itu709").to_ndarray()
        error = np.mean((rgb.astype(float) - picture(k)) ** 2)
        assert 10 * np.log10(255**2 / error) > 32


def frame_of(packet: Packet) -> int:
    assert packet.pts is not None
    return packet.pts // SAMPLES_PER_FRAME


def test_h264_is_baseline_and_says_its_colours() -> None:
    context = av.CodecContext.create("h264", "r")
    assert isinstance(context, av.VideoCodecContext)
    frames = [f for p in [*encode("H264", 3), None] for f in context.decode(p)]
    assert frames and "Baseline" in str(context.profile)
    assert (frames[0].colorspace, frames[0].color_range) == (1, 1), "BT.709, limited range"


def test_keyframes_at_least_every_two_seconds_and_on_request() -> None:
    keys = [frame_of(p) for p in encode("H264", 130, requests=(70,)) if p.is_keyframe]
    assert keys == [0, 50, 70, 120]


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_requests_of_many_viewers_coalesce(codec: str) -> None:
    keys = [frame_of(p) for p in encode(codec, 45, (20, 21, 22, 25, 31)) if p.is_keyframe]
    assert keys == [0, 20, 32], "half a second apart; the later requests are answered together"


def test_a_new_bitrate_starts_with_a_keyframe_and_keeps_time() -> None:
    encoder, convert = VideoEncoder("H264", SIZE), FrameConverter()
    packets = [p for k in range(20) for p in encoder.encode(convert(picture(k)), k, 1_800_000 if k < 10 else 500_000)]
    assert [frame_of(p) for p in packets if p.is_keyframe] == [0, 10]
    assert encoder.bitrate == 500_000 and len(packets) == 20


def test_the_bitrate_holds() -> None:
    """Noise, which cannot be compressed, at the highest and the lowest step."""
    rng, convert = np.random.default_rng(0), FrameConverter()
    for bitrate in (BITRATES[0], BITRATES[-1]):
        encoder, size = VideoEncoder("H264", 256), 0
        for k in range(75):
            noise = convert(rng.integers(0, 255, (256, 256, 3)).astype(np.uint8))
            size += sum(p.size for p in encoder.encode(noise, k, bitrate))
        assert size * 8 / 3 < 1.6 * bitrate


def test_speech_is_one_packet_every_20_ms_and_sounds_the_same() -> None:
    encoder = SpeechEncoder()
    blocks = 50
    tone = 0.4 * np.sin(2 * np.pi * 300 * np.arange(blocks * BLOCK_SAMPLES) / SAMPLE_RATE).astype(np.float32)
    packets = []
    for k in range(blocks):
        start = BLOCK_SAMPLES * k
        made = encoder.encode(tone[start : start + BLOCK_SAMPLES], 40_000 + start)
        assert [p.pts for p in made] == [40_000 + start]
        packets += made
    decoder = av.CodecContext.create("libopus", "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.format, decoder.layout, decoder.sample_rate = "s16", "mono", 48_000
    heard = np.concatenate([f.to_ndarray()[0] for p in packets for f in decoder.decode(p)]) / 32768
    assert len(heard) == blocks * 960
    spectrum = np.abs(np.fft.rfft(heard[9600:] * np.hanning(len(heard) - 9600)))
    assert spectrum.argmax() * 48_000 / (len(heard) - 9600) == pytest.approx(300, abs=3)
    assert np.sqrt(np.mean(heard[9600:] ** 2)) == pytest.approx(0.4 / np.sqrt(2), rel=0.1)
