"""The adjustments to aiortc, at the names that they hold on to: these tests fail when aiortc renames one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import aioice.ice
import aiortc.codecs
import aiortc.rtcrtpsender
import pytest
from aiortc import RTCPeerConnection, clock
from aiortc.codecs import get_encoder
from aiortc.jitterbuffer import JitterBuffer
from aiortc.mediastreams import convert_timebase
from aiortc.rtp import (
    HeaderExtensions,
    HeaderExtensionsMap,
    RtcpSenderInfo,
    RtcpSrPacket,
    RtpPacket,
    unpack_header_extensions,
)

from realtime.errors import MiravoxError
from realtime.web import aiortc_patches
from realtime.web.aiortc_patches import (
    PLAYOUT_DELAY_URI,
    ImmediateAudioBuffer,
    SenderClock,
    estimated_bitrate,
    packer_of,
    packets_received,
    use_immediate_buffer,
)


@pytest.fixture
def patched() -> Iterator[None]:
    addresses, ntp_time = aioice.ice.get_host_addresses, clock.current_ntp_time
    packing: tuple[Any, ...] = (aiortc.codecs.h264, aiortc.codecs.opus, aiortc.codecs.vpx)
    conversions = [codec.convert_timebase for codec in packing]
    aiortc_patches.install(loopback_only=True)
    yield
    aioice.ice.get_host_addresses, clock.current_ntp_time = addresses, ntp_time
    aiortc.rtcrtpsender.get_encoder = get_encoder
    for codec, conversion in zip(packing, conversions, strict=True):
        codec.convert_timebase = conversion


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    aiortc_patches.check_version()
    monkeypatch.setattr(aiortc_patches, "version", lambda name: "1.17.0")
    with pytest.raises(MiravoxError, match=r"found version 1\.17\.0; wanted 1\.16\.\*"):
        aiortc_patches.install(loopback_only=True)


def test_the_version_guard_and_the_requirement_agree() -> None:
    import tomllib

    from tests.conftest import ROOT

    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"aiortc=={aiortc_patches.TESTED_VERSION}*" in dependencies


def test_private_names_are_what_they_were() -> None:
    """On a real connection's sender and receiver."""

    async def check() -> None:
        pc = RTCPeerConnection()
        audio, video = pc.addTransceiver("audio"), pc.addTransceiver("video")
        assert isinstance(use_immediate_buffer(audio.receiver), ImmediateAudioBuffer)
        SenderClock(video.sender, 90_000, 0.0)
        aiortc_patches.on_keyframe_request(video.sender, lambda: None)
        assert packets_received(video.sender.transport) == 0
        assert hasattr(video.sender, "_RTCRtpSender__encoder") and estimated_bitrate(video.sender) is None
        assert callable(aiortc.rtcrtpsender.get_encoder) and callable(aioice.ice.get_host_addresses)
        await pc.close()

    asyncio.run(check())


def test_a_renamed_name_is_told() -> None:
    with pytest.raises(MiravoxError, match="without _RTCRtpReceiver__jitter_buffer"):
        use_immediate_buffer(SimpleNamespace())


# 1. Microphone


def rtp(sequence: int, timestamp: int) -> Any:
    packet: Any = RtpPacket(sequence_number=sequence, timestamp=timestamp)
    packet._data = b"%d" % sequence
    return packet


def delivered(buffer: JitterBuffer, sequences: list[int]) -> list[bytes]:
    frames = [buffer.add(rtp(s & 0xFFFF, 960 * s))[1] for s in sequences]
    return [f.data for f in frames if f is not None]


def test_every_packet_is_handed_over_at_once_and_once() -> None:
    """Packets that were overtaken, too: the audio input puts them where they belong. They used to be dropped."""
    buffer = ImmediateAudioBuffer()
    given = [10, 11, 13, 12, 14, 14, 15, 12, 10]
    assert delivered(buffer, given) == [b"10", b"11", b"13", b"12", b"14", b"15"]
    assert buffer.first_timestamp == 9600


def test_sequence_numbers_wrap() -> None:
    assert len(delivered(ImmediateAudioBuffer(), list(range(65_530, 65_545)))) == 15
    assert len(delivered(ImmediateAudioBuffer(), [65_534, 65_536, 65_535, 65_537, 65_535])) == 4


def test_a_stream_that_begins_anew_is_heard() -> None:
    """Sequence numbers that go back by a thousand silenced a microphone for twenty seconds."""
    buffer = ImmediateAudioBuffer()
    given = [*range(5000, 5010), *range(4000, 4010), *range(40_000, 40_010)]
    assert len(delivered(buffer, given)) == len(given)


def test_aiortcs_own_buffer_still_needs_replacing() -> None:
    """If this fails, aiortc has mended it, and the adjustment can go."""
    assert len(delivered(JitterBuffer(capacity=16, prefetch=4), list(range(20)))) < 18


# 2. Playout delay


def test_the_extension_is_negotiated_and_sent(patched: None) -> None:
    assert [e.uri for e in aiortc.codecs.HEADER_EXTENSIONS["video"]].count(PLAYOUT_DELAY_URI) == 1
    mapping = HeaderExtensionsMap()
    extensions = [
        SimpleNamespace(id=4, uri="urn:ietf:params:rtp-hdrext:sdes:mid"),
        SimpleNamespace(id=9, uri=PLAYOUT_DELAY_URI),
    ]
    parameters: Any = SimpleNamespace(headerExtensions=extensions)
    mapping.configure(parameters)
    profile, data = mapping.set(HeaderExtensions(mid="0"))
    assert dict(unpack_header_extensions(profile, data)) == {4: b"0", 9: b"\0\0\0"}
    alone = HeaderExtensionsMap()
    parameters.headerExtensions = extensions[1:]
    alone.configure(parameters)
    assert dict(unpack_header_extensions(*alone.set(HeaderExtensions()))) == {9: b"\0\0\0"}
    without = HeaderExtensionsMap()
    parameters.headerExtensions = extensions[:1]
    without.configure(parameters)
    assert dict(unpack_header_extensions(*without.set(HeaderExtensions(mid="0")))) == {4: b"0"}


# 3. Sender reports


class FakeSender:
    """As much of RTCRtpSender as SenderClock touches."""

    def __init__(self) -> None:
        self._RTCRtpSender__rtp_timestamp = 0
        self._RTCRtpSender__ntp_timestamp = 0
        self._RTCRtpSender__lsr: int | None = None
        self.timestamps = [0, 3600, 7200, (1 << 32) + 3600]
        self.sent: list[Any] = []

    async def _next_encoded_frame(self, codec: object) -> Any:
        return SimpleNamespace(timestamp=self.timestamps.pop(0))

    async def _send_rtcp(self, packets: list[Any]) -> None:
        self.sent += packets


def report(rtp_timestamp: int) -> RtcpSrPacket:
    info = RtcpSenderInfo(ntp_timestamp=1, rtp_timestamp=rtp_timestamp, packet_count=1, octet_count=1)
    return RtcpSrPacket(ssrc=1, sender_info=info)


def test_reports_map_to_the_sample_clock() -> None:
    async def play() -> None:
        sender: Any = FakeSender()
        origin, zero = 0xFFFF_FFF0, 1_700_000_000.0
        sender_clock = SenderClock(sender, 90_000, zero)

        async def next_frame() -> None:
            """As aiortc's loop does it."""
            frame = await sender._next_encoded_frame(None)
            sender._RTCRtpSender__rtp_timestamp = (origin + frame.timestamp) & 0xFFFFFFFF

        await next_frame()
        await sender._send_rtcp([report(origin)])
        assert not sender.sent, "before the origin is known a report would mislead"
        await next_frame()
        assert sender_clock.origin == origin
        for media_seconds in (0.04, 0.08):
            await sender._send_rtcp([report((origin + round(90_000 * media_seconds)) & 0xFFFFFFFF)])
            ntp = sender.sent[-1].sender_info.ntp_timestamp
            assert clock.datetime_from_ntp(ntp).timestamp() == pytest.approx(zero + media_seconds, abs=1e-5)
            assert sender._RTCRtpSender__lsr == (ntp >> 16) & 0xFFFFFFFF, "round trips are still measured"
            await next_frame()
        await sender._send_rtcp([report((origin + 3600) & 0xFFFFFFFF)])  # 13 hours later
        wrapped = clock.datetime_from_ntp(sender.sent[-1].sender_info.ntp_timestamp).timestamp()
        assert wrapped == pytest.approx(zero + ((1 << 32) + 3600) / 90_000, abs=1e-4)

    asyncio.run(play())


# 4. Encoders


@pytest.mark.parametrize("mime", ["video/H264", "video/VP8"])
def test_packers_pack_and_keep_the_estimate(mime: str) -> None:
    from fractions import Fraction

    import av

    (codec,) = [c for c in aiortc.codecs.CODECS["video"] if c.mimeType == mime][:1]
    packer: Any = packer_of(codec)
    packet = av.Packet(b"\0\0\0\1\x65" + b"x" * 5000)
    packet.pts, packet.time_base = 640, Fraction(1, 16_000)
    payloads, timestamp = packer.pack(packet)
    assert timestamp == 3600 and len(payloads) > 3 and max(map(len, payloads)) <= 1300
    packer.target_bitrate = 123_456  # as aiortc does for a REMB report; its own encoders clamp it
    assert packer.target_bitrate == 123_456


def test_the_estimate_reaches_the_session(patched: None) -> None:
    sender: Any = SimpleNamespace(_RTCRtpSender__encoder=SimpleNamespace(target_bitrate=700_000))
    assert estimated_bitrate(sender) == 700_000


def test_a_server_for_this_machine_gathers_no_other_address(patched: None) -> None:
    assert aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=True) == ["127.0.0.1"]
    aiortc_patches.install(loopback_only=False)
    assert "127.0.0.1" not in aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False)


# 5. Arithmetic


def test_time_stamps_and_the_time_of_day_are_aiortcs_own(patched: None) -> None:
    for codec in (aiortc.codecs.h264, aiortc.codecs.opus, aiortc.codecs.vpx):
        assert codec.convert_timebase is aiortc_patches.in_timebase
    rng = random.Random(0)
    for _ in range(200):
        sample = rng.randrange(1 << 40)
        for rate in (48_000, 90_000):
            before, after = Fraction(1, 16_000), Fraction(1, rate)
            assert aiortc_patches.in_timebase(sample, before, after) == convert_timebase(sample, before, after)
    earlier = clock.datetime_to_ntp(clock.current_datetime())
    now = clock.current_ntp_time()
    later = clock.datetime_to_ntp(clock.current_datetime())
    microsecond = (1 << 32) // 1_000_000 + 1
    assert clock.current_ntp_time is aiortc_patches.ntp_now
    assert earlier - microsecond <= now <= later + microsecond
