"""Bodies of requests: JSON into memory, recordings onto the disk, each within bounds of size and time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

IDLE_SECONDS = 10.0  # without a byte of a body: its sender is gone
BODY_SECONDS = 120.0  # for all of a body
PIECE_BYTES = 2**20  # that are written at once
MAX_NAME = 255  # letters
SUFFIX = re.compile(r"\.[0-9A-Za-z]{1,8}")  # that FFmpeg may take a hint from


async def read_json(request: web.Request, limit: int) -> dict[str, Any]:
    """The request's JSON object, of `limit` bytes at most. Raises 400, 408, 413 or 415 with the reason."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(
            reason=f"Found content type {printable(request.content_type)}; wanted application/json."
        )
    body = bytearray()
    async for piece in _pieces(request, limit):
        body += piece
    try:
        value = json.loads(body)
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise web.HTTPBadRequest(
            reason=f"Found a body that is not JSON; wanted a JSON object. {printable(str(error))}"
        ) from error
    except RecursionError as error:
        raise web.HTTPBadRequest(reason="Found JSON nested too deeply; wanted a JSON object.") from error
    if not isinstance(value, dict):
        raise web.HTTPBadRequest(reason=f"Found a JSON {type(value).__name__}; wanted an object.")
    return value


@contextlib.asynccontextmanager
async def upload(request: web.Request, name: str, limit: int, executor: Executor) -> AsyncIterator[Path]:
    """A file with the request's body, of `limit` bytes at most; it is gone after the block.

    Args:
        name: what the sender calls it; only a plain ending is kept.
        executor: on whose threads it is written.

    Raises 400, 408, 413, or 507 if there is no room for it.
    """
    loop = asyncio.get_running_loop()
    suffix = Path(name).suffix
    try:
        with tempfile.TemporaryDirectory(prefix="miravox-") as folder:
            path = Path(folder) / f"recording{suffix if SUFFIX.fullmatch(suffix) else ''}"
            with path.open("wb") as file:
                waiting = bytearray()
                async for piece in _pieces(request, limit):
                    waiting += piece
                    if len(waiting) >= PIECE_BYTES:
                        await loop.run_in_executor(executor, file.write, bytes(waiting))
                        waiting.clear()
                file.write(waiting)
            yield path
    except ConnectionError:  # an OSError, too: the sender is gone
        raise
    except OSError as error:
        raise web.HTTPInsufficientStorage(
            reason=f"Found a disk that takes no recording ({error.strerror}); wanted room for it. Try a shorter one."
        ) from error


def file_name(request: web.Request) -> str:
    """What the sender calls its file. Raises 400 for what is no name."""
    name = Path(request.query.get("name", "recording")).name or "recording"
    if len(name) > MAX_NAME or not name.isprintable():
        raise web.HTTPBadRequest(
            reason=f"Found the file name {printable(name[:40])}; wanted {MAX_NAME} printable letters at most."
        )
    return name


def printable(text: str) -> str:
    """For an answer's one line."""
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


async def _pieces(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    """The body as it comes. Raises 400 for one that cannot be unpacked, 408, and 413 without reading all of it."""
    length, loop = 0, asyncio.get_running_loop()
    deadline = loop.time() + BODY_SECONDS
    while True:
        try:
            async with asyncio.timeout(min(IDLE_SECONDS, deadline - loop.time())):
                piece = await request.content.readany()
        except TimeoutError as error:
            raise web.HTTPRequestTimeout(
                reason=f"Found a body of which nothing came for {IDLE_SECONDS:.0f} s, or that took more than "
                f"{BODY_SECONDS:.0f} s; wanted all of it. Send it again."
            ) from error
        except RuntimeError as error:  # aiohttp's word for a connection that ended while its body was waited for
            raise ConnectionResetError("the sender hung up") from error
        except (web.RequestPayloadError, HttpProcessingError) as error:
            raise web.HTTPBadRequest(
                reason=f"Found a body that cannot be unpacked ({printable(str(error))}); wanted it whole."
            ) from error
        if not piece:
            return
        length += len(piece)
        if length > limit:
            raise web.HTTPRequestEntityTooLarge(
                limit, length, reason=f"Found more than {limit} bytes; wanted {limit} at most."
            )
        yield piece
