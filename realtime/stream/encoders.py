"""Frames -> H.264 or VP8 packets, speech -> Opus packets, stamped with their sample. One encode for all viewers."""

from __future__ import annotations

import logging
from fractions import Fraction
from functools import cache
from typing import Any, TypeAlias

import av
import av.logging
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from ..arrays import FloatArray
from ..audio.block import BLOCK_SAMPLES
from ..contract import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME
from ..face.yuv import flag_bt709
from .rate_control import START_BITRATE

log = logging.getLogger("miravox")

Packet: TypeAlias = "av.Packet[Any]"

SAMPLE_TIME = Fraction(1, SAMPLE_RATE)
KEYFRAME_FRAMES = 2 * FRAME_RATE  # the longest distance of two keyframes: who missed one waits no longer for the next
REQUEST_FRAMES = FRAME_RATE // 2  # the shortest distance on request: one keyframe answers the requests of many viewers
NVENC = "h264_nvenc"  # FFmpeg's name of the H.264 encoder on NVIDIA GPUs
# Every frame comes out as one packet at once, in the profile that all browsers decode, as libx264's does.
NVENC_OPTIONS = {
    "preset": "p2",
    "tune": "ull",
    "rc": "cbr",
    "delay": "0",
    "zerolatency": "1",
    "bf": "0",
    "forced-idr": "1",
    "profile": "baseline",
}
LEVEL_31_PIXELS = 960 * 960  # of the largest square of H.264's level 3.1; level 3.2 allows all sizes up to 1024
PROBE_SIZE = 256  # pixels: side of the frame that NVENC is tried with; it refuses less than about 150
# How far the bitrate of an open NVENC encoder may move from the one that its rate buffer was sized for, which cannot be
# changed: as a ratio.
RETUNED_WITHIN = 1.5
SPEECH_BITRATE = 40_000  # bits per second
EXPECTED_LOSS_PERCENT = 5  # of speech packets: how much redundancy Opus adds


def video_context(encoder: str, size: int, pix_fmt: str, bitrate: int) -> av.VideoCodecContext:
    """A context of "h264_nvenc", "libx264" or "libvpx", not opened yet, for squares of `size` pixels.

    Args:
        pix_fmt: "yuv420p", which every encoder takes; "nv12" and "cuda" are NVENC's too.
        bitrate: bits per second.
    """
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width = context.height = size
    context.pix_fmt = pix_fmt
    context.framerate, context.time_base = Fraction(FRAME_RATE), SAMPLE_TIME
    context.bit_rate = bitrate
    context.gop_size = KEYFRAME_FRAMES
    context.thread_count = 1  # a second thread costs as much processor time and shares it with the renderer
    flag_bt709(context)
    if encoder == NVENC:
        level = "3.1" if size * size <= LEVEL_31_PIXELS else "auto"
        context.options = {**NVENC_OPTIONS, "level": level, "bufsize": str(bitrate // 4)}
    elif encoder == "libx264":
        context.profile = "Baseline"
        rate = {"maxrate": str(bitrate), "bufsize": str(bitrate // 4)}
        level = "31" if size * size <= LEVEL_31_PIXELS else "32"
        context.options = {"preset": "superfast", "tune": "zerolatency", "level": level, "forced-idr": "1", **rate}
    else:
        assert encoder == "libvpx", encoder
        context.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "error-resilient": "1"}
    return context


@cache
def probe_nvenc() -> str | None:
    """Why NVENC does not encode on the first GPU, in FFmpeg's words; None if it does.

    The first call opens an encoder and encodes a frame, which may take a second: there are GPUs without NVENC (H100)
    and drivers that are too old for it. FFmpeg's messages are collected meanwhile.
    """
    level = av.logging.get_level()
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as messages:
            return _probe(messages)
    finally:
        av.logging.set_level(level)


def _probe(messages: list[tuple[int, str, str]]) -> str | None:
    grey = np.full((PROBE_SIZE * 3 // 2, PROBE_SIZE), 128, np.uint8)
    frame = av.VideoFrame.from_ndarray(grey, format="nv12")
    frame.pts, frame.time_base = 0, SAMPLE_TIME
    try:
        context = video_context(NVENC, PROBE_SIZE, "nv12", START_BITRATE)
        context.options = {**context.options, "gpu": "0"}
        packets = context.encode(frame)
    except (av.FFmpegError, UnknownCodecError) as error:
        return "; ".join(dict.fromkeys(text.strip() for _, _, text in messages)) or str(error)
    if [packet.is_keyframe for packet in packets] != [True]:
        return f"{NVENC} opens, but does not return its first frame at once"
    return None


class VideoEncoder:
    """One encoder for all viewers of a session who take the same codec: "H264" or "VP8".

    Args:
        size: side of the frame in pixels.
        hardware: H.264 is encoded by NVENC if that works here, by libx264 otherwise. `hardware` says which it is.
    """

    def __init__(self, codec: str, size: int, hardware: bool = False) -> None:
        self.codec, self.size = codec, size
        self.hardware = False
        if hardware and codec == "H264":
            reason = probe_nvenc()
            self.hardware = reason is None
            if reason is not None:
                log.info("libx264 encodes: NVENC does not work here (%s)", reason)
        self.bitrate = 0  # bits per second, of the open encoder
        self.keyframes = 0
        self._context: av.VideoCodecContext | None = None
        self._opened_bitrate = 0  # that the open encoder's rate buffer, a quarter of a second, was sized for
        self._retunes = True  # whether changing the bitrate of an open encoder has worked so far
        self._to_yuv420p = VideoReformatter()
        self._keyframe_wanted = False
        self._last_keyframe = -REQUEST_FRAMES
        self._since_keyframe = 0  # frames that were encoded

    def request_keyframe(self) -> None:
        """The next frame, or one within half a second of the last keyframe, will be a keyframe. Any thread."""
        self._keyframe_wanted = True

    def encode(self, frame: av.VideoFrame, frame_index: int, bitrate: int) -> list[Packet]:
        """Encodes frame k; its packets carry sample 640 k as time stamp.

        Args:
            frame: BT.709, limited range: yuv420p or nv12, or "cuda" (gpu/device_frame.py), which NVENC reads where
                it is and the other encoders download.
        """
        try:
            return self._encode(frame, frame_index, bitrate)
        except av.FFmpegError as error:
            if not self.hardware:
                raise
            # What the probe could not know: the GPU's encoders are all taken, or it refuses this size.
            log.warning("libx264 encodes from now on: NVENC failed (%s)", error)
            self.hardware, self._context = False, None
            return self._encode(frame, frame_index, bitrate)

    def close(self) -> None:
        """Lets go of the encoder, and of the frames it holds. The next frame would open it again."""
        self._context = None

    def _encode(self, frame: av.VideoFrame, frame_index: int, bitrate: int) -> list[Packet]:
        if not self.hardware and frame.format.name != "yuv420p":
            frame = self._to_yuv420p.reformat(frame, format="yuv420p")
        retuned = self._context is not None and bitrate != self.bitrate and self._retune(bitrate)
        if self._context is None or bitrate != self.bitrate or self._context.pix_fmt != frame.format.name:
            self._context = self._open(frame.format.name, bitrate)
        forced = self._keyframe_wanted and frame_index - self._last_keyframe >= REQUEST_FRAMES and not retuned
        frame.pict_type = PictureType.I if forced else PictureType.NONE
        frame.pts, frame.time_base = SAMPLES_PER_FRAME * frame_index, SAMPLE_TIME
        packets = self._context.encode(frame)
        self._since_keyframe += 1
        for packet in packets:
            packet.pts, packet.time_base = SAMPLES_PER_FRAME * frame_index, SAMPLE_TIME
            if packet.is_keyframe:
                self.keyframes += 1
                self._last_keyframe, self._keyframe_wanted = frame_index, False
                self._since_keyframe = 0
        if retuned and self._since_keyframe:
            log.info("NVENC keeps its bitrate while it is open: it is opened anew for every change")
            self._retunes, self._context = False, None
        return packets

    def _retune(self, bitrate: int) -> bool:
        """Gives the open NVENC encoder another bitrate instead of opening a new one; False where that cannot work.

        FFmpeg passes the new bitrate on to NVENC, which answers with a keyframe; where that fails FFmpeg only logs it.
        So whether the next frame is a keyframe tells whether it worked, unless a keyframe is due at that frame anyway.
        """
        assert self._context is not None
        near = max(bitrate, self._opened_bitrate) <= RETUNED_WITHIN * min(bitrate, self._opened_bitrate)
        if not (self.hardware and self._retunes and near and self._since_keyframe + 1 < KEYFRAME_FRAMES):
            return False
        self._context.bit_rate = self.bitrate = bitrate
        return True

    def _open(self, pix_fmt: str, bitrate: int) -> av.VideoCodecContext:
        self._context = None  # closed before the next is opened: GPUs may allow only a few
        encoder = NVENC if self.hardware else "libx264" if self.codec == "H264" else "libvpx"
        self.bitrate = self._opened_bitrate = bitrate
        return video_context(encoder, self.size, pix_fmt, bitrate)


class SpeechEncoder:
    """Opus, 20 ms a packet, with redundancy against loss."""

    def __init__(self) -> None:
        context = av.CodecContext.create("libopus", "w")
        assert isinstance(context, av.AudioCodecContext)
        context.format, context.layout, context.sample_rate = "flt", "mono", SAMPLE_RATE
        context.bit_rate, context.time_base = SPEECH_BITRATE, SAMPLE_TIME
        context.thread_count = 1  # otherwise one for each core waits, until the encoder goes
        context.options = {
            "application": "voip",
            "frame_duration": "20",
            "fec": "1",
            "packet_loss": str(EXPECTED_LOSS_PERCENT),
        }
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
