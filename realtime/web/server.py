"""The server: the page, offer and answer, sessions and viewers, health, statistics, metrics (aiohttp).

docs/http-api.md describes every route and field.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import quote

from aiohttp import web

from ..audio.microphone import import_pyaudio
from ..avatar import Avatar
from ..config import StreamConfig, is_loopback
from ..contract import FRAME_RATE, SAMPLE_RATE
from ..errors import MiravoxError
from ..frames import FRAME_COUNTS
from ..stream.session import SERVER_SOURCES, Session
from ..stream.status import SessionStatus
from .bodies import file_name, printable, read_json, upload
from .door import Door, address_errors, tls_context
from .metrics import metrics_text
from .offers import read_offer
from .poster import poster
from .sessions import AllTaken, Sessions
from .viewer import Viewer, ViewerStatus

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
    "Cross-Origin-Resource-Policy": "same-origin",
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
    half_open: int  # offers that were answered and are not connected
    unclosed: int  # connections and sessions that did not end in time
    shared: bool  # whether there is a session that every page may join
    sessions: list[SessionStatus]  # without ids and names: see `anonymous`
    viewers: list[ViewerStatus]  # likewise


class Server:
    """Answers requests about the sessions of one avatar. Made and used on the event loop."""

    def __init__(self, config: StreamConfig, avatar: Avatar) -> None:
        self.config, self.avatar = config, avatar
        self.sessions = Sessions(config, avatar)
        self._poster = poster(avatar, self.sessions.size)
        self._started = time.monotonic()
        self._sending: set[str] = set()  # sessions that a recording is being sent to
        self.door: Door | None = None  # once it is open

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
        assert self.door is not None
        try:
            with self.door.answering(request):
                self._check_access(request)
                response = await handler(request)
        except MiravoxError as error:
            response = web.json_response({"error": str(error)}, status=400)
        except web.HTTPException as error:
            response = web.json_response({"error": error.reason}, status=error.status)
        except ConnectionError:  # whoever asked has left
            raise
        except Exception as error:  # a fault of ours must not leave the browser without an answer
            log.exception("%s %s", request.method, request.path)
            response = web.json_response({"error": f"The server failed: {error}"}, status=500)
        response.headers.update(HEADERS)
        return response

    def _check_access(self, request: web.Request) -> None:
        if self.config.token is None:
            # Bound to this machine alone. A foreign page whose name resolves to 127.0.0.1 must not speak with it.
            host = _host(request)
            if not is_loopback(host):
                raise web.HTTPForbidden(reason=f"Found host {printable(host)}; wanted 127.0.0.1 or localhost.")
            return
        if request.path in PUBLIC:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        given = given if scheme == "Bearer" else request.query.get("token", "")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self.config.token.encode()):
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
                "server_microphone": self._offers_microphone() and has_pyaudio(),
                "max_file_bytes": MAX_FILE_BYTES,
            }
        )

    def _shared(self) -> dict[str, Any] | None:
        """The session that every page may join, for /config."""
        shared = self.sessions.shared
        if shared is None:
            return None
        name = shared.source.state().name if shared.source is not None else self.config.source
        return {"name": name, "may_change": self.config.allow_source_change}

    def _offers_microphone(self) -> bool:
        """Whether pages may choose this machine's microphone: nobody beyond it listens in unless that is wished."""
        return is_loopback(self.config.host) or self.config.allow_server_mic

    def _check_microphone(self, source: object) -> None:
        """Raises 403 if the source is this machine's microphone and that is not offered."""
        if source == "mic" and not self._offers_microphone():
            raise web.HTTPForbidden(
                reason="Found the source mic; this server does not offer its microphone. "
                "Start it with --allow-server-mic."
            )

    async def _post_offer(self, request: web.Request) -> web.Response:
        offer = await read_json(request, MAX_OFFER_BYTES)
        await self.sessions.wait_until_open()
        has_shared = self.sessions.shared is not None
        sources = ("browser", *SERVER_SOURCES, *(["shared"] if has_shared else []))
        source = offer.get("source", "shared" if has_shared else "browser")
        if not isinstance(source, str) or source not in sources:
            raise web.HTTPBadRequest(reason=f"Found source {printable(repr(source))}; wanted {', '.join(sources)}.")
        self._check_microphone(source)
        local_only = is_loopback(self.config.host)
        read = read_offer(offer.get("sdp"), offer.get("type"), speaks=source != "shared", local_only=local_only)
        try:
            viewer, answer = await self.sessions.add_viewer(read, source, request.remote or "")
        except AllTaken as error:
            raise web.HTTPServiceUnavailable(reason=f"{error} Try again when somebody has left.") from error
        found = {"sdp": answer, "type": "answer", "session": viewer.session_id, "viewer": viewer.id}
        return web.json_response(found)

    async def _viewer(self, request: web.Request) -> Viewer:
        viewer = await self.sessions.find_viewer(request.match_info["id"])
        if viewer is None:
            raise web.HTTPNotFound(reason="No such viewer. It left, or the server was started again: offer anew.")
        return viewer

    async def _session(self, request: web.Request) -> Session:
        session = await self.sessions.find(request.match_info["id"])
        if session is None:
            raise web.HTTPNotFound(reason="No such session. It ended, or the server was started again: offer anew.")
        return session

    async def _get_viewer(self, request: web.Request) -> web.Response:
        return web.json_response((await self._viewer(request)).status())

    async def _delete_viewer(self, request: web.Request) -> web.Response:
        if not await self.sessions.remove(request.match_info["id"]):
            raise web.HTTPNotFound(reason="No such viewer. It left, or the server was started again: offer anew.")
        return web.Response(status=204)

    async def _get_session(self, request: web.Request) -> web.Response:
        return web.json_response((await self._session(request)).status())

    async def _own_session(self, request: web.Request) -> Session:
        """One whose source the sender of the request may change: who knows a private one's id made it."""
        session = await self._session(request)
        if session.is_shared and not self.config.allow_source_change:
            raise web.HTTPForbidden(
                reason="This session is everybody's: who speaks in it was chosen at the server's start. "
                "Start it with --allow-source-change to let viewers choose."
            )
        return session

    async def _post_source(self, request: web.Request) -> web.Response:
        session = await self._own_session(request)
        kind = (await read_json(request, MAX_OFFER_BYTES)).get("source")
        kinds = SERVER_SOURCES if session.is_shared else ("browser", *SERVER_SOURCES)
        if not isinstance(kind, str) or kind not in kinds:
            raise web.HTTPBadRequest(reason=f"Found source {printable(repr(kind))}; wanted {', '.join(kinds)}.")
        self._check_microphone(kind)
        await session.open_source(kind)
        return web.json_response(session.status())

    async def _post_file(self, request: web.Request) -> web.Response:
        session, name = await self._own_session(request), file_name(request)
        if session.id in self._sending:
            raise web.HTTPConflict(reason="Another recording is being sent to this session. Wait until it is there.")
        self._sending.add(session.id)
        decoding = self.sessions.decoding
        try:
            async with upload(request, name, MAX_FILE_BYTES, decoding) as file:
                try:
                    await session.open_source("file", file, name, executor=decoding, hung_up=_hung_up(request))
                except MiravoxError as error:
                    raise MiravoxError(name, found=error.found, wanted=error.wanted, remedy=error.remedy) from error
        finally:
            self._sending.discard(session.id)
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
            half_open=len(sessions.half_open),
            unclosed=sessions.unclosed,
            shared=sessions.shared is not None,
            sessions=[anonymous(session.status()) for session in sessions.live()],
            viewers=[anonymous(viewer.status()) for viewer in sessions.viewers.values()],
        )
        return web.json_response(status)

    async def _get_metrics(self, request: web.Request) -> web.Response:
        text = metrics_text(self.sessions.totals, self.sessions.live)
        return web.Response(body=text, content_type="text/plain")


def has_pyaudio() -> bool:
    try:
        import_pyaudio()
    except MiravoxError:
        return False
    return True


def anonymous(status: Any) -> Any:
    """A session's or viewer's status for everybody: without ids, which are secrets, and what its source is called."""
    kept = {name: value for name, value in status.items() if name not in ("session", "viewer")}
    return {**kept, "source": {**status["source"], "name": status["source"]["kind"], "message": None}}


def _host(request: web.Request) -> str:
    """That the request is for. Raises 400 for what is none."""
    try:
        return request.url.host or ""
    except ValueError as error:  # UnicodeError is one, too
        raise web.HTTPBadRequest(reason="Found a Host header that is no host name; wanted one.") from error


def _hung_up(request: web.Request) -> Callable[[], bool]:
    """Tells, on any thread, whether whoever asked has left."""

    def hung_up() -> bool:
        transport = request.transport
        return transport is None or transport.is_closing()

    return hung_up


async def start(server: Server) -> Door:
    """Binds the port and answers requests. Raises MiravoxError."""
    tls = tls_context(server.config)
    runner = web.AppRunner(server.application(), shutdown_timeout=0.5)
    await runner.setup()
    server.door = Door(runner, tls)
    try:
        with address_errors(server.config):
            await server.door.open(server.config.host, server.config.port)
    except BaseException:  # cancellation, too, must leave no socket behind
        await server.door.close()
        raise
    return server.door


def link(config: StreamConfig) -> str:
    """Where the page is, token included."""
    scheme = "https" if config.tls_cert is not None else "http"
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{scheme}://{host}:{config.port}/" + (f"?token={quote(config.token, safe='')}" if config.token else "")
