"""Frames -> H.264 or VP8 packets, speech -> Opus packets, stamped with their sample. One encode for all viewers."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import Any, TypeAlias

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

from networks.contract import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.audio_input import BLOCK_SAMPLES
from realtime.resampler import FloatArray

Packet: TypeAlias = "av.Packet[Any]"

SAMPLE_TIME = Fraction(1, SAMPLE_RATE)
BT709_MATRIX = 1  # of the VUI; Colorspace below holds swscale's own numbers
KEYFRAME_SECONDS = 2  # at most between two of them: after an outage the picture is back that soon
REQUEST_FRAMES = FRAME_RATE // 2  # keyframes on request are at least so far apart: requests of many viewers coalesce
SPEECH_BITRATE = 40_000
EXPECTED_LOSS_PERCENT = 5  # of speech packets: how much redundancy Opus puts in

# Bits per second. A step restarts the encoder; each is less than 1.5 times the one before, since a browser estimates no
# more than 1.5 times what it gets.
BITRATES = (300_000, 420_000, 590_000, 820_000, 1_150_000, 1_600_000, 2_250_000)
START_BITRATE = 1_600_000
CONGESTED_BELOW = 0.95  # of what is sent: an estimate below that means that the network does not carry it
USED_ABOVE, ROOM_ABOVE = (
    0.8,
    1.3,
)  # the bitrate is used up, and an estimate of so much more than is sent allows the next
FRAMES_BEFORE_LOWER, FRAMES_BEFORE_RAISE = 2 * FRAME_RATE, 8 * FRAME_RATE
SENT_FRAMES = 2 * FRAME_RATE  # what is sent is measured over


def flag_bt709(codec: av.VideoCodecContext) -> None:
    """Writes into the stream what pictures are: realtime/yuv.py."""
    codec.color_range, codec.colorspace = ColorRange.MPEG, BT709_MATRIX
    codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709


class RateControl:
    """The bitrate, from what browsers say the network carries: in coarse steps, down soon and up slowly.

    What is sent may be far below the bitrate (a still picture, a busy machine), and a browser's estimate with it: only
    an estimate below what is sent speaks of the network.
    """

    def __init__(self) -> None:
        self.bitrate = START_BITRATE
        self._sent: deque[tuple[int, int]] = deque()  # frame, bytes
        self._low_since: int | None = None  # frames
        self._high_since: int | None = None

    def sent(self, size_bytes: int, frame_index: int) -> None:
        """Takes note of an encoded frame."""
        self._sent.append((frame_index, size_bytes))
        while frame_index - self._sent[0][0] >= SENT_FRAMES:
            self._sent.popleft()

    def _sent_rate(self) -> float:
        """Bits per second over the last two seconds."""
        return 8 * sum(size for _, size in self._sent) * FRAME_RATE / SENT_FRAMES

    def update(self, estimate: int | None, frame_index: int) -> int:
        """Takes the lowest estimate of all viewers (bits per second); returns the bitrate from this frame on."""
        if estimate is None:
            return self.bitrate
        sent, above = self._sent_rate(), [b for b in BITRATES if b > self.bitrate]
        low = estimate < CONGESTED_BELOW * sent and self.bitrate > BITRATES[0]
        room = estimate >= ROOM_ABOVE * sent and sent >= USED_ABOVE * self.bitrate
        high = bool(above) and room
        self._low_since = (frame_index if self._low_since is None else self._low_since) if low else None
        self._high_since = (frame_index if self._high_since is None else self._high_since) if high else None
        if self._low_since is not None and frame_index - self._low_since >= FRAMES_BEFORE_LOWER:
            below = [b for b in BITRATES if b < self.bitrate]
            self.bitrate = max((b for b in below if b <= estimate), default=below[0])
            self._low_since = None
        elif self._high_since is not None and frame_index - self._high_since >= FRAMES_BEFORE_RAISE:
            self.bitrate = above[0]
            self._high_since = None
        return self.bitrate


class VideoEncoder:
    """One encoder for all viewers of a session who take the same codec: "H264" or "VP8"."""

    def __init__(self, codec: str, size: int) -> None:
        self.codec, self.size = codec, size
        self.bitrate = 0  # bits per second, of the open encoder
        self.keyframes = 0
        self._context: av.VideoCodecContext | None = None
        self._keyframe_wanted = False
        self._last_keyframe = -REQUEST_FRAMES

    def request_keyframe(self) -> None:
        """The next frame, or one within half a second of the last keyframe, will be a keyframe. Any thread."""
        self._keyframe_wanted = True

    def encode(self, frame: av.VideoFrame, frame_index: int, bitrate: int) -> list[Packet]:
        """Encodes frame k (yuv420p); its packets carry sample 640 k as time stamp."""
        if self._context is None or bitrate != self.bitrate:
            self._context = self._open(bitrate)
        forced = self._keyframe_wanted and frame_index - self._last_keyframe >= REQUEST_FRAMES
        frame.pict_type = PictureType.I if forced else PictureType.NONE
        frame.pts, frame.time_base = SAMPLES_PER_FRAME * frame_index, SAMPLE_TIME
        packets = self._context.encode(frame)
        for packet in packets:
            packet.pts, packet.time_base = SAMPLES_PER_FRAME * frame_index, SAMPLE_TIME
            if packet.is_keyframe:
                self.keyframes += 1
                self._last_keyframe, self._keyframe_wanted = frame_index, False
        return packets

    def _open(self, bitrate: int) -> av.VideoCodecContext:
        context = av.CodecContext.create("libx264" if self.codec == "H264" else "libvpx", "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width = context.height = self.size
        context.pix_fmt = "yuv420p"
        context.framerate, context.time_base = Fraction(FRAME_RATE), SAMPLE_TIME
        context.bit_rate = self.bitrate = bitrate
        context.gop_size = KEYFRAME_SECONDS * FRAME_RATE
        context.thread_count = 1  # a second thread costs as much processor time and shares it with the renderer
        flag_bt709(context)
        if self.codec == "H264":
            context.profile = "Baseline"
            rate = {"maxrate": str(bitrate), "bufsize": str(bitrate // 4)}
            context.options = {"preset": "superfast", "tune": "zerolatency", "level": "31", "forced-idr": "1", **rate}
        else:
            context.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "error-resilient": "1"}
        return context


class SpeechEncoder:
    """Opus, 20 ms a packet, with redundancy against loss."""

    def __init__(self) -> None:
        context = av.CodecContext.create("libopus", "w")
        assert isinstance(context, av.AudioCodecContext)
        context.format, context.layout, context.sample_rate = "flt", "mono", SAMPLE_RATE
        context.bit_rate, context.time_base = SPEECH_BITRATE, SAMPLE_TIME
        context.options = {
            "application": "voip", "frame_duration": "20", "fec": "1", "packet_loss": str(EXPECTED_LOSS_PERCENT),
        }  # fmt: skip
        self._context = context

    def encode(self, samples: FloatArray, start: int) -> list[Packet]:
        """320 samples in [-1, 1] that begin at sample `start`; packets carry it as time stamp."""
        assert len(samples) == BLOCK_SAMPLES
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, SAMPLE_TIME
        packets = self._context.encode(frame)
        for packet in packets:
            packet.pts, packet.time_base = start, SAMPLE_TIME
        return packets
