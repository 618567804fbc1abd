"""Encoded frames and speech of one session -> the aiortc tracks of its viewers, on the sample clock.

Speech leaves `hold` samples after it came: so much later that a browser, which plays sound later than pictures, lets it
be heard with the frame that shows it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from ..arrays import FloatArray
from ..audio.block import BLOCK_SAMPLES, Block
from .encoders import Packet, SpeechEncoder

MAX_QUEUED = {"video": 3, "audio": 10}  # packets of a viewer who is too slow


class EncodedTrack(MediaStreamTrack):
    """One viewer's track of packets that were encoded once for all viewers. Lives on the event loop.

    It begins with the first `recv` (before that the connection is not up). Video begins with a keyframe, and again
    after an overflow; `request_keyframe` is called then.
    """

    def __init__(self, kind: str, request_keyframe: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.overflows = 0
        self._request_keyframe = request_keyframe
        self._packets: asyncio.Queue[Packet] = asyncio.Queue()
        self._receiving = False
        self._keyframe_missing = request_keyframe is not None

    def put(self, packet: Packet) -> None:
        if not self._receiving:
            return
        if self._keyframe_missing and not packet.is_keyframe:
            return
        self._keyframe_missing = False
        if self._packets.qsize() >= MAX_QUEUED[self.kind]:
            self.overflows += 1
            self._flush()
            if self._request_keyframe is not None and not packet.is_keyframe:
                self._keyframe_missing = True
                self._request_keyframe()
                return
        self._packets.put_nowait(packet)

    def _flush(self) -> None:
        while not self._packets.empty():
            self._packets.get_nowait()

    async def recv(self) -> Packet:  # aiortc's sender takes packets as well
        if self.readyState != "live":
            raise MediaStreamError
        if not self._receiving:
            self._receiving = True
            if self._request_keyframe is not None:
                self._request_keyframe()
        return await self._packets.get()


class SpeechOut:
    """Blocks of speech -> Opus packets, `hold_samples` later. Used on the audio input's thread.

    Args:
        hold_samples: 0 or more.
        send: is given each packet.
        played: is told the sample up to which speech has left.
        wanted: whether anybody listens; nothing is encoded while nobody does.
    """

    def __init__(
        self,
        hold_samples: int,
        send: Callable[[Packet], None],
        played: Callable[[int], None],
        wanted: Callable[[], bool],
    ) -> None:
        self._hold, self._send, self._played, self._wanted = hold_samples, send, played, wanted
        self._encoder: SpeechEncoder | None = SpeechEncoder()  # until it is closed
        self._held: deque[FloatArray] = deque()
        self._held_samples = 0
        self._next = 0  # first sample that has not left
        self._epoch = 0

    def write(self, block: Block) -> None:
        if block.epoch > self._epoch:  # speech was cut off: what is held back is not said
            self._epoch = block.epoch
            self._held = deque(np.zeros_like(samples) for samples in self._held)
        self._held.append(block.samples)
        self._held_samples += len(block.samples)
        while self._held_samples >= BLOCK_SAMPLES + self._hold:
            samples = self._take(BLOCK_SAMPLES)
            if self._encoder is not None and self._wanted():
                for packet in self._encoder.encode(samples, self._next):
                    self._send(packet)
            self._next += BLOCK_SAMPLES
            self._played(self._next)

    def close(self) -> None:
        """Lets go of the encoder, and of what is held back."""
        self._encoder = None
        self._held.clear()
        self._held_samples = 0

    def _take(self, count: int) -> FloatArray:
        taken, missing = [], count
        while missing:
            samples = self._held.popleft()
            taken.append(samples[:missing])
            if len(samples) > missing:
                self._held.appendleft(samples[missing:])
            missing -= len(taken[-1])
        self._held_samples -= count
        return np.concatenate(taken)
