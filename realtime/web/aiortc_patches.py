"""What aiortc must do differently to be live: five adjustments at private names, guarded by a version check.

1. Microphone: each Opus packet is decoded as it comes; the audio input puts them in order, and waits as they need.
   aiortc's own buffer holds 80 ms, and 300 ms for good after one lost packet.
2. Playout delay: the RTP header extension tells the browser to show every frame at once. Without it Chromium holds
   30 to 50 ms, and more after every hiccup.
3. Sender reports map RTP time stamps to the sample clock, not to the moment of sending, so that browsers pair picture
   and speech of the same instant.
4. Encoders: frames come encoded (one encode for all viewers); aiortc only packs them, and the browser's bandwidth
   estimate is kept instead of recreating an encoder for every change.
5. Arithmetic of every packet: its time stamps and the time of day, without objects for fractions and dates, which cost
   as much as the packet's encryption.

And a server bound to this machine alone gathers no other address than 127.0.0.1. What no peer may do stands in
aiortc_guards.py.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from fractions import Fraction
from importlib.metadata import version
from typing import Any

import aioice.ice
import aiortc.codecs
import aiortc.rtcrtpsender
import aiortc.rtp
from aiortc import RTCRtpSender, clock
from aiortc.codecs.base import Encoder
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.opus import OpusEncoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpHeaderExtensionParameters
from aiortc.rtp import RtcpSrPacket

from ..errors import MiravoxError
from . import aiortc_guards

TESTED_VERSION = "1.16."
PLAYOUT_DELAY_URI = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
NO_PLAYOUT_DELAY = b"\0\0\0"  # minimum and maximum, 12 bits each, in 10 ms
ONE_BYTE_PROFILE, MOST_ONE_BYTE_ID = 0xBEDE, 14  # RFC 8285, 4.2
HALF_RANGE = 1 << 15  # of sequence numbers
REMEMBERED_PACKETS = 64  # of 20 ms: a packet that is older is taken for another stream's beginning
NTP_EPOCH_SECONDS = 2_208_988_800  # from 1900, where NTP's time begins, to 1970
NTP_MASK = (1 << 64) - 1  # its seconds begin again in 2036
NANOSECONDS = 1_000_000_000


def check_version() -> None:
    """Raises MiravoxError if aiortc is not a version that the private names were checked against."""
    found = version("aiortc")
    if not found.startswith(TESTED_VERSION):
        raise MiravoxError(
            "aiortc",
            found=f"version {found}",
            wanted=f"{TESTED_VERSION}*",
            remedy="Install it anew: pip install --editable .",
        )


def install(loopback_only: bool) -> None:
    """Applies what is global: playout delay, encoders, addresses. May be called again."""
    check_version()
    _offer_playout_delay()
    aiortc.rtcrtpsender.get_encoder = packer_of
    clock.current_ntp_time = ntp_now
    packing: tuple[Any, ...] = (aiortc.codecs.h264, aiortc.codecs.opus, aiortc.codecs.vpx)
    for codec in packing:
        codec.convert_timebase = in_timebase
    aiortc_guards.install()
    aioice.ice.get_host_addresses = (lambda use_ipv4, use_ipv6: ["127.0.0.1"]) if loopback_only else _host_addresses


_host_addresses = aioice.ice.get_host_addresses


# 1. Microphone


class ImmediateAudioBuffer(JitterBuffer):
    """Hands over each packet at once and once. Packets that others have overtaken come late: the reader orders them.

    An Opus packet is a whole frame, so nothing has to be assembled.
    """

    def __init__(self) -> None:
        super().__init__(capacity=16)
        self.first_timestamp: int | None = None  # RTP, 48 kHz
        self._newest: int | None = None  # sequence number
        self._seen = 0  # bit i: the packet i before the newest one has come

    def add(self, packet: Any) -> tuple[bool, JitterFrame | None]:
        number = packet.sequence_number
        ahead = 0 if self._newest is None else ((number - self._newest + HALF_RANGE) & 0xFFFF) - HALF_RANGE
        if self._newest is None or abs(ahead) >= REMEMBERED_PACKETS:
            self._newest, self._seen = number, 1
        elif ahead > 0:
            self._newest, self._seen = number, (self._seen << ahead | 1) & ((1 << REMEMBERED_PACKETS) - 1)
        elif self._seen >> -ahead & 1:
            return False, None
        else:
            self._seen |= 1 << -ahead
        if self.first_timestamp is None:
            self.first_timestamp = packet.timestamp
        return False, JitterFrame(data=packet._data, timestamp=packet.timestamp)


def use_immediate_buffer(receiver: Any) -> ImmediateAudioBuffer:
    """Replaces the jitter buffer of an audio receiver through which no packet has come yet."""
    _private(receiver, "_RTCRtpReceiver__jitter_buffer", JitterBuffer)
    buffer = ImmediateAudioBuffer()
    receiver._RTCRtpReceiver__jitter_buffer = buffer
    return buffer


# 2. Playout delay


def _offer_playout_delay() -> None:
    extensions = aiortc.codecs.HEADER_EXTENSIONS["video"]
    if any(extension.uri == PLAYOUT_DELAY_URI for extension in extensions):
        return
    extensions.append(RTCRtpHeaderExtensionParameters(id=5, uri=PLAYOUT_DELAY_URI))  # an offer's own id goes first
    mapping: Any = aiortc.rtp.HeaderExtensionsMap
    configure, set_values = mapping.configure, mapping.set

    def configure_with_delay(self: Any, parameters: Any) -> None:
        configure(self, parameters)
        ids = [e.id for e in parameters.headerExtensions if e.uri == PLAYOUT_DELAY_URI]
        self.playout_delay_id = ids[0] if ids else None

    def set_with_delay(self: Any, values: Any) -> tuple[int, bytes]:
        profile, data = set_values(self, values)
        delay_id = getattr(self, "playout_delay_id", None)
        if delay_id is None:
            return profile, data
        if profile == ONE_BYTE_PROFILE and delay_id <= MOST_ONE_BYTE_ID:  # a header's extensions fill whole words
            return profile, data + bytes((delay_id << 4 | len(NO_PLAYOUT_DELAY) - 1,)) + NO_PLAYOUT_DELAY
        others = aiortc.rtp.unpack_header_extensions(profile, data) if data else []
        return aiortc.rtp.pack_header_extensions([*others, (delay_id, NO_PLAYOUT_DELAY)])

    mapping.configure = configure_with_delay
    mapping.set = set_with_delay


# 3. Sender reports


class SenderClock:
    """Makes a sender's reports map its RTP time stamps to wall-clock time zero + media time.

    Args:
        rate: Hz of the RTP clock: 90,000 for video, 48,000 for Opus.
        zero: seconds since 1970 at media time stamp 0; it may be set later, before the first frame.
    """

    def __init__(self, sender: Any, rate: int, zero: float) -> None:
        self._sender, self._rate, self.zero = sender, rate, zero
        self.origin: int | None = None  # RTP time stamp of media time stamp 0; random, known from the second frame on
        self._timestamp: int | None = None
        for name, kind in (("rtp_timestamp", int), ("ntp_timestamp", int), ("lsr", (int, type(None)))):
            _private(sender, f"_RTCRtpSender__{name}", kind)
        self._next_encoded_frame, self._send_rtcp = sender._next_encoded_frame, sender._send_rtcp
        sender._next_encoded_frame, sender._send_rtcp = self._noting_timestamp, self._mapping_reports

    async def _noting_timestamp(self, codec: RTCRtpCodecParameters) -> Any:
        if self.origin is None and self._timestamp is not None:
            # aiortc asks for a frame after the one before was sent, so the two belong together.
            self.origin = (self._sender._RTCRtpSender__rtp_timestamp - self._timestamp) & 0xFFFFFFFF
        frame = await self._next_encoded_frame(codec)
        if frame is not None:
            self._timestamp = frame.timestamp
        return frame

    async def _mapping_reports(self, packets: list[Any]) -> None:
        for packet in packets:
            if isinstance(packet, RtcpSrPacket):
                if self.origin is None or self._timestamp is None:
                    return  # a report without a media time would mislead
                sent = (packet.sender_info.rtp_timestamp - self.origin) & 0xFFFFFFFF
                sent += self._timestamp & ~0xFFFFFFFF  # unwrapped
                moment = datetime.datetime.fromtimestamp(self.zero + sent / self._rate, datetime.UTC)
                packet.sender_info.ntp_timestamp = clock.datetime_to_ntp(moment) & NTP_MASK
                self._sender._RTCRtpSender__lsr = (packet.sender_info.ntp_timestamp >> 16) & 0xFFFFFFFF
        await self._send_rtcp(packets)


# 4. Encoders


class H264Packer(H264Encoder):
    """Packs encoded H.264, and keeps the browser's estimate of what the network carries (bits per second)."""

    target_bitrate: Any = None  # aiortc assigns it; None before the first estimate


class Vp8Packer(Vp8Encoder):
    """Packs encoded VP8, and keeps the browser's estimate of what the network carries (bits per second)."""

    target_bitrate: Any = None


def packer_of(codec: RTCRtpCodecParameters) -> Encoder:
    """Takes the place of aiortc's get_encoder."""
    kind = codec.mimeType.lower()
    if kind == "video/h264":
        return H264Packer()
    elif kind == "video/vp8":
        return Vp8Packer()
    else:
        assert kind == "audio/opus", f"{codec.mimeType} was negotiated; the server accepts Opus only"
        return OpusEncoder()


# 5. Arithmetic


def ntp_now() -> int:
    """The time of day as RTP's reports have it: seconds since 1900 and, in the lower 32 bits, their fraction."""
    seconds, rest = divmod(time.time_ns(), NANOSECONDS)
    return ((seconds + NTP_EPOCH_SECONDS) << 32 | (rest << 32) // NANOSECONDS) & NTP_MASK


def in_timebase(timestamp: int, before: Fraction, after: Fraction) -> int:
    """A time stamp that counts units of `before` seconds, in units of `after`; rounded down."""
    return timestamp * before.numerator * after.denominator // (before.denominator * after.numerator)


def estimated_bitrate(sender: RTCRtpSender) -> int | None:
    """The browser's newest estimate of what the network carries, bits per second; None before the first one."""
    encoder = getattr(sender, "_RTCRtpSender__encoder", None)
    estimate: int | None = getattr(encoder, "target_bitrate", None)
    return estimate


def on_keyframe_request(sender: Any, request: Callable[[], None]) -> None:
    """Calls `request()` whenever the browser asks for a keyframe (PLI or FIR)."""
    _private(sender, "_send_keyframe", object)
    sender._send_keyframe = request


def packets_received(transport: Any) -> int:
    """SRTP, SRTCP and DTLS packets that came from the browser."""
    name = "_RTCDtlsTransport__rx_packets"
    _private(transport, name, int)
    return int(getattr(transport, name))


def _private(owner: Any, name: str, kind: Any) -> None:
    """Raises MiravoxError if a private attribute is not what it was in the version that was tested."""
    if not hasattr(owner, name) or not isinstance(getattr(owner, name), kind):
        raise MiravoxError(
            "aiortc",
            found=f"{type(owner).__name__} without {name}, version {version('aiortc')}",
            wanted=f"{TESTED_VERSION}*",
            remedy="Install it anew: pip install --editable .",
        )
