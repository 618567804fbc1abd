"""Viewer: one browser's peer connection to a session. Offer in, answer out, gone when nothing comes from it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, TypedDict

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCRtpSender, RTCSessionDescription

from ..audio.input import Feed
from ..audio.sources import BrowserMicrophone
from ..errors import MiravoxError
from ..stream.session import Session
from ..stream.status import SessionStatus
from ..stream.tracks import EncodedTrack
from . import aiortc_guards
from .aiortc_patches import (
    ImmediateAudioBuffer,
    SenderClock,
    estimated_bitrate,
    on_keyframe_request,
    packets_received,
    use_immediate_buffer,
)
from .offers import Offer, bad_offer
from .uplink import listen

log = logging.getLogger("miravox")

WATCH_SECONDS = 0.25  # how often it is looked whether packets of a browser came, and whether they are wanted
SILENT_SECONDS = 15.0  # a browser that lives sends reports every second
OUTAGE_SECONDS, OUTAGE_GAPS = 0.5, 3.0  # silence of so long, and so many times the usual, was an outage
LONGEST_USUAL_SECONDS = 2.0  # that is learnt from one silence
VIDEO_RATE, OPUS_RATE = 90_000, 48_000  # Hz of RTP time stamps


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
    """One peer connection that views a session: answered first, it joins when it is connected. On the event loop.

    Args:
        source: what the viewer asked for: who is to speak in the session that it joins.
        session_id: of that session, which there need not be yet.
        on_connected: is called once, when media can flow.
        on_gone: is called once, when the browser has left or nothing came from it for 15 s.
    """

    def __init__(
        self,
        codec: str,
        source: str,
        session_id: str,
        ice_servers: list[RTCIceServer],
        on_connected: Callable[[Viewer], None],
        on_gone: Callable[[Viewer], None],
    ) -> None:
        self.id = secrets.token_urlsafe(9)
        self.codec, self.source, self.session_id = codec, source, session_id
        self.session: Session | None = None  # once it has joined
        self.joined: asyncio.Future[Session | None] = asyncio.get_running_loop().create_future()  # None: it left before
        self._on_connected, self._on_gone = on_connected, on_gone
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=ice_servers))  # without a list aiortc asks Google
        self._tasks: set[asyncio.Task[Any]] = set()
        self._clocks: list[SenderClock] = []  # of video and audio
        self._sender: RTCRtpSender | None = None
        self._receiver: Any = None  # of the browser's sound, if it offers some
        self._was_connected = self._closed = False
        self._video, self._audio = EncodedTrack("video", self._request_keyframe), EncodedTrack("audio")

    async def answer(self, offer: Offer, size: int) -> str:
        """The answer's SDP; the video will have `size` pixels a side. Raises MiravoxError if there can be none."""
        pc = self._pc
        pc.on("track", self._on_track)
        pc.on("connectionstatechange", self._on_state)
        video = pc.addTransceiver(self._video, direction="sendonly")
        self._sender = video.sender
        audio_sender = pc.addTrack(self._audio)
        try:
            await pc.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            self._clocks = [SenderClock(video.sender, VIDEO_RATE, 0.0), SenderClock(audio_sender, OPUS_RATE, 0.0)]
            on_keyframe_request(video.sender, self._request_keyframe)
            answer = await pc.createAnswer()
            await pc.setLocalDescription(answer)
        except MiravoxError:
            raise
        except Exception as error:  # aiortc raises whatever an odd offer provokes
            raise bad_offer(f"an SDP that cannot be answered ({type(error).__name__}: {error})") from error
        if offer.named:
            self._spawn(self._find(offer))
        return offer.completed(str(pc.localDescription.sdp), size)

    async def _find(self, offer: Offer) -> None:
        """Looks up candidates that have a name of mDNS; the answer does not wait for that."""
        for candidate in offer.named:
            candidate.sdpMid = offer.sections[offer.kept[0]][1]
        await asyncio.gather(*(self._pc.addIceCandidate(c) for c in offer.named), return_exceptions=True)

    def join(self, session: Session) -> None:
        """From now on it views that session, which runs."""
        self.session = session
        for clock in self._clocks:
            clock.zero = session.wall_clock_zero
        session.broadcast.add_viewer(self.codec, self._estimate, self._video, self._audio)
        self._spawn(self._watch())
        self._listen_if_wanted()
        self.joined.set_result(session)

    def _listen_if_wanted(self) -> None:
        """Nothing that a browser sends is decoded while its microphone is not the source."""
        if self._receiver is not None:
            self._receiver._enabled = self._feed() is not None

    def _request_keyframe(self) -> None:
        if self.session is not None:
            self.session.broadcast.request_keyframe(self.codec)

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
                self._receiver = transceiver.receiver
                self._receiver._enabled = False  # until it has joined
                return use_immediate_buffer(self._receiver)
        raise AssertionError("a track without a receiver")

    def _feed(self) -> Feed | None:
        source = self.session.source if self.session is not None else None
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
            self._listen_if_wanted()
            if detector.poll(packets_received(transport)):
                self._request_keyframe()
        log.info("viewer %s: nothing came for %.0f s", self.id, detector.silent_seconds)
        self._gone()

    async def _on_state(self) -> None:
        state = self._pc.connectionState
        if state == "connected" and not self._was_connected and not self._closed:
            self._was_connected = True
            self._on_connected(self)
        elif state in ("failed", "closed"):
            self._gone()

    def _gone(self) -> None:
        if not self._closed:
            self._on_gone(self)

    async def close(self) -> bool:
        """Says goodbye to the browser; False if its connection did not end in time. May be called twice."""
        if self._closed:
            return True
        self._closed = True
        if not self.joined.done():
            self.joined.set_result(None)
        if self.session is not None:
            self.session.broadcast.remove_viewer(self._video, self._audio)
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        return await aiortc_guards.close(self._pc)

    def status(self) -> ViewerStatus:
        """The session's status and what is this viewer's own. It has joined."""
        assert self.session is not None
        return ViewerStatus(
            **self.session.status(),
            viewer=self.id,
            state=self._pc.connectionState,
            video=VideoStatus(
                codec=self.codec,
                rtp_origin=self._clocks[0].origin,
                bitrate=self.session.broadcast.bitrate(self.codec),
            ),
            time_ms=1000 * time.monotonic(),
        )
