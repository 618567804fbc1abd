"""A browser's microphone: the packets of its peer connection -> the feed of a session."""

from __future__ import annotations

from collections.abc import Callable

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from ..audio.input import Feed
from ..audio.resampler import mono
from .aiortc_patches import ImmediateAudioBuffer

OPUS_RATE = 48_000  # Hz of an Opus time stamp
MAX_GAP_SECONDS = 1.0  # of a browser's lost packets that are filled with silence by time stamp


async def listen(track: MediaStreamTrack, buffer: ImmediateAudioBuffer, feed: Callable[[], Feed | None]) -> None:
    """Passes a browser's sound to the feed of the moment until the track ends; with none it is dropped.

    Always drained, since aiortc's queue has no bound. Lost packets become silence by their time stamps.
    """
    next_pts: int | None = None
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        assert isinstance(frame, av.AudioFrame) and frame.pts is not None
        to = feed()
        if to is None:
            next_pts = None
            continue
        samples, _ = mono(frame)
        missing = 0 if next_pts is None else frame.pts - next_pts
        if 0 < missing <= MAX_GAP_SECONDS * OPUS_RATE:
            samples = np.concatenate([np.zeros(missing, np.float32), samples])
        next_pts = frame.pts + frame.samples
        first = ((buffer.first_timestamp or 0) + next_pts - len(samples)) & 0xFFFFFFFF
        to.push(samples, frame.sample_rate, source_time=first)
