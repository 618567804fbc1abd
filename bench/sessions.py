"""How many avatars at once, and how many viewers of one, these cores carry.

    python -m bench sessions --json F [--png F] [--counts 1 2 3] [--viewers 1 10 30] [--seconds 20]

The server is a process of its own; the viewers are aiortc peers in this process, on the same cores, that take RTP in
and decode nothing, in place of browsers elsewhere. Sessions say the sample recording, each from another place. What
they cost is the server's processor time: a straight line says what each further session or viewer adds. Frame times are
those of the session that was worst off.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from bench.browser import ROOT, ServerProcess
from bench.linear import line
from bench.picture import drawing
from bench.startup import stats_of, talking_server
from dataset.files import write_wav
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import SAMPLE_RATE
from realtime.errors import MiravoxError

Figures = dict[str, Any]

SETTLE_SECONDS = 4.0  # left out: connections, first keyframes, caches
MOST_MS = 40.0  # of a frame, 99th percentile: what one at a time may take


class Arrivals:
    """In place of a decoder: counts frames, makes nothing of them."""

    def __init__(self) -> None:
        self.frames = 0

    def decode(self, encoded_frame: object) -> list[object]:
        self.frames += 1
        return []


@contextmanager
def nothing_decoded() -> Iterator[list[Arrivals]]:
    """While it is entered, aiortc's receivers count video frames instead of decoding them: one counter a receiver."""
    counters: list[Arrivals] = []

    def get_decoder(codec: Any) -> Arrivals:
        counter = Arrivals()
        if codec.mimeType.startswith("video/"):
            counters.append(counter)
        return counter

    with mock.patch("aiortc.rtcrtpreceiver.get_decoder", get_decoder):
        yield counters


class View:
    """One peer that views an avatar."""

    def __init__(self, address: str) -> None:
        self.address, self.session = address, ""
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))

    async def open(self, http: aiohttp.ClientSession, source: str) -> None:
        """Raises MiravoxError if the server says no."""
        for kind in ("video", "audio"):
            self.connection.addTransceiver(kind, direction="recvonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        offer = {"sdp": self.connection.localDescription.sdp, "type": "offer", "source": source}
        async with http.post(f"{self.address}offer", json=offer) as response:
            answer = await response.json()
        if "sdp" not in answer:
            raise MiravoxError("/offer", found=str(answer), wanted="an answer", remedy="See the server's log.")
        self.session = answer["session"]
        await self.connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))

    async def say(self, http: aiohttp.ClientSession, wav: bytes) -> None:
        async with http.post(f"{self.address}sessions/{self.session}/file?name=speech.wav", data=wav) as response:
            response.raise_for_status()


def processor_seconds(server: ServerProcess) -> float:
    """That the server has used so far, all its threads."""
    import psutil

    times = psutil.Process(server.process.pid).cpu_times()
    return float(times.user + times.system)


async def watch(server: ServerProcess, count: int, source: str, voices: list[bytes], seconds: float) -> Figures:
    """`count` peers for so long: frames a second that each got, what the server's frames took, and how many cores."""
    views = [View(server.address) for _ in range(count)]
    with nothing_decoded() as arrivals:
        async with aiohttp.ClientSession() as http:
            try:
                for view in views:
                    await view.open(http, source)
                for view, voice in zip(views, voices, strict=False):
                    await view.say(http, voice)
                await asyncio.sleep(SETTLE_SECONDS)
                before, frames = [a.frames for a in arrivals], await asyncio.to_thread(stats_of, server)
                started, used = time.monotonic(), processor_seconds(server)
                await asyncio.sleep(seconds)
                got = [a.frames - b for a, b in zip(arrivals, before, strict=True)]
                stats = await asyncio.to_thread(stats_of, server)
                elapsed, used = time.monotonic() - started, processor_seconds(server) - used
            finally:
                await asyncio.gather(*(view.connection.close() for view in views))
    rendered, late, dropped, unrefined, halved = (
        stats["frames"][name] - frames["frames"][name]
        for name in ("rendered", "late", "dropped", "unrefined", "halved")
    )
    # Each session's own last 500 frames: 20 s. The totals' last 500 are those of a shorter time.
    of_sessions = [session["stages_ms"]["frame"] for session in stats["sessions"]]
    return {
        "p50_ms": max(frame["p50"] for frame in of_sessions),
        "p99_ms": max(frame["p99"] for frame in of_sessions),
        "cores": used / elapsed,
        "fps": min(got, default=0) / elapsed,  # of the peer that got the fewest
        "late_share": late / max(1, rendered),
        "dropped_share": dropped / max(1, rendered + dropped),
        "degraded_share": max(unrefined, halved) / max(1, rendered),  # refined less, or shaded less finely
    }


def sessions(avatar: Avatar, counts: list[int], viewers: list[int], seconds: float) -> Figures:
    """Figures by number of sessions, and by number of viewers of one session; a fresh server for each."""
    speech = read_speech(avatar.sample).samples
    with tempfile.TemporaryDirectory(prefix="miravox-bench-") as name:
        folder = Path(name)
        command = [
            sys.executable,
            str(ROOT / "run_stream.py"),
            "--avatar",
            str(avatar.folder.resolve()),
            "--source",
            "browser",
            "--max-sessions",
            str(max(counts, default=1)),
        ]

        def voice(index: int) -> bytes:
            turned = np.roll(speech, -index * SAMPLE_RATE * 2)
            write_wav(folder / "voice.wav", turned)
            return (folder / "voice.wav").read_bytes()

        result: Figures = {"seconds": seconds, "sessions": {}, "viewers": {}}
        for count in counts:
            with ServerProcess(command, folder / "server.log") as server:
                voices = [voice(i) for i in range(count)]
                result["sessions"][str(count)] = asyncio.run(watch(server, count, "sample", voices, seconds))
        for count in viewers:
            with ServerProcess(talking_server(avatar, "baked"), folder / "server.log") as server:
                result["viewers"][str(count)] = asyncio.run(watch(server, count, "shared", [], seconds))
    result["lines"] = {
        kind: line([int(n) for n in result[kind]], [f["cores"] for f in result[kind].values()])
        for kind in ("sessions", "viewers")
        if len(result[kind]) > 1
    }
    carried = [
        int(n)
        for n, f in result["sessions"].items()
        if f["p99_ms"] <= MOST_MS and f["fps"] > 24.5 and not f["degraded_share"]
    ]
    return result | {"carried": max(carried, default=0)}


def print_table(result: Figures) -> None:
    print(
        f"{'':20} {'frame p50':>10} {'p99, ms':>10} {'cores':>8} {'fps':>8} {'late':>8} {'dropped':>8} {'degraded':>9}"
    )
    for kind in ("sessions", "viewers"):
        for count, f in result[kind].items():
            print(
                f"{count + ' ' + kind:20} {f['p50_ms']:10.1f} {f['p99_ms']:10.1f} {f['cores']:8.2f} {f['fps']:8.2f} "
                f"{100 * f['late_share']:7.2f}% {100 * f['dropped_share']:7.2f}% "
                f"{100 * f['degraded_share']:7.2f}%"
            )
    for kind, fit in result["lines"].items():
        print(
            f"each of the {kind} takes {fit['each']:.3f} cores of the server, besides {fit['base']:.2f} "
            f"(R2 {fit['r2']:.3f})"
        )
    print(f"sessions at once with every frame within {MOST_MS:.0f} ms (p99) and 25 fps: {result['carried']}")


def plot(result: Figures, path: Path) -> None:
    """Frame time, frames a second and cores against the number of sessions, and of viewers."""
    with drawing(path, (9, 5.6), 2, 2, sharex="col") as axes:
        for (upper, lower), kind in zip(axes.T, ("sessions", "viewers"), strict=True):
            counts, found = [int(n) for n in result[kind]], list(result[kind].values())
            upper.plot(counts, [f["p99_ms"] for f in found], "o-", color="#3b6ea5", label="frame, p99, ms")
            upper.plot(counts, [f["fps"] for f in found], "s-", color="#b5651d", label="frames a second")
            upper.legend(loc="lower right")
            lower.plot(counts, [f["cores"] for f in found], "o", color="#3b6ea5", label="cores of the server")
            if kind in result["lines"]:
                fit, ends = result["lines"][kind], [0, counts[-1]]
                label = f"{fit['base']:.2f} + {fit['each']:.3f} each"
                lower.plot(
                    ends, [fit["base"] + fit["each"] * n for n in ends], color="#222222", linewidth=1, label=label
                )
            lower.set_xlabel(kind)
            lower.set_xticks(counts)
            lower.legend(loc="lower right")
            for ax in (upper, lower):
                ax.set_ylim(bottom=0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--counts", type=int, nargs="*", default=[1, 2, 3], help="of sessions")
    parser.add_argument("--viewers", type=int, nargs="*", default=[1, 10, 30], help="of one session")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each")
    parser.add_argument("--png", type=Path, help="picture of the figures")


def run(o: argparse.Namespace) -> Figures:
    result = sessions(load_avatar(o.avatar), o.counts, o.viewers, o.seconds)
    print_table(result)
    if o.png:
        plot(result, o.png)
    return result
