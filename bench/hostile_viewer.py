"""One viewer that means harm: how it offers, asks and connects; and the tally of what was sent and answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from yarl import URL

HOST = "127.0.0.1"
ANSWER_SECONDS = 15.0  # that an answer may take
CONNECT_SECONDS = 5.0  # that ICE and DTLS may take
AGAIN_SECONDS = 0.4  # between two tries to get a place
EXPECTED_5XX = (503, 507)  # no place, no room on the disk: no faults of the server
MOST_FAULTS = 20  # that are told


class Tally:
    """What was sent, and what was answered."""

    def __init__(self) -> None:
        self.inputs: Counter[str] = Counter()
        self.answers: dict[str, Counter[int]] = {}
        self.faults: list[str] = []

    def note(self, kind: str, status: int, what: str) -> None:
        self.inputs[kind] += 1
        self.answers.setdefault(kind, Counter())[status] += 1
        if status >= 500 and status not in EXPECTED_5XX:
            self.fault(f"{kind}: {status} to {what}")

    def fault(self, what: str) -> None:
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(what)


class Hostile:
    """One viewer that means harm.

    Args:
        sdp: an offer that is right.
        recordings: files to upload, by name.
    """

    def __init__(self, port: int, rng: random.Random, tally: Tally, sdp: str, recordings: dict[str, bytes]) -> None:
        self.port, self.rng, self.tally, self.sdp, self.recordings = port, rng, tally, sdp, recordings
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        self.http = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))

    def url(self, path: str) -> URL:
        return URL(f"http://{HOST}:{self.port}{path}", encoded=True)

    async def request(self, kind: str, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and answer; status 0 where there was none, which is counted, too."""
        try:
            async with self.http.request(method, self.url(path), **options) as response:
                text = await response.text(errors="replace")
                status = response.status
        except TimeoutError:
            self.tally.note(kind, 0, "")
            self.tally.fault(f"{kind}: no answer within {ANSWER_SECONDS:.0f} s to {method} {path[:60]}")
            return 0, {}
        except (aiohttp.ClientError, OSError, ValueError):  # the server closed the connection, or the answer is no HTTP
            self.tally.note(kind, 0, "")
            return 0, {}
        self.tally.note(kind, status, f"{method} {path[:60]}: {text[:200]}")
        with contextlib.suppress(ValueError):
            return status, json.loads(text)
        return status, text

    async def offer(self, kind: str, sdp: str, source: object = "silence") -> dict[str, Any]:
        """The answer; empty where there was none."""
        body = {"sdp": sdp, "type": "offer", "source": source}
        status, answer = await self.request(kind, "POST", "/offer", json=body)
        return answer if status == 200 else {}

    async def leave(self, answer: dict[str, Any]) -> None:
        if "viewer" in answer:
            await self.request("goodbye", "DELETE", f"/viewers/{answer['viewer']}")

    @contextlib.asynccontextmanager
    async def connected(
        self, kind: str, source: object = "silence", tries: int = 1
    ) -> AsyncIterator[tuple[RTCPeerConnection, dict[str, Any]]]:
        """A peer that views a session; the answer is empty if it got none. Where there is no place it tries again.

        It goes without a word, unless it has said one before.
        """
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        try:
            pc.addTransceiver("video", direction="recvonly")
            pc.addTransceiver("audio", direction="sendrecv")
            await pc.setLocalDescription(await pc.createOffer())
            answer: dict[str, Any] = {}
            while not answer and tries:
                answer = await self.offer(kind, pc.localDescription.sdp, source)
                tries -= 1
                if not answer:
                    await asyncio.sleep(AGAIN_SECONDS)
            if answer:
                await pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
                deadline = time.monotonic() + CONNECT_SECONDS
                while pc.connectionState == "connecting" and time.monotonic() < deadline:
                    await asyncio.sleep(0.05)
            yield pc, answer
        finally:
            for transceiver in pc.getTransceivers():
                for protocol in transceiver.sender.transport.transport._connection._protocols:
                    protocol.transport.abort()
            with contextlib.suppress(Exception):  # whatever it says when its sockets are gone
                await asyncio.wait_for(pc.close(), 3)

    async def socket(self, data: bytes) -> asyncio.StreamWriter:
        """A connection over which so much was sent."""
        _, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        return writer
