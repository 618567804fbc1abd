"""The server: the page, offer and answer, sessions and viewers, health, statistics, metrics (aiohttp).

docs/http-api.md describes every route and field.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, TypedDict

import av
from aiohttp import web
from av.video.reformatter import Colorspace

from ..audio.microphone import import_pyaudio
from ..avatar import Avatar
from ..config import StreamConfig, is_loopback
from ..contract import FRAME_RATE, SAMPLE_RATE
from ..errors import MiravoxError
from ..frames import FRAME_COUNTS
from ..stream.session import SERVER_SOURCES, Session
from ..stream.status import SessionStatus
from .metrics import metrics_text
from .sessions import AllTaken, Sessions
from .viewer import Viewer, ViewerStatus, check_offer

log = logging.getLogger("miravox")

CLIENT = Path(__file__).resolve().parent / "client"
PAGE_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# Path of the request -> file: all of the page and nothing else, index.html at "/".
PAGE = {
    "/" if file.name == "index.html" else f"/{file.name}": file
    for file in sorted(CLIENT.iterdir())
    if file.suffix in PAGE_TYPES
}
MAX_OFFER_BYTES = 256 * 1024
MAX_FILE_BYTES = 64 * 2**20
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PUBLIC = {*PAGE, "/health"}  # without a token

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ServerStatus(TypedDict):
    """What /stats says."""

    uptime_s: float
    stages_ms: dict[str, dict[str, float]]  # of all sessions: {stage: {p50, p95, p99}} over the last 20 s
    frames: dict[str, int]  # of all sessions since the start, by the names of frames.FRAME_COUNTS
    max_sessions: int
    shared: str | None  # id of the session that every page may join
    sessions: list[SessionStatus]
    viewers: list[ViewerStatus]


class Server:
    """Answers requests about the sessions of one avatar. Made and used on the event loop."""

    def __init__(self, config: StreamConfig, avatar: Avatar) -> None:
        self.config, self.avatar = config, avatar
        self.sessions = Sessions(config, avatar)
        self._poster = poster(avatar, self.sessions.size)
        self._started = time.monotonic()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_FILE_BYTES)
        for path, file in PAGE.items():
            app.router.add_get(path, self._page(file))
        app.router.add_get("/poster.jpg", self._get_poster)
        app.router.add_get("/config", self._get_config)
        app.router.add_post("/offer", self._post_offer)
        app.router.add_get("/viewers/{id}", self._get_viewer)
        app.router.add_delete("/viewers/{id}", self._delete_viewer)
        app.router.add_get("/sessions/{id}", self._get_session)
        app.router.add_post("/sessions/{id}/source", self._post_source)
        app.router.add_post("/sessions/{id}/file", self._post_file)
        app.router.add_get("/health", self._get_health)
        app.router.add_get("/stats", self._get_stats)
        app.router.add_get("/metrics", self._get_metrics)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Lets in who may; turns every fault into JSON with its reason."""
        try:
            self._check_access(request)
            response = await handler(request)
        except MiravoxError as error:
            response = web.json_response({"error": str(error)}, status=400)
        except web.HTTPException as error:
            response = web.json_response({"error": error.reason}, status=error.status)
        except Exception as error:  # a fault of ours must not leave the browser without an answer
            log.exception("%s %s", request.method, request.path)
            response = web.json_response({"error": f"The server failed: {error}"}, status=500)
        response.headers.update(HEADERS)
        return response

    def _check_access(self, request: web.Request) -> None:
        if self.config.token is None:
            # Bound to this machine alone. A foreign page whose name resolves to 127.0.0.1 must not speak with it.
            if not is_loopback(request.url.host or ""):
                raise web.HTTPForbidden(reason=f"Found host {request.url.host}; wanted 127.0.0.1 or localhost.")
            return
        if request.path in PUBLIC:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        given = given if scheme == "Bearer" else request.query.get("token", "")
        if not hmac.compare_digest(given.encode(), self.config.token.encode()):
            raise web.HTTPForbidden(
                reason="No token or a wrong one. Open the link with ?token=... that the server printed at its start."
            )

    def _page(self, file: Path) -> Handler:
        # Said here, since some systems know .js as text/plain, which browsers refuse as a module.
        headers = {"Content-Type": f"{PAGE_TYPES[file.suffix]}; charset=utf-8"}

        async def get(request: web.Request) -> web.StreamResponse:
            return web.FileResponse(file, headers=headers)

        return get

    async def _get_poster(self, request: web.Request) -> web.Response:
        return web.Response(body=self._poster, content_type="image/jpeg")

    async def _get_config(self, request: web.Request) -> web.Response:
        await self.sessions.wait_until_open()
        return web.json_response(
            {
                "avatar": self.avatar.name,
                "marking": self.avatar.marking,
                "size_pixels": self.sessions.size,
                "frame_rate": FRAME_RATE,
                "lookahead_ms": 1000 * self.avatar.lookahead_samples / SAMPLE_RATE,
                "ice_servers": [
                    {"urls": s.url, **({"username": s.username, "credential": s.credential} if s.username else {})}
                    for s in self.config.ice_servers
                ],
                "shared": self._shared(),
                "server_microphone": has_pyaudio(),
                "max_file_bytes": MAX_FILE_BYTES,
            }
        )

    def _shared(self) -> dict[str, str] | None:
        """The session that every page may join, for /config."""
        shared = self.sessions.shared
        if shared is None:
            return None
        return {"name": shared.source.state().name if shared.source is not None else self.config.source}

    async def _post_offer(self, request: web.Request) -> web.Response:
        offer = await read_json(request, MAX_OFFER_BYTES)
        await self.sessions.wait_until_open()
        codec = check_offer(offer.get("sdp"), offer.get("type"))
        has_shared = self.sessions.shared is not None
        sources = ("browser", *SERVER_SOURCES, *(["shared"] if has_shared else []))
        source = offer.get("source", "shared" if has_shared else "browser")
        if source not in sources:
            raise web.HTTPBadRequest(reason=f"Found source {source!r}; wanted {', '.join(sources)}.")
        try:
            viewer, answer = await self.sessions.add_viewer(offer["sdp"], codec, source)
        except AllTaken as error:
            raise web.HTTPServiceUnavailable(
                reason=f"All {self.config.max_sessions} sessions are taken. Try again when somebody has left."
            ) from error
        found = {"sdp": answer, "type": "answer", "session": viewer.session.id, "viewer": viewer.id}
        return web.json_response(found)

    def _viewer(self, request: web.Request) -> Viewer:
        viewer = self.sessions.viewers.get(request.match_info["id"])
        if viewer is None:
            raise web.HTTPNotFound(reason="No such viewer. It left, or the server was started again: offer anew.")
        return viewer

    def _session(self, request: web.Request) -> Session:
        session = self.sessions.find(request.match_info["id"])
        if session is None:
            raise web.HTTPNotFound(reason="No such session. It ended, or the server was started again: offer anew.")
        return session

    async def _get_viewer(self, request: web.Request) -> web.Response:
        return web.json_response(self._viewer(request).status())

    async def _delete_viewer(self, request: web.Request) -> web.Response:
        await self.sessions.remove_viewer(self._viewer(request))
        return web.Response(status=204)

    async def _get_session(self, request: web.Request) -> web.Response:
        return web.json_response(self._session(request).status())

    async def _post_source(self, request: web.Request) -> web.Response:
        session = self._session(request)
        kind = (await read_json(request, MAX_OFFER_BYTES)).get("source")
        kinds = SERVER_SOURCES if session.is_shared else ("browser", *SERVER_SOURCES)
        if not isinstance(kind, str) or kind not in kinds:
            raise web.HTTPBadRequest(reason=f"Found source {kind!r}; wanted {', '.join(kinds)}.")
        await session.open_source(kind)
        return web.json_response(session.status())

    async def _post_file(self, request: web.Request) -> web.Response:
        session = self._session(request)
        name = Path(request.query.get("name", "recording")).name or "recording"
        content = await read_body(request, MAX_FILE_BYTES)
        with tempfile.TemporaryDirectory(prefix="miravox-") as folder:
            file = Path(folder) / f"recording{Path(name).suffix}"
            await asyncio.to_thread(file.write_bytes, content)
            try:
                await session.open_source("file", file, name)
            except MiravoxError as error:
                raise MiravoxError(name, found=error.found, wanted=error.wanted, remedy=error.remedy) from error
        return web.json_response(session.status())

    async def _get_health(self, request: web.Request) -> web.Response:
        shared = self.sessions.shared
        failed = shared is not None and shared.failure is not None
        status = "failing" if failed else "ok" if self.sessions.is_open else "starting"
        return web.json_response({"status": status, "avatar": self.avatar.name}, status=503 if failed else 200)

    async def _get_stats(self, request: web.Request) -> web.Response:
        sessions, totals = self.sessions, self.sessions.totals
        status = ServerStatus(
            uptime_s=round(time.monotonic() - self._started, 1),
            stages_ms=totals.percentiles(),
            frames={str(name): totals.counted(name) for name in FRAME_COUNTS},
            max_sessions=self.config.max_sessions,
            shared=None if sessions.shared is None else sessions.shared.id,
            sessions=[session.status() for session in sessions.live()],
            viewers=[viewer.status() for viewer in sessions.viewers.values()],
        )
        return web.json_response(status)

    async def _get_metrics(self, request: web.Request) -> web.Response:
        text = metrics_text(self.sessions.totals, self.sessions.live)
        return web.Response(body=text, content_type="text/plain")


async def read_body(request: web.Request, limit: int) -> bytes:
    """The request's body. Raises 413 when it is longer than `limit` bytes, without reading all of it."""
    content = bytearray()
    async for piece in request.content.iter_chunked(2**16):
        content += piece
        if len(content) > limit:
            raise web.HTTPRequestEntityTooLarge(
                limit, len(content), reason=f"Found more than {limit} bytes; wanted {limit} at most."
            )
    return bytes(content)


async def read_json(request: web.Request, limit: int) -> dict[str, Any]:
    """The request's JSON object. Raises 400, 413 or 415 with the reason."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(
            reason=f"Found content type {request.content_type}; wanted application/json."
        )
    body = await read_body(request, limit)
    try:
        value = json.loads(body)
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise web.HTTPBadRequest(reason=f"Found a body that is not JSON; wanted a JSON object. {error}") from error
    except RecursionError as error:
        raise web.HTTPBadRequest(reason="Found JSON nested too deeply; wanted a JSON object.") from error
    if not isinstance(value, dict):
        raise web.HTTPBadRequest(reason=f"Found a JSON {type(value).__name__}; wanted an object.")
    return value


def has_pyaudio() -> bool:
    try:
        import_pyaudio()
    except MiravoxError:
        return False
    return True


def poster(avatar: Avatar, size: int) -> bytes:
    """The first frame of the source loop as JPEG: shown while the first frame is on its way."""
    with av.open(str(avatar.folder / "source.mp4")) as source, BytesIO() as memory:
        frame = next(source.decode(video=0))
        with av.open(memory, "w", format="mjpeg") as picture:
            stream = picture.add_stream("mjpeg", rate=1, options={"qscale": "3"})
            stream.width = stream.height = size
            stream.pix_fmt = "yuvj420p"
            # JPEG means BT.601, whatever the video is.
            colors = {"src_colorspace": Colorspace.ITU709, "dst_colorspace": Colorspace.ITU601}
            picture.mux(stream.encode(frame.reformat(size, size, "yuvj420p", **colors)))
            picture.mux(stream.encode(None))
        return memory.getvalue()


@contextlib.contextmanager
def _address_errors(config: StreamConfig) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MiravoxError(
            f"{config.host}:{config.port}",
            found=f"an address that cannot be bound ({error.strerror or error})",
            wanted="a free port",
            remedy="Stop what uses it, or choose another --port.",
        ) from error


def _tls(config: StreamConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise MiravoxError(
            "--tls-cert, --tls-key",
            found=f"files that cannot be used ({error})",
            wanted="a certificate and its private key, both PEM",
            remedy="Check the two files.",
        ) from error
    return context


async def start(server: Server) -> web.AppRunner:
    """Binds the port and answers requests. Raises MiravoxError."""
    tls = _tls(server.config)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        with _address_errors(server.config):
            await web.TCPSite(runner, server.config.host, server.config.port, ssl_context=tls).start()
    except BaseException:  # cancellation, too, must leave no socket behind
        await runner.cleanup()
        raise
    return runner


def link(config: StreamConfig) -> str:
    """Where the page is, token included."""
    scheme = "https" if config.tls_cert is not None else "http"
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{scheme}://{host}:{config.port}/" + (f"?token={config.token}" if config.token is not None else "")
