"""A real server in a process of its own, and a peer that needs no browser."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from tests.conftest import ROOT

TIMEOUT_SECONDS = 60.0  # for what should take one; the cores are shared


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LiveServer:
    """`run_stream.py` with some options, until `stop`; `under` another program that runs it, if one is named."""

    def __init__(
        self,
        *options: str | Path,
        cwd: Path = ROOT,
        port: int | None = None,
        under: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        command = [*under, sys.executable, str(ROOT / "run_stream.py"), "--port", str(self.port), *map(str, options)]
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.address = f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self) -> LiveServer:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.process.communicate()[1]}")
            try:
                if self.get("/health")[1].get("status") == "ok":
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError("the server did not get ready")

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Status and answer, decoded if it is JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, body, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                status, kind, content = response.status, response.headers.get_content_type(), response.read()
        except urllib.error.HTTPError as error:
            status, kind, content = error.code, error.headers.get_content_type(), error.read()
        return status, json.loads(content) if kind == "application/json" else content

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        return self.request("GET", path, None, **headers)

    def post(self, path: str, value: object) -> tuple[int, Any]:
        return self.request("POST", path, json.dumps(value).encode(), Content_Type="application/json")

    def viewers(self) -> list[Any]:
        """What /stats says of each viewer."""
        viewers: list[Any] = self.get("/stats")[1]["viewers"]
        return viewers

    def wait_for(self, condition: Any, seconds: float = TIMEOUT_SECONDS) -> Any:
        """Polls until the condition holds; returns what it gave."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.05)
        raise AssertionError("waited in vain")

    def stop(self) -> tuple[int, str, str]:
        """SIGTERM; returns exit code, stdout and stderr."""
        if self.process.poll() is None:
            self.process.terminate()
        out, err = self.process.communicate(timeout=TIMEOUT_SECONDS)
        return self.process.returncode, out, err

    def __enter__(self) -> LiveServer:
        return self.wait_until_ready()

    def __exit__(self, *_: object) -> None:
        self.stop()


class Tone(MediaStreamTrack):
    """A microphone that hums, in real time."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._index = 0
        self._started = time.monotonic()

    async def recv(self) -> av.AudioFrame:
        await asyncio.sleep(max(0.0, self._started + 0.02 * self._index - time.monotonic()))
        samples = 0.3 * np.sin(2 * np.pi * 200 * (np.arange(960) + 960 * self._index) / 48_000)
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 960 * self._index, Fraction(1, 48_000)
        self._index += 1
        return frame


class Peer:
    """A peer connection to a server: speaks a tone, takes pictures and sound. Use it within one event loop."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.session = self.viewer = ""
        self.pictures: list[av.VideoFrame] = []
        self.sound: list[av.AudioFrame] = []
        self._taking: list[asyncio.Task[None]] = []

    async def offer(self, audio: bool = True, video: bool = True) -> str:
        if video:
            self.pc.addTransceiver("video", direction="recvonly")
        if audio:
            self.pc.addTrack(Tone())
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return str(self.pc.localDescription.sdp)

    async def connect(self, source: str = "browser", token: str = "") -> None:
        self.pc.on("track", lambda track: self._taking.append(asyncio.ensure_future(self._take(track))))
        offer = {"sdp": await self.offer(), "type": "offer", "source": source}
        path = f"/offer?token={quote(token)}" if token else "/offer"
        status, answer = await asyncio.to_thread(self.server.post, path, offer)
        assert status == 200, answer
        self.session, self.viewer = answer["session"], answer["viewer"]
        await self.pc.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))

    async def _take(self, track: Any) -> None:
        while True:
            frame = await track.recv()
            (self.pictures if track.kind == "video" else self.sound).append(frame)

    async def wait_for(self, condition: Any) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        for task in self._taking:
            task.cancel()
        await self.pc.close()
