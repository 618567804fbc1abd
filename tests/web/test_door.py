"""The HTTP server's door and the bodies of requests, a small application behind it: silent, slow and broken peers."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from realtime.web import bodies, door
from realtime.web.bodies import PIECE_BYTES, file_name, read_json, upload
from realtime.web.door import Door
from tests.live_server import free_port

LIMIT = 3 * PIECE_BYTES


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LINGER_SECONDS", 0.1)


class Entrance:
    """A door, where it is, and what was sent to it."""

    def __init__(self, opened: Door, port: int) -> None:
        self.door, self.port = opened, port
        self.folders: list[Path] = []
        self.seen: list[int] = []  # sizes of what was sent
        self.waiting = asyncio.Event()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, request: bytes) -> bytes:
        """The first line of the answer, and its end; empty if there is none."""
        reader, writer = await self.connect()
        writer.write(request)
        try:
            return await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            return b""
        finally:
            writer.close()


@asynccontextmanager
async def entrance() -> AsyncIterator[Entrance]:
    executor = ThreadPoolExecutor(1)

    async def get(request: web.Request) -> web.Response:
        with found.door.answering(request):
            return web.Response(text="here")

    async def wait(request: web.Request) -> web.Response:
        with found.door.answering(request):
            await found.waiting.wait()
            return web.Response(text="waited")

    async def post(request: web.Request) -> web.Response:
        with found.door.answering(request):
            async with upload(request, file_name(request), LIMIT, executor) as file:
                found.folders.append(file.parent)
                found.seen.append(file.stat().st_size)
            return web.Response(text="taken")

    async def post_json(request: web.Request) -> web.Response:
        return web.json_response(await read_json(request, LIMIT))

    application = web.Application()
    application.router.add_get("/", get)
    application.router.add_get("/wait", wait)
    application.router.add_post("/file", post)
    application.router.add_post("/json", post_json)
    runner = web.AppRunner(application)
    await runner.setup()
    found = Entrance(Door(runner, None), free_port())
    await found.door.open("127.0.0.1", found.port)
    try:
        yield found
    finally:
        await found.door.close()
        executor.shutdown()


GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def post(path: str, body: bytes, length: int | None = None, *headers: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        "Connection: close",
        *headers,
        f"Content-Length: {length or len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_silent_connections_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,144 of them at 1024 descriptors: the server did not answer any more. The oldest idle one makes room."""
    monkeypatch.setattr(door, "MAX_CONNECTIONS", 8)

    async def crowd() -> None:
        async with entrance() as found:
            silent = [await found.connect() for _ in range(20)]
            silent[-1][1].write(b"GET / HTTP/1.1\r\nHost")  # unfinished headers
            assert (await found.ask(GET)).endswith(b"here")
            assert [await asyncio.wait_for(reader.read(), 30) for reader, _ in silent[:10]] == [b""] * 10
            for _, writer in silent:
                writer.close()

    asyncio.run(crowd())


def test_connections_that_are_answered_are_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_CONNECTIONS", 2)

    async def crowd() -> None:
        async with entrance() as found:
            busy = [asyncio.ensure_future(found.ask(GET.replace(b"/ ", b"/wait "))) for _ in range(2)]
            while len(found.door._busy) < 2:
                await asyncio.sleep(0.01)
            assert await found.ask(GET) == b"", "there is no room"
            found.waiting.set()
            assert [answer[-6:] for answer in await asyncio.gather(*busy)] == [b"waited"] * 2
            assert (await found.ask(GET)).endswith(b"here")

    asyncio.run(crowd())


def test_headers_that_do_not_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert door.HEADER_SECONDS <= 30
    monkeypatch.setattr(door, "HEADER_SECONDS", 0.2)

    async def dawdle() -> None:
        async with entrance() as found:
            reader, writer = await found.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()

    asyncio.run(dawdle())


def test_when_no_descriptor_is_left_it_waits_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It tried again at once, for ever: a whole core, and two megabytes of tracebacks a second."""
    monkeypatch.setattr(door, "RETRY_SECONDS", 0.02)
    tries: list[int] = []

    async def starve() -> None:
        loop = asyncio.get_running_loop()
        accept = loop.sock_accept

        async def none_left(listening: socket.socket) -> Any:
            tries.append(1)
            if len(tries) <= 5:
                raise OSError(errno.EMFILE, "Too many open files")
            return await accept(listening)

        monkeypatch.setattr(loop, "sock_accept", none_left)
        async with entrance() as found:
            assert (await found.ask(GET)).endswith(b"here")

    asyncio.run(starve())
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "Too many open files" in caplog.text


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_malformed_http_is_answered_without_a_traceback(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(door, "HEADER_SECONDS", 0.5)

    async def ask() -> None:
        async with entrance() as found:
            head, _, body = (await found.ask(request_bytes)).partition(b"\r\n\r\n")
            assert head[:12] in (b"", b"HTTP/1.0 400", b"HTTP/1.1 400"), head
            assert not head or json.loads(body)["error"].startswith("Found")
            assert (await found.ask(GET)).endswith(b"here")

    asyncio.run(ask())
    assert all(record.levelno <= logging.INFO and not record.exc_info for record in caplog.records)
    assert "\n" not in "".join(record.getMessage() for record in caplog.records)


def test_an_upload_lies_on_the_disk_and_is_gone_afterwards() -> None:
    async def send() -> None:
        async with entrance() as found:
            content = b"x" * (2 * PIECE_BYTES + 7)
            assert (await found.ask(post("/file?name=a.wav", content))).endswith(b"taken")
            assert found.seen == [len(content)] and not found.folders[0].exists()
            assert b"HTTP/1.1 413" in await found.ask(post("/file", b"x" * (LIMIT + 1)))

    asyncio.run(send())


def test_an_upload_that_stops_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve uploads that stopped at 62 of 64 MiB held a gigabyte for as long as they liked."""
    monkeypatch.setattr(bodies, "IDLE_SECONDS", 0.2)

    async def stop() -> None:
        async with entrance() as found:
            assert b"HTTP/1.1 408" in await found.ask(post("/file", b"x" * 1000, 2000))
            assert b"HTTP/1.1 408" in await found.ask(post("/json", b"{", 2, "Content-Type: application/json"))
            assert not found.seen

    asyncio.run(stop())


def test_an_upload_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.3)

    async def trickle() -> None:
        async with entrance() as found:
            reader, writer = await found.connect()
            writer.write(post("/file", b"x", 10_000))
            for _ in range(200):
                writer.write(b"x")
                await asyncio.sleep(0.01)
                if reader._buffer:  # type: ignore[attr-defined]
                    break
            assert b"HTTP/1.1 408" in await asyncio.wait_for(reader.read(), 30)
            writer.close()

    asyncio.run(trickle())


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, **_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bodies.tempfile, "TemporaryDirectory", Full)

    async def send() -> None:
        async with entrance() as found:
            assert b"HTTP/1.1 507" in await found.ask(post("/file", b"x" * 1000))

    asyncio.run(send())


@pytest.mark.parametrize("path", ["/file", "/json"])
def test_a_body_that_cannot_be_unpacked_is_refused(path: str) -> None:
    async def send() -> None:
        async with entrance() as found:
            packed = post(path, b"no gzip", None, "Content-Encoding: gzip", "Content-Type: application/json")
            assert b"HTTP/1.1 400" in await found.ask(packed)

    asyncio.run(send())


@pytest.mark.parametrize("name", ["x.\0", "x" * 300, "a.\x1b[31m", "x." + "y" * 300])
def test_strange_file_names_are_refused(name: str) -> None:
    request: Any = SimpleNamespace(query={"name": name})
    with pytest.raises(web.HTTPBadRequest) as told:
        file_name(request)
    assert told.value.reason.isprintable()


@pytest.mark.parametrize(
    ("name", "wanted"), [("a.wav", "a.wav"), ("../../a.wav", "a.wav"), ("", "recording"), ("Ä ö.m4a", "Ä ö.m4a")]
)
def test_file_names(name: str, wanted: str) -> None:
    make: Callable[[], Any] = lambda: SimpleNamespace(query={"name": name})  # noqa: E731
    assert file_name(make()) == wanted
