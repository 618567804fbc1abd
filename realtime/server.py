"""The server: page, offer and answer, sessions, health, statistics, metrics (aiohttp)."""

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
from typing import Any

import av
from aiohttp import web
from aiortc import RTCIceServer
from av.video.reformatter import Colorspace

from networks.contract import FRAME_RATE, SAMPLE_RATE
from realtime import aiortc_patches
from realtime.avatar import Avatar
from realtime.config import StreamConfig, is_loopback
from realtime.errors import MiravoxError
from realtime.metrics import COUNTS, metrics_text
from realtime.schedule import Cores, Turns
from realtime.session import SERVER_SOURCES, Session
from realtime.sources import import_pyaudio
from realtime.stage_timer import StageTimer
from realtime.stream_recorder import StreamRecorder
from realtime.viewer import Viewer, check_offer

log = logging.getLogger("miravox")

CLIENT = Path(__file__).resolve().parent / "client"
PAGE = {"/": "index.html", "/client.js": "client.js", "/marking.js": "marking.js", "/style.css": "style.css"}
MAX_OFFER_BYTES = 256 * 1024
MAX_FILE_BYTES = 64 * 2**20
CLOSE_SECONDS = 1.0  # for goodbyes when the server ends
FAILURE_SECONDS = 1.0  # how often failed sessions are looked for
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PUBLIC = {*PAGE, "/health"}  # without a token

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """All sessions of one avatar. Made, used and closed on the event loop."""

    def __init__(self, config: StreamConfig, avatar: Avatar) -> None:
        self.config, self.avatar = config, avatar
        self.size = config.size_pixels or avatar.width
        self.totals = StageTimer()
        self._turns, self._cores = Turns(config.max_sessions), Cores()
        self.shared: Session | None = None
        self._recordings = 0
        self._opened = asyncio.Event()
        self._spare: Session | None = None  # loaded ahead, so that the first page opened does not wait
        self._opening = 0
        self._viewers: dict[str, Viewer] = {}
        self._poster = poster(avatar, self.size)
        self._ending: set[asyncio.Task[None]] = set()
        self._started = time.monotonic()
        aiortc_patches.install(loopback_only=is_loopback(config.host))

    # Life

    async def open(self) -> None:
        """Loads the first session. Raises MiravoxError for whatever stands in the way."""
        first = await self._load_session()
        if self.config.source == "browser":
            self._spare = first
        else:
            self.shared = first
            file = self.config.source_file
            await first.open_source("file" if file else self.config.source, file, loop=self.config.loop)
            first.start()
        self._opened.set()

    async def _load_session(self) -> Session:
        session = Session(
            self.avatar, self.config.target, self.size, self.config.device, self.totals, self._turns, self._cores
        )
        try:
            if self.config.record is not None:
                path = self._next_recording(self.config.record)
                session.taps.append(StreamRecorder(path, self.size, self.avatar.name, self.avatar.marking))
            await session.load()
        except BaseException:  # cancellation, too, must leave no thread behind
            await session.close()
            raise
        return session

    def _next_recording(self, record: Path) -> Path:
        """OUT.mp4 for the first session, OUT-2.mp4 for the second ..."""
        self._recordings += 1
        return record if self._recordings == 1 else record.with_stem(f"{record.stem}-{self._recordings}")

    async def close(self) -> None:
        """Says goodbye to all browsers and ends all sessions; takes two seconds at most."""
        viewers = list(self._viewers.values())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(v.close() for v in viewers), return_exceptions=True), CLOSE_SECONDS)
        await asyncio.gather(*(session.close() for session in self.sessions()))
        if self._spare is not None:
            await self._spare.close()

    def sessions(self) -> list[Session]:
        """Those that are live."""
        private = [v.session for v in self._viewers.values() if v.session is not self.shared]
        return [*private, *([self.shared] if self.shared is not None else [])]

    # Viewers

    async def _add_viewer(self, sdp: str, codec: str, source: str) -> tuple[Viewer, str]:
        if source == "shared":
            assert self.shared is not None
            return await self._answer(self.shared, sdp, codec)
        if len(self.sessions()) + self._opening >= self.config.max_sessions:
            raise web.HTTPServiceUnavailable(
                reason=f"All {self.config.max_sessions} sessions are taken. Try again when somebody has left."
            )
        self._opening += 1  # until its viewer is known: offers that come at once are counted, too
        try:
            session, self._spare = self._spare, None
            if session is None:
                session = await self._load_session()
            try:
                await session.open_source(source)
                session.start()
                return await self._answer(session, sdp, codec)
            except BaseException:  # cancellation, too, must leave no session without a viewer
                await session.close()
                raise
        finally:
            self._opening -= 1

    async def _answer(self, session: Session, sdp: str, codec: str) -> tuple[Viewer, str]:
        viewer = Viewer(session, codec, self._ice_servers(), self._on_gone)
        try:
            answer = await viewer.answer(sdp)
        except BaseException:  # cancellation, too, must leave no connection behind
            await viewer.close()
            raise
        self._viewers[viewer.id] = viewer
        log.info("viewer %s: %s", viewer.id, codec)
        return viewer, answer

    def _ice_servers(self) -> list[RTCIceServer]:
        return [RTCIceServer(s.url, s.username, s.credential) for s in self.config.ice_servers]

    def _on_gone(self, viewer: Viewer) -> None:
        task = asyncio.ensure_future(self._remove(viewer))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _remove(self, viewer: Viewer) -> None:
        """Ends a viewer, and the session if it was private."""
        if self._viewers.pop(viewer.id, None) is None:
            return
        await viewer.close()
        if viewer.session is not self.shared:
            await viewer.session.close()
        log.info("viewer %s left", viewer.id)

    async def watch_failures(self) -> None:
        """Ends sessions whose rendering failed: their pages reconnect to new ones."""
        while True:
            await asyncio.sleep(FAILURE_SECONDS)
            for viewer in list(self._viewers.values()):
                if viewer.session.failure is not None and viewer.session is not self.shared:
                    await self._remove(viewer)

    # Requests

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_FILE_BYTES)
        for path, name in PAGE.items():
            app.router.add_get(path, self._page(name))
        app.router.add_get("/poster.jpg", self._get_poster)
        app.router.add_get("/config", self._get_config)
        app.router.add_post("/offer", self._post_offer)
        app.router.add_get("/sessions/{id}", self._get_session)
        app.router.add_delete("/sessions/{id}", self._delete_session)
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

    def _page(self, name: str) -> Handler:
        async def get(request: web.Request) -> web.StreamResponse:
            return web.FileResponse(CLIENT / name)

        return get

    async def _get_poster(self, request: web.Request) -> web.Response:
        return web.Response(body=self._poster, content_type="image/jpeg")

    async def _get_config(self, request: web.Request) -> web.Response:
        await self._opened.wait()
        return web.json_response(
            {
                "avatar": self.avatar.name,
                "marking": self.avatar.marking,
                "size_pixels": self.size,
                "frame_rate": FRAME_RATE,
                "lookahead_ms": 1000 * self.avatar.lookahead_samples / SAMPLE_RATE,
                "ice_servers": [
                    {"urls": s.url, **({"username": s.username, "credential": s.credential} if s.username else {})}
                    for s in self.config.ice_servers
                ],
                "shared": None if self.shared is None else {"name": self._shared_name()},
                "server_microphone": has_pyaudio(),
                "max_file_bytes": MAX_FILE_BYTES,
            }
        )

    def _shared_name(self) -> str:
        assert self.shared is not None
        source = self.shared.source
        return source.state().name if source is not None else self.config.source

    async def _post_offer(self, request: web.Request) -> web.Response:
        offer = await read_json(request, MAX_OFFER_BYTES)
        await self._opened.wait()
        codec = check_offer(offer.get("sdp"), offer.get("type"))
        sources = ("browser", *SERVER_SOURCES, *(["shared"] if self.shared is not None else []))
        source = offer.get("source", "shared" if self.shared is not None else "browser")
        if source not in sources:
            raise web.HTTPBadRequest(reason=f"Found source {source!r}; wanted {', '.join(sources)}.")
        viewer, answer = await self._add_viewer(offer["sdp"], codec, source)
        return web.json_response({"sdp": answer, "type": "answer", "session": viewer.id})

    def _viewer(self, request: web.Request) -> Viewer:
        viewer = self._viewers.get(request.match_info["id"])
        if viewer is None:
            raise web.HTTPNotFound(reason="No such session. It ended, or the server was started again: offer anew.")
        return viewer

    def _status(self, viewer: Viewer) -> dict[str, Any]:
        return {**viewer.status(), "shared": viewer.session is self.shared, "time_ms": 1000 * time.monotonic()}

    async def _get_session(self, request: web.Request) -> web.Response:
        return web.json_response(self._status(self._viewer(request)))

    async def _delete_session(self, request: web.Request) -> web.Response:
        await self._remove(self._viewer(request))
        return web.Response(status=204)

    async def _post_source(self, request: web.Request) -> web.Response:
        viewer = self._viewer(request)
        kind = (await read_json(request, MAX_OFFER_BYTES)).get("source")
        private = viewer.session is not self.shared
        kinds = ("browser", *SERVER_SOURCES) if private else SERVER_SOURCES
        if not isinstance(kind, str) or kind not in kinds:
            raise web.HTTPBadRequest(reason=f"Found source {kind!r}; wanted {', '.join(kinds)}.")
        await viewer.session.open_source(kind)
        return web.json_response(self._status(viewer))

    async def _post_file(self, request: web.Request) -> web.Response:
        viewer = self._viewer(request)
        name = Path(request.query.get("name", "recording")).name or "recording"
        content = await read_body(request, MAX_FILE_BYTES)
        with tempfile.TemporaryDirectory(prefix="miravox-") as folder:
            file = Path(folder) / f"recording{Path(name).suffix}"
            await asyncio.to_thread(file.write_bytes, content)
            try:
                await viewer.session.open_source("file", file, name)
            except MiravoxError as error:
                raise MiravoxError(name, found=error.found, wanted=error.wanted, remedy=error.remedy) from error
        return web.json_response(self._status(viewer))

    async def _get_health(self, request: web.Request) -> web.Response:
        failed = self.shared is not None and self.shared.failure is not None
        status = "failing" if failed else "ok" if self._opened.is_set() else "starting"
        return web.json_response({"status": status, "avatar": self.avatar.name}, status=503 if failed else 200)

    async def _get_stats(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "uptime_s": round(time.monotonic() - self._started, 1),
                "stages_ms": self.totals.percentiles(),
                "frames": {name: self.totals.counted(name) for name in COUNTS},
                "max_sessions": self.config.max_sessions,
                "shared": None if self.shared is None else self.shared.status(),
                "sessions": [self._status(viewer) for viewer in self._viewers.values()],
            }
        )

    async def _get_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=metrics_text(self.totals, self.sessions), content_type="text/plain")


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
            f"{config.host}:{config.port}", found=f"an address that cannot be bound ({error.strerror or error})",
            wanted="a free port", remedy="Stop what uses it, or choose another --port.",
        ) from error  # fmt: skip


def _tls(config: StreamConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise MiravoxError(
            "--tls-cert, --tls-key", found=f"files that cannot be used ({error})",
            wanted="a certificate and its private key, both PEM", remedy="Check the two files.",
        ) from error  # fmt: skip
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
