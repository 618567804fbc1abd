"""Tracks of viewers who are early, late or slow; speech that is held back for its frame."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from realtime.audio.block import BLOCK_SAMPLES, Block
from realtime.contract import SAMPLE_RATE
from realtime.stream.encoders import Packet
from realtime.stream.tracks import MAX_QUEUED, EncodedTrack, SpeechOut


def packet(pts: int, keyframe: bool = False) -> Packet:
    made = av.Packet(b"x" * 10)
    made.pts, made.time_base, made.is_keyframe = pts, Fraction(1, SAMPLE_RATE), keyframe
    return made


def stamp(packet: Packet) -> int:
    assert packet.pts is not None
    return packet.pts


def test_video_begins_with_a_keyframe_after_the_connection_is_up() -> None:
    async def play() -> None:
        requests: list[int] = []
        track = EncodedTrack("video", lambda: requests.append(1))
        track.put(packet(0, keyframe=True))  # nobody receives yet
        received = asyncio.ensure_future(track.recv())
        await asyncio.sleep(0)
        assert requests == [1]
        track.put(packet(640))
        track.put(packet(1280, keyframe=True))
        track.put(packet(1920))
        assert (await received).pts == 1280 and (await track.recv()).pts == 1920

    asyncio.run(play())


def test_a_slow_viewer_goes_on_at_a_keyframe() -> None:
    async def play() -> None:
        requests: list[int] = []
        track = EncodedTrack("video", lambda: requests.append(1))
        received = asyncio.ensure_future(track.recv())
        await asyncio.sleep(0)
        track.put(packet(0, keyframe=True))
        await received
        for k in range(1, MAX_QUEUED["video"] + 3):
            track.put(packet(640 * k))
        assert track.overflows == 1 and len(requests) == 2
        track.put(packet(9_999, keyframe=True))
        assert (await track.recv()).pts == 9_999

    asyncio.run(play())


def test_a_slow_listener_loses_the_oldest_speech() -> None:
    async def play() -> None:
        track = EncodedTrack("audio")
        received = asyncio.ensure_future(track.recv())
        await asyncio.sleep(0)
        for k in range(MAX_QUEUED["audio"] + 2):
            track.put(packet(320 * k))
        await received
        assert track.overflows == 1 and stamp(await track.recv()) > 320

    asyncio.run(play())


def test_a_stopped_track_ends() -> None:
    async def play() -> None:
        track = EncodedTrack("audio")
        track.stop()
        with pytest.raises(MediaStreamError):
            await track.recv()

    asyncio.run(play())


class Ear:
    """What SpeechOut sends, decoded."""

    def __init__(self, hold: int) -> None:
        self.sent: list[Packet] = []
        self.played: list[int] = []
        self.wanted = True
        self.out = SpeechOut(hold, self.sent.append, self.played.append, lambda: self.wanted)
        self.end = 0

    def write(self, samples: np.ndarray, epoch: int = 0) -> None:
        self.out.write(Block(self.end, samples.astype(np.float32), epoch))
        self.end += len(samples)

    def loudness(self) -> list[float]:
        """Of each packet."""
        decoder = av.CodecContext.create("libopus", "r")
        assert isinstance(decoder, av.AudioCodecContext)
        decoder.format, decoder.layout, decoder.sample_rate = "s16", "mono", 48_000
        return [float(np.abs(f.to_ndarray().astype(float)).max() / 32768) for p in self.sent for f in decoder.decode(p)]


def test_speech_leaves_when_the_hold_has_passed() -> None:
    ear = Ear(hold=1000)
    ear.write(np.zeros(1319))
    assert not ear.sent
    ear.write(np.zeros(1))
    assert [p.pts for p in ear.sent] == [0] and ear.played == [BLOCK_SAMPLES]
    for _ in range(100):
        ear.write(np.zeros(97))
    assert [p.pts for p in ear.sent] == list(range(0, ear.end - 1000 - BLOCK_SAMPLES + 1, BLOCK_SAMPLES))
    assert ear.played[-1] == stamp(ear.sent[-1]) + BLOCK_SAMPLES


def test_what_is_held_back_is_not_said_after_it_was_cut_off() -> None:
    rng = np.random.default_rng(0)
    ear = Ear(hold=1600)
    for _ in range(20):
        ear.write(rng.uniform(-0.5, 0.5, BLOCK_SAMPLES))
    before = len(ear.sent)
    ear.write(np.zeros(0), epoch=1)
    for _ in range(20):
        ear.write(np.zeros(BLOCK_SAMPLES), epoch=1)
    loudness = ear.loudness()
    assert min(loudness[2:before]) > 0.2
    assert max(loudness[before + 2 :]) < 0.05, "Opus itself rings for a packet or two"
    assert [p.pts for p in ear.sent] == [BLOCK_SAMPLES * k for k in range(len(ear.sent))], "time goes on"


def test_nothing_is_encoded_while_nobody_listens_but_it_counts_as_played() -> None:
    ear = Ear(hold=0)
    ear.wanted = False
    ear.write(np.zeros(3200))
    assert not ear.sent and ear.played[-1] == 3200
    ear.wanted = True
    ear.write(np.zeros(320))
    assert [p.pts for p in ear.sent] == [3200]
