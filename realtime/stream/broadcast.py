"""Broadcast: frames and speech of one session, encoded once, to the tracks of all its viewers.

composing thread -> VideoEncoder -> event loop -> EncodedTrack of each viewer
input's thread   -> SpeechOut    -> event loop -> EncodedTrack of each viewer
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from ..audio.block import Block
from ..frames import Frame
from ..stage_timer import StageTimer
from .encoders import Packet, VideoEncoder
from .rate_control import RateControl
from .tracks import EncodedTrack, SpeechOut

CODECS = ("H264", "VP8")
# Speech leaves so much earlier than the lookahead has passed that its frame waits for. A browser plays it later than
# pictures, by the 70 ms of buffer that the page asks for and its output, less rendering (`python -m bench latency`).
SPEECH_LEAD_SAMPLES = 1800


class Broadcast:
    """Made on the event loop, where its viewers come and go.

    Args:
        size: side of the square frames, pixels.
        lookahead_samples: of the avatar.
        timer: is told how long encoding and sending took.
        played: is told the sample up to which speech has left.
    """

    def __init__(self, size: int, lookahead_samples: int, timer: StageTimer, played: Callable[[int], None]) -> None:
        self._timer = timer
        self._loop = asyncio.get_running_loop()
        self._video: dict[str, set[EncodedTrack]] = {codec: set() for codec in CODECS}
        self._audio: set[EncodedTrack] = set()
        self._estimates: dict[EncodedTrack, Callable[[], int | None]] = {}
        self._encoders = {codec: VideoEncoder(codec, size) for codec in CODECS}
        self._rate = RateControl()
        self._speech_out = SpeechOut(
            max(0, lookahead_samples - SPEECH_LEAD_SAMPLES), self._send_speech, played, wanted=lambda: bool(self._audio)
        )

    @property
    def viewers(self) -> int:
        return len(self._audio)

    @property
    def takes_device_frames(self) -> bool:
        """Whether the encoder is on a GPU and reads frames there."""
        return self._encoders["H264"].hardware

    def add_viewer(
        self, codec: str, estimate: Callable[[], int | None], video: EncodedTrack, audio: EncodedTrack
    ) -> None:
        """A viewer's tracks. `estimate` tells what the viewer's network carries, in bits per second."""
        self._video[codec].add(video)
        self._audio.add(audio)
        self._estimates[video] = estimate
        self.request_keyframe(codec)

    def remove_viewer(self, video: EncodedTrack, audio: EncodedTrack) -> None:
        for tracks in self._video.values():
            tracks.discard(video)
        self._audio.discard(audio)
        self._estimates.pop(video, None)

    def request_keyframe(self, codec: str) -> None:
        self._encoders[codec].request_keyframe()

    def bitrate(self, codec: str) -> int:
        """Of the video, bits per second."""
        return self._encoders[codec].bitrate

    def write_speech(self, block: Block) -> None:
        """On the input's thread."""
        self._speech_out.write(block)

    def encode(self, frame: Frame) -> None:
        """Once for all viewers of a codec. On the composing thread."""
        codecs = [codec for codec in CODECS if self._video[codec]]
        if not codecs:
            return
        bitrate, sizes = self._rate.update(self._lowest_estimate(), frame.index), []
        for codec in codecs:
            with self._timer.measure("encoding"):
                encoder = self._encoders[codec]
                picture = frame.on_device if encoder.hardware and frame.on_device is not None else frame.picture
                packets = encoder.encode(picture, frame.index, bitrate)
            self._on_loop(self._send_video, codec, packets, perf_counter())
            sizes.append(sum(packet.size for packet in packets))
        self._rate.sent(max(sizes), frame.index)

    def close(self) -> None:
        """When no frame comes any more; before the frames' memory goes."""
        for encoder in self._encoders.values():
            encoder.close()
        self._speech_out.close()

    def _lowest_estimate(self) -> int | None:
        """What the slowest viewer's network carries."""
        found = [estimate for ask in list(self._estimates.values()) if (estimate := ask()) is not None]
        return min(found, default=None)

    def _send_speech(self, packet: Packet) -> None:
        self._on_loop(self._put, self._audio, [packet])

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the event loop has ended; so does the session
            return

    def _send_video(self, codec: str, packets: list[Packet], encoded: float) -> None:
        self._timer.add("sending", 1000 * (perf_counter() - encoded))
        self._put(self._video[codec], packets)

    def _put(self, tracks: set[EncodedTrack], packets: list[Packet]) -> None:
        for track in tracks:
            for packet in packets:
                track.put(packet)
