"""A browser's packets, as aiortc hands them over -> the feed of a session."""

from __future__ import annotations

import asyncio
from typing import Any

import av
import numpy as np
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpreceiver import TimestampMapper
from aiortc.rtp import RtpPacket

from realtime.audio.block import Block
from realtime.audio.input import AudioInput, Feed
from realtime.contract import SAMPLE_RATE
from realtime.web.aiortc_patches import ImmediateAudioBuffer
from realtime.web.uplink import listen

PACKET = 960  # samples of 20 ms at 48 kHz


class Browser:
    """A microphone's track, whose packets come at given moments of a clock of the test's own."""

    def __init__(self, packets: list[tuple[float, int, int]], feed_from: float = 0.0) -> None:
        """`packets`: when each comes in seconds, its sequence number and time stamp; its level tells which it is."""
        self.now, self.blocks = 0.0, list[Block]()
        self.buffer, self._mapper = ImmediateAudioBuffer(), TimestampMapper()
        self.input = AudioInput(self.blocks.append, 1800, clock=lambda: self.now)
        self._feed, self._feed_from = self.input.attach(live=True), feed_from
        self._packets = iter(sorted(packets))
        self._wake = self.input.advance(0.0)

    def feed(self) -> Feed | None:
        return self._feed if self.now >= self._feed_from else None

    async def recv(self) -> av.AudioFrame:
        """What aiortc's receiver does to a packet, with the patched buffer and without Opus."""
        for seconds, number, timestamp in self._packets:
            self._run_to(seconds)
            packet: Any = RtpPacket(sequence_number=number & 0xFFFF, timestamp=timestamp & 0xFFFFFFFF)
            packet._data = b""
            coded = self.buffer.add(packet)[1]
            if coded is not None:
                level = np.full((1, 2 * PACKET), 1000 + number % 1000, np.int16)
                frame = av.AudioFrame.from_ndarray(level, format="s16", layout="stereo")
                frame.sample_rate, frame.pts = 48_000, self._mapper.map(coded.timestamp)
                return frame
        self._run_to(self.now + 0.5)
        raise MediaStreamError

    def _run_to(self, seconds: float) -> None:
        self._wake = self.input.advance(self.now)
        while self._wake < seconds:
            self.now = max(self.now, self._wake)
            self._wake = self.input.advance(self.now)
        self.now = seconds

    def speech(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        track: Any = self
        asyncio.run(listen(track, self.buffer, self.feed))
        return np.concatenate([block.samples for block in self.blocks])


def packets(count: int, first: int = 0) -> list[tuple[float, int, int]]:
    return [(0.02 * (k + 1), first + k, PACKET * (first + k)) for k in range(count)]


def heard_packets(speech: np.ndarray[Any, np.dtype[np.float32]]) -> list[int]:
    """Which were heard, in order. A packet's last millisecond comes with the next one: the resampler holds it back."""
    levels = np.rint(speech * 32768).astype(int) - 1000
    begins = np.concatenate([[0], np.flatnonzero(np.diff(levels)) + 1])
    lengths = np.diff(np.concatenate([begins, [len(levels)]]))
    return [int(levels[at]) for at, length in zip(begins, lengths, strict=True) if length > 100 and levels[at] >= 0]


def test_packets_become_speech_of_the_same_length() -> None:
    speech = Browser(packets(100)).speech()
    assert heard_packets(speech) == list(range(100))
    assert np.count_nonzero(speech) >= 100 * 320 - 20


def test_a_lost_packet_is_silence_once() -> None:
    """Half a second lost was filled twice: by the clock, and by the time stamps."""
    browser = Browser([p for p in packets(200) if not 100 <= p[1] < 125])
    speech = browser.speech()
    assert len(speech) / SAMPLE_RATE <= browser.now + 0.03
    assert [n for n in heard_packets(speech) if not 99 <= n <= 125] == [n for n in range(200) if not 99 <= n <= 125]
    silent = speech[np.flatnonzero(speech)[0] : np.flatnonzero(speech)[-1]] == 0
    assert abs(np.count_nonzero(silent) - 25 * 320) < 100


def test_packets_out_of_order_are_put_in_order() -> None:
    """Across the end of the sequence numbers and of the time stamps; those that came late were dropped."""
    first = 65_536 * 68 + 17_450  # time stamps begin again at packet 4473924.3
    coming = packets(100, first)
    for k in range(10, 90, 10):
        coming[k] = (coming[k + 1][0] + 0.001, *coming[k][1:])
    speech = Browser(coming).speech()
    assert heard_packets(speech) == [(first + k) % 1000 for k in range(100)]


def test_time_stamps_of_a_liar_do_not_move_the_clock() -> None:
    """A second more with each packet: the clock ran 45 times too fast."""
    browser = Browser([(seconds, number, 48_000 * number) for seconds, number, _ in packets(200)])
    speech = browser.speech()
    assert abs(len(speech) / SAMPLE_RATE - browser.now) < 0.06
    assert heard_packets(speech) == list(range(200))


def test_the_status_tells_which_sample_a_time_stamp_became() -> None:
    """The stamp is the browser's own, not aiortc's, which counts from the first packet."""
    browser = Browser([(seconds, number, 7_000 + stamp) for seconds, number, stamp in packets(50)])
    stamps = []
    write = browser.input._samples._write

    def noting(block: Block) -> None:
        write(block)
        stamps.append(browser.input._samples.arrival.stamp)

    browser.input._samples._write = noting
    speech = browser.speech()
    first = int(np.flatnonzero(speech)[0])
    known = [stamp for stamp in stamps if stamp is not None]
    assert len(known) >= 49
    assert all(abs((stamp - 7_000) / 3 - (sample - first)) < 20 for stamp, sample in known)


def test_without_a_feed_sound_is_dropped() -> None:
    heard = heard_packets(Browser(packets(100), feed_from=1.0).speech())
    assert heard[0] >= 49 and heard[-1] == 99
