"""A picture and the speech that it shows -> Frame, one for every 40 ms of the sample clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import av

from .. import frames
from ..arrays import ByteArray, FloatArray
from ..audio.ring import AudioRing, SamplesOverwritten
from ..contract import SAMPLES_PER_FRAME
from ..face.yuv import RgbConverter


@dataclass(frozen=True, eq=False)
class Frame:
    """Frame k, and the speech that it shows: samples 640 k to 640 k + 639 of the 16 kHz sample clock."""

    index: int  # k
    rgb: ByteArray  # [size, size, 3] sRGB, row 0 at the top; the caller's own
    samples: FloatArray  # [640] mono, in [-1, 1]: what is heard from 40 k ms on; the caller's own


class FrameAssembler:
    """Puts pictures of a live avatar and its speech together. A frame that was not drawn in time shows the picture
    before it, so that no speech is missing.

    Args:
        deliver: is given each frame in order, and the epoch of its speech; on the thread that completed it.
        most: frames that are made up for at once, after a pause.
    """

    def __init__(self, deliver: Callable[[int, Frame], None], most: int) -> None:
        self._deliver, self._most = deliver, most
        self._lock = threading.Lock()  # of what follows: pictures and speech come on two threads
        self._to_rgb = RgbConverter()
        self._newest: frames.Frame | None = None
        self._shown: av.VideoFrame | None = None  # the picture of the frame before
        self._next = 0  # index of the next frame
        self._epoch = 0  # of the frame before

    def picture(self, ring: AudioRing, picture: frames.Frame) -> None:
        """Picture k was drawn."""
        with self._lock:
            self._newest = picture
            self._complete(ring, picture)

    def speech(self, ring: AudioRing) -> None:
        """More speech is in the ring. Where the lookahead is shorter than a frame, it completes a frame whose picture
        was drawn before.
        """
        with self._lock:
            if self._newest is not None:
                self._complete(ring, self._newest)

    def _complete(self, ring: AudioRing, newest: frames.Frame) -> None:
        """Delivers every frame up to the newest picture of which the speech has come."""
        epoch, first = ring.epoch, newest.index - self._most + 1
        if epoch != self._epoch or self._shown is None:  # what was cut off is not made up for
            first = newest.index
        self._next = max(self._next, first)
        while self._next <= newest.index and ring.end_sample >= SAMPLES_PER_FRAME * (self._next + 1):
            if self._next == newest.index or self._shown is None:
                self._shown = newest.picture
            self._epoch = epoch
            self._deliver_next(ring, self._shown)
            self._next += 1

    def _deliver_next(self, ring: AudioRing, picture: av.VideoFrame) -> None:
        try:
            samples = ring.window(SAMPLES_PER_FRAME * (self._next + 1))[-SAMPLES_PER_FRAME:].copy()
        except SamplesOverwritten:  # this machine slept: nobody waits for that frame
            return
        self._deliver(self._epoch, Frame(self._next, self._to_rgb(picture), samples))
