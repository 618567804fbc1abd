"""Door: takes connections to the HTTP server, a bounded number of them, and gives those up that ask for nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from ..config import StreamConfig
from ..errors import MiravoxError

log = logging.getLogger("miravox")

MAX_CONNECTIONS = 128
DESCRIPTOR_SHARE = 4  # connections take at most one of so many descriptors that the process may have
BACKLOG = 128  # connections that wait to be taken
HEADER_SECONDS = 15.0  # for a request to begin and its headers to be whole
HANDSHAKE_SECONDS = 5.0  # for TLS
LINGER_SECONDS = 2.0  # a body that nobody wants is read so long
RETRY_SECONDS = 1.0  # between two tries when the system has no descriptor left


class HttpLog(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp has to tell: faults of peers, a line each, and only with --verbose."""

    def exception(self, msg: object, *args: object, exc_info: object = None, **_: object) -> None:
        text = str(msg) % args if args else str(msg)
        reason = str(exc_info).splitlines()[0:1] if isinstance(exc_info, BaseException) else []
        self.logger.info("%s: %s", text, " ".join(repr(line)[:100] for line in reason))


class Connection(web.RequestHandler):
    """One connection to the server: what is no request is answered in a line, as all faults are."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, message)
        response = web.json_response({"error": "Found what is no HTTP request; wanted HTTP/1.1."}, status=status)
        response.force_close()
        return response


class Door:
    """Listens where the configuration says, and hands connections to the server of `runner`, which is set up."""

    def __init__(self, runner: web.AppRunner, tls: ssl.SSLContext | None) -> None:
        self._runner, self._tls = runner, tls
        self._log = HttpLog(log)
        self._limit = min(MAX_CONNECTIONS, _descriptors() // DESCRIPTOR_SHARE)
        self._listening: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._greeting: dict[asyncio.Task[None], socket.socket] = {}  # connections that are not the server's yet
        self._busy: set[Any] = set()  # aiohttp's connections that a request is being answered on

    async def open(self, host: str, port: int) -> None:
        """Raises OSError if the address cannot be bound."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            self._listening.append(listening)
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
        for listening in self._listening:
            listening.listen(BACKLOG)
            self._spawn(self._accept(listening))

    async def close(self) -> None:
        """No connection is taken any more; those that there are end."""
        for task in list(self._tasks):
            task.cancel()
        for sock in (*self._listening, *self._greeting.values()):
            sock.close()
        await self._runner.cleanup()

    @contextlib.contextmanager
    def answering(self, request: web.Request) -> Iterator[None]:
        """While a request is answered its connection is not given up for another."""
        connection = request.protocol
        self._busy.add(connection)
        try:
            yield
        finally:
            self._busy.discard(connection)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listening: socket.socket) -> None:
        loop, short = asyncio.get_running_loop(), False
        while True:
            try:
                taken, _ = await loop.sock_accept(listening)
                short = False
            except ConnectionError:  # it left while it waited
                continue
            except OSError as error:
                if not short:  # told once
                    log.warning("no connection can be taken: %s", error.strerror)
                short = True
                self._make_room(1)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not self._make_room(self._limit):
                taken.close()
                continue
            task = self._spawn(self._greet(taken))
            self._greeting[task] = taken
            task.add_done_callback(lambda done: self._greeting.pop(done, None))

    async def _greet(self, taken: socket.socket) -> None:
        """Hands a connection to the server, which begins with TLS if there is to be any."""
        loop = asyncio.get_running_loop()
        server: Any = self._runner.server
        options: dict[str, Any] = {
            "logger": self._log,
            "access_log": None,
            "keepalive_timeout": HEADER_SECONDS,
            "lingering_time": LINGER_SECONDS,
        }
        handshake = HANDSHAKE_SECONDS if self._tls is not None else None
        assert server is not None
        try:
            await loop.connect_accepted_socket(
                lambda: Connection(server, loop=loop, **options), taken, ssl=self._tls, ssl_handshake_timeout=handshake
            )
        except (OSError, ssl.SSLError) as error:
            log.info("a connection was not begun: %s", type(error).__name__)
        except BaseException:  # cancellation, too, must leave no socket open
            taken.close()
            raise

    def _make_room(self, limit: int) -> bool:
        """Whether there are fewer connections than `limit`; if not, the oldest that asks for nothing is ended."""
        server = self._runner.server
        assert server is not None
        connections = [c for c in server.connections if c.transport is not None]
        if len(connections) + len(self._greeting) < limit:
            return True
        idle = next((connection for connection in connections if connection not in self._busy), None)
        if idle is not None:
            idle.force_close()
            return True
        greeting = next(iter(self._greeting), None)
        if greeting is not None:
            greeting.cancel()
            return True
        return False


def _descriptors() -> int:
    """That this process may have."""
    try:
        import resource
    except ImportError:  # not on this system
        return DESCRIPTOR_SHARE * MAX_CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft > 0 else DESCRIPTOR_SHARE * MAX_CONNECTIONS


@contextlib.contextmanager
def address_errors(config: StreamConfig) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MiravoxError(
            f"{config.host}:{config.port}",
            found=f"an address that cannot be bound ({error.strerror or error})",
            wanted="a free port",
            remedy="Stop what uses it, or choose another --port.",
        ) from error


def tls_context(config: StreamConfig) -> ssl.SSLContext | None:
    """None without --tls-cert. Raises MiravoxError for files that are no certificate and key."""
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
