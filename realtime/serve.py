"""Serves an avatar until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from realtime.avatar import load_avatar
from realtime.config import StreamConfig
from realtime.encoders import probe_nvenc
from realtime.server import Server, link, start

if TYPE_CHECKING:
    from realtime.preview import Window

SWITCH_INTERVAL_SECONDS = 0.0005  # of Python's lock: a busy thread must not hold up the event loop


def serve(config: StreamConfig) -> None:
    """Returns after SIGINT or SIGTERM, or when the window was closed. Raises MiravoxError if it cannot start."""
    logging.basicConfig(level=logging.WARNING, format="miravox: %(message)s", stream=sys.stderr)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    if config.target == "tensorrt":
        probe_nvenc()  # takes up to a second, once; not on the event loop
    asyncio.run(_serve(config))


async def _serve(config: StreamConfig) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    server = Server(config, load_avatar(config.avatar))
    runner = await start(server)  # first, since a port in use should be told at once
    watching = asyncio.ensure_future(server.watch_failures())
    try:
        with _window(config, server) as window:
            await server.open()
            print(f"Miravox: {server.avatar.name} is at {link(config)} (Ctrl-C stops)", flush=True)
            if window is None:
                await stopping.wait()
            else:
                await _show(window, server, stopping)
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await server.close()
        await runner.cleanup()


@contextlib.contextmanager
def _window(config: StreamConfig, server: Server) -> Iterator[Window | None]:
    """The preview window, if one is wanted."""
    if not config.window:
        yield None
        return
    from realtime.preview import Window  # GLFW wants a desktop

    window = Window(f"Miravox: {server.avatar.name}", server.size)
    try:
        yield window
    finally:
        window.destroy()


async def _show(window: Window, server: Server, stopping: asyncio.Event) -> None:
    """Shows the frames of the shared session until the window is closed or the server told to stop."""
    assert server.shared is not None
    server.shared.taps.append(window)
    showing = asyncio.ensure_future(window.show(server.shared.latency_ms))
    waiting = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({showing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if showing.done():
            showing.result()  # raises what ended it, if it was not the user
    finally:
        server.shared.taps.remove(window)
        for task in (showing, waiting):
            task.cancel()
