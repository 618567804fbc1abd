"""What viewers do that mean harm. Each is one deed of one viewer, whose generator chooses how."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from pylibsrtp import Error as SrtpError

from bench.hostile_inputs import SDP_LIES, packets, raw_request
from bench.hostile_viewer import HOST, Hostile

OFFERED_SOURCES = ("browser", "sample", "silence", "shared", "mic", "radio", 7, None)
SOURCES = ("browser", "sample", "silence", "radio", "", None, ["sample"])
PLACE_TRIES = 15  # of what needs a session

Deed = Callable[[Hostile], Awaitable[None]]


async def view_and_leave(viewer: Hostile) -> None:
    """A viewer like any other, for a moment: it says goodbye, or closes, or is gone without a word."""
    async with viewer.connected("view", viewer.rng.choice(OFFERED_SOURCES), tries=3) as (pc, answer):
        if answer:
            await asyncio.sleep(viewer.rng.uniform(0.2, 3))
            # Who is gone without a word holds the place for a while, and keeps the others' harm out.
            (way,) = viewer.rng.choices(("goodbye", "closing", "nothing"), (3, 3, 1))
            if way == "goodbye":
                await viewer.leave(answer)
            elif way == "closing":
                with contextlib.suppress(ConnectionError, TimeoutError):
                    await asyncio.wait_for(pc.close(), 3)


async def offer_without_connecting(viewer: Hostile) -> None:
    """Again and again: each holds what the server holds for a viewer that may still come."""
    for _ in range(viewer.rng.randrange(1, 12)):
        await viewer.offer("never connects", viewer.sdp, "silence")
        await asyncio.sleep(viewer.rng.uniform(0, 0.3))


async def lie_in_sdp(viewer: Hostile) -> None:
    for _ in range(6):
        lie = viewer.rng.choice(sorted(SDP_LIES))
        answer = await viewer.offer(f"SDP: {lie}", SDP_LIES[lie](viewer.sdp, viewer.rng))
        if viewer.rng.random() < 0.7:
            await viewer.leave(answer)


async def upload(viewer: Hostile) -> None:
    """All kinds of recordings into a session of one's own, or into one that is not there."""
    async with viewer.connected("upload", tries=PLACE_TRIES) as (_, answer):
        for name in viewer.rng.sample(sorted(viewer.recordings), 4 if answer else 1):
            path = f"/sessions/{answer.get('session', 'nobody')}/file?name={quote(name, safe='')}"
            await viewer.request(f"upload: {name[:30]!r}", "POST", path, data=viewer.recordings[name])
        await viewer.leave(answer)


async def hang_up(viewer: Hostile) -> None:
    """In the middle of an upload, or right after it; slowly or at once."""
    async with viewer.connected("hang up", tries=PLACE_TRIES) as (_, answer):
        name = viewer.rng.choice(("hour.flac", "wide.flac", "picture.avi", "more than an hour.flac"))
        content = viewer.recordings[name]
        promised = viewer.rng.choice((len(content), 60 * 2**20))
        head = f"POST /sessions/{answer.get('session', 'nobody')}/file?name=a.flac HTTP/1.1\r\nHost: {HOST}\r\n"
        writer = await viewer.socket(f"{head}Content-Length: {promised}\r\n\r\n".encode() + content)
        viewer.tally.inputs["hang up"] += 1
        for _ in range(viewer.rng.choice((0, 1, 20))):
            with contextlib.suppress(ConnectionError):
                writer.write(b"\0")
                await writer.drain()
            await asyncio.sleep(0.25)
        writer.transport.abort()
        await viewer.leave(answer)


async def switch_sources(viewer: Hostile) -> None:
    """As fast as it goes, and leaves in the middle of it."""
    async with viewer.connected("switch", viewer.rng.choice(("sample", "silence")), tries=PLACE_TRIES) as (_, answer):
        path = f"/sessions/{answer.get('session', 'nobody')}/source"
        kinds = [viewer.rng.choice(SOURCES) for _ in range(20)]
        switching = [
            asyncio.ensure_future(viewer.request("switch", "POST", path, json={"source": kind})) for kind in kinds
        ]
        if viewer.rng.random() < 0.5:
            await viewer.leave(answer)
        await asyncio.gather(*switching)
        await viewer.leave(answer)


async def flood(viewer: Hostile) -> None:
    """Requests of all sorts, many at once."""
    paths = (
        "/",
        "/page.js",
        "/config",
        "/stats",
        "/metrics",
        "/health",
        "/poster.jpg",
        "/nothing",
        "/viewers/x",
        "/%00",
    )
    bodies = (b"", b"{", b"[" * 50_000, b'{"sdp": 7}', b'{"sdp": "v=0", "type": "offer"}', b"x" * 300_000, b"null")

    async def one() -> None:
        method, path = (
            viewer.rng.choice(("GET", "GET", "GET", "POST", "DELETE", "PUT", "OPTIONS")),
            viewer.rng.choice(paths),
        )
        if method == "POST" and viewer.rng.random() < 0.7:
            kind = viewer.rng.choice(("application/json", "text/plain", "application/json; charset=utf-7"))
            options = {"data": viewer.rng.choice(bodies), "headers": {"Content-Type": kind}}
            await viewer.request("flood", "POST", "/offer", **options)
        else:
            await viewer.request("flood", method, path)

    await asyncio.gather(*(one() for _ in range(40)))


async def speak_no_http(viewer: Hostile) -> None:
    """And read what is answered, if anything is."""
    for _ in range(5):
        writer = await viewer.socket(raw_request(viewer.rng))
        viewer.tally.inputs["no HTTP"] += 1
        await asyncio.sleep(0.02)
        writer.transport.abort()


async def open_halfway(viewer: Hostile) -> None:
    """Connections over which nothing comes, or half a request."""
    kinds = (b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
    writers = []
    with contextlib.suppress(OSError):
        for _ in range(viewer.rng.choice((10, 60))):
            writers.append(await viewer.socket(viewer.rng.choice(kinds)))
            viewer.tally.inputs["half open"] += 1
    await asyncio.sleep(viewer.rng.uniform(0.5, 4))
    for writer in writers:
        writer.transport.abort()


async def lie_in_rtp(viewer: Hostile) -> None:
    """Over a connection that was made properly."""
    async with viewer.connected("RTP", "browser", tries=PLACE_TRIES) as (pc, answer):
        if not answer:
            return
        transport: Any = pc.getTransceivers()[0].sender.transport
        for _ in range(viewer.rng.randrange(1, 4)):
            for packet in packets(viewer.rng):
                with contextlib.suppress(ConnectionError, SrtpError):  # which sends no packet twice, for one
                    await transport._send_rtp(packet)
                    viewer.tally.inputs["RTP"] += 1
                await asyncio.sleep(0.005)
        if viewer.rng.random() < 0.95:
            await viewer.leave(answer)


async def reload(viewer: Hostile) -> None:
    """The page again and again: each time it is away before its offer is answered."""
    for _ in range(8):
        await viewer.request("reload", "GET", "/")
        await viewer.request("reload", "GET", "/config")
        offering = asyncio.ensure_future(viewer.offer("reload", viewer.sdp, "sample"))
        await asyncio.sleep(viewer.rng.uniform(0, 0.15))
        offering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await viewer.leave(await offering)


async def take_from_others(viewer: Hostile) -> None:
    """Ids of sessions and viewers that the statistics give away, and ids that are guessed."""
    _, stats = await viewer.request("others", "GET", "/stats")
    listed = [*stats.get("sessions", []), *stats.get("viewers", [])] if isinstance(stats, dict) else []
    ids = [str(entry[name]) for entry in listed for name in ("session", "viewer") if isinstance(entry.get(name), str)]
    if ids:
        viewer.tally.fault("GET /stats gives away ids of others' sessions or viewers")
    ids += viewer.rng.sample(("x", "..", "%2e%2e", "a" * 12, "%00", "%C3%A4", "0", "null", "-1", "%ff"), 5)
    for name in ids:
        path = viewer.rng.choice((f"/viewers/{name}", f"/sessions/{name}", f"/sessions/{name}/source"))
        method = "POST" if path.endswith("source") else viewer.rng.choice(("GET", "DELETE"))
        await viewer.request("others", method, path, json={"source": "silence"} if method == "POST" else None)


DEEDS: tuple[Deed, ...] = (
    *(view_and_leave, offer_without_connecting, lie_in_sdp, upload, hang_up, switch_sources, flood, speak_no_http),
    *(open_halfway, lie_in_rtp, reload, take_from_others),
)
