"""Viewer: one browser's peer connection to a session. Offer in, answer out, gone when nothing is heard of it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, TypedDict

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc import sdp as sdp_format

from ..audio.input import Feed
from ..audio.sources import BrowserMicrophone
from ..errors import MiravoxError
from ..stream.session import Session
from ..stream.status import SessionStatus
from .aiortc_patches import (
    ImmediateAudioBuffer,
    SenderClock,
    estimated_bitrate,
    on_keyframe_request,
    packets_received,
    use_immediate_buffer,
)
from .uplink import listen

log = logging.getLogger("miravox")

WATCH_SECONDS = 0.25  # how often it is looked whether packets of a browser came
SILENT_SECONDS = 15.0  # a browser that lives sends reports every second
OUTAGE_SECONDS, OUTAGE_GAPS = 0.5, 3.0  # silence of so long, and so many times the usual, was an outage
LONGEST_USUAL_SECONDS = 2.0  # that is learnt from one silence
VIDEO_RATE, OPUS_RATE = 90_000, 48_000  # Hz of RTP time stamps


def check_offer(sdp: object, kind: object) -> str:
    """The codec to send, "H264" or "VP8". Raises MiravoxError if the offer is not one that can be answered."""
    if not isinstance(sdp, str) or kind != "offer":
        raise _bad_offer(f"type {kind!r} and an sdp that is {type(sdp).__name__}")
    try:
        description = sdp_format.SessionDescription.parse(sdp)
    except Exception as error:  # aiortc's parser raises whatever the text provokes
        raise _bad_offer(f"an SDP that cannot be read ({type(error).__name__}: {error})") from error
    media = {m.kind: m for m in description.media}
    for wanted in ("audio", "video"):
        if wanted not in media:
            raise _bad_offer(f"an SDP without {wanted}")
        ice, dtls = media[wanted].ice, media[wanted].dtls
        if ice is None or not ice.usernameFragment or dtls is None or not dtls.fingerprints:
            raise _bad_offer(f"an SDP whose {wanted} has no ICE user name or DTLS fingerprint")
    if "opus" not in {codec.name.lower() for codec in media["audio"].rtp.codecs}:
        raise _bad_offer("an SDP without Opus")
    h264 = [c for c in media["video"].rtp.codecs if c.name.upper() == "H264"]
    baseline = ("42001f", "42e01f")
    if any(
        str(c.parameters.get("packetization-mode")) == "1"
        and str(c.parameters.get("profile-level-id", "42001f")).lower().startswith(("4200", "42e0", "42c0"))
        for c in h264
    ):
        return "H264"
    if any(c.name.upper() == "VP8" for c in media["video"].rtp.codecs):
        return "VP8"
    raise _bad_offer(f"an SDP without VP8 and without H.264 Baseline ({' or '.join(baseline)}, packetization mode 1)")


def _bad_offer(found: str) -> MiravoxError:
    return MiravoxError(
        "offer",
        found=found,
        wanted="a WebRTC offer with one audio and one video section, Opus, and H.264 or VP8",
        remedy="Offer again, with all candidates gathered.",
    )


class OutageDetector:
    """Tells from the number of packets that came, polled every quarter of a second, when an outage has ended.

    A browser that speaks sends fifty packets a second, one that only views about one: how long a usual silence is, is
    learnt.
    """

    def __init__(self) -> None:
        self.silent_seconds = 0.0  # since the last packet
        self._received = 0
        self._usual = WATCH_SECONDS  # seconds between two polls that found packets

    def poll(self, received: int) -> bool:
        """Takes the number of packets received so far; True if they come again after an outage."""
        if received == self._received:
            self.silent_seconds += WATCH_SECONDS
            return False
        gap, self._received, self.silent_seconds = self.silent_seconds + WATCH_SECONDS, received, 0.0
        outage = gap > max(OUTAGE_SECONDS, OUTAGE_GAPS * self._usual)
        self._usual += 0.2 * (min(gap, LONGEST_USUAL_SECONDS) - self._usual)
        return outage


class VideoStatus(TypedDict):
    """The video that a viewer gets."""

    codec: str  # H264 or VP8
    rtp_origin: int | None  # RTP time stamp of frame 0, once two frames were sent
    bitrate: int  # bits per second


class ViewerStatus(SessionStatus):
    """What a viewer's page shows: its session's status, and what is its own."""

    viewer: str  # id
    state: str  # of the peer connection: new, connecting, connected, closed, failed
    video: VideoStatus
    time_ms: float  # now, on this machine's monotonic clock


class Viewer:
    """One peer connection that views a session. Lives on the event loop.

    Args:
        on_gone: is called once, when the browser has left or nothing was heard of it for 15 s.
    """

    def __init__(
        self,
        session: Session,
        codec: str,
        ice_servers: list[RTCIceServer],
        on_gone: Callable[[Viewer], None],
    ) -> None:
        self.id = secrets.token_urlsafe(9)
        self.session, self.codec = session, codec
        self._on_gone = on_gone
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=ice_servers))  # without a list aiortc asks Google
        self._tasks: set[asyncio.Task[Any]] = set()
        self._video_clock: SenderClock | None = None
        self._sender: RTCRtpSender | None = None
        self._closed = False
        self._video, self._audio = session.broadcast.add_viewer(codec, self._estimate)

    async def answer(self, sdp: str) -> str:
        """Answers an offer that `check_offer` passed. Raises MiravoxError if it cannot be."""
        pc = self._pc
        pc.on("track", self._on_track)
        pc.on("connectionstatechange", self._on_state)
        # Before the offer is applied: otherwise aiortc takes the first codec of the browser's list.
        video = pc.addTransceiver(self._video, direction="sendonly")
        capabilities = RTCRtpSender.getCapabilities("video").codecs
        wanted = (f"video/{self.codec}".lower(), "video/rtx")
        video.setCodecPreferences([c for c in capabilities if c.mimeType.lower() in wanted])
        self._sender = video.sender
        audio_sender = pc.addTrack(self._audio)
        try:
            await pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
            for transceiver in pc.getTransceivers():
                if transceiver.kind == "audio":
                    transceiver.setCodecPreferences(
                        [c for c in RTCRtpSender.getCapabilities("audio").codecs if c.mimeType == "audio/opus"]
                    )
            zero = self.session.wall_clock_zero
            self._video_clock = SenderClock(video.sender, VIDEO_RATE, zero)
            SenderClock(audio_sender, OPUS_RATE, zero)
            on_keyframe_request(video.sender, lambda: self.session.broadcast.request_keyframe(self.codec))
            await pc.setLocalDescription(await pc.createAnswer())
        except MiravoxError:
            raise
        except Exception as error:  # aiortc raises whatever an odd offer provokes
            raise _bad_offer(f"an SDP that cannot be answered ({type(error).__name__}: {error})") from error
        self._spawn(self._watch())
        return str(pc.localDescription.sdp)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_track(self, track: Any) -> None:
        if track.kind == "audio":
            self._spawn(listen(track, self._buffer_of(track), self._feed))

    def _buffer_of(self, track: Any) -> ImmediateAudioBuffer:
        """Replaces the buffer of the track's receiver, before any packet has come."""
        for transceiver in self._pc.getTransceivers():
            if transceiver.receiver.track is track:
                return use_immediate_buffer(transceiver.receiver)
        raise AssertionError("a track without a receiver")

    def _feed(self) -> Feed | None:
        source = self.session.source
        return source.feed if isinstance(source, BrowserMicrophone) else None

    def _estimate(self) -> int | None:
        """On the composing thread, which may ask while the connection is still being made."""
        return None if self._sender is None else estimated_bitrate(self._sender)

    async def _watch(self) -> None:
        """Finds out about a browser that died without goodbye, and about outages: they end with a keyframe."""
        assert self._sender is not None
        transport, detector = self._sender.transport, OutageDetector()
        while detector.silent_seconds < SILENT_SECONDS:
            await asyncio.sleep(WATCH_SECONDS)
            if detector.poll(packets_received(transport)):
                self.session.broadcast.request_keyframe(self.codec)
        log.info("viewer %s: nothing came for %.0f s", self.id, detector.silent_seconds)
        self._gone()

    async def _on_state(self) -> None:
        if self._pc.connectionState in ("failed", "closed"):
            self._gone()

    def _gone(self) -> None:
        if not self._closed:
            self._on_gone(self)

    async def close(self) -> None:
        """Says goodbye to the browser. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self.session.broadcast.remove_viewer(self._video, self._audio)
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        await self._pc.close()

    def status(self) -> ViewerStatus:
        """The session's status and what is this viewer's own."""
        origin = self._video_clock.origin if self._video_clock is not None else None
        return ViewerStatus(
            **self.session.status(),
            viewer=self.id,
            state=self._pc.connectionState,
            video=VideoStatus(codec=self.codec, rtp_origin=origin, bitrate=self.session.broadcast.bitrate(self.codec)),
            time_ms=1000 * time.monotonic(),
        )
