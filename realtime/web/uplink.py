"""A browser's microphone: the packets of its peer connection -> the feed of a session."""

from __future__ import annotations

from collections.abc import Callable

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from ..audio.input import Feed
from ..audio.resampler import mono
from .aiortc_patches import ImmediateAudioBuffer


async def listen(track: MediaStreamTrack, buffer: ImmediateAudioBuffer, feed: Callable[[], Feed | None]) -> None:
    """Passes a browser's sound to the feed of the moment until the track ends; with none it is dropped.

    Always drained, since aiortc's queue has no bound. RTP's time stamps go with the packets: by them the audio input
    knows their order, and which were lost.
    """
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        assert isinstance(frame, av.AudioFrame) and frame.pts is not None
        to = feed()
        if to is not None:
            samples, _ = mono(frame)
            # aiortc counts from the first packet, and adds a cycle of 2 ** 32 where time stamps go back.
            to.push(samples, frame.sample_rate, source_time=((buffer.first_timestamp or 0) + frame.pts) & 0xFFFFFFFF)
