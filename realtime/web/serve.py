"""Serves an avatar until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..avatar import load_avatar
from ..config import StreamConfig, is_loopback
from ..interruption import bounded_start
from ..stream.encoders import probe_nvenc
from ..stream.recording_file import check_place
from . import aiortc_patches
from .server import Server, link, start

if TYPE_CHECKING:
    from ..stream.window import Window

log = logging.getLogger("miravox")


def serve(config: StreamConfig) -> None:
    """Returns after SIGINT or SIGTERM, or when the window was closed. Raises MiravoxError if it cannot start.

    It takes the whole process: signal handlers, aiortc's patches. `process.prepare_process` was called before.
    """
    if not config.verbose:  # they warn of every packet of a peer that lies
        for library in ("aiortc", "aioice"):
            logging.getLogger(library).setLevel(logging.ERROR)
    aiortc_patches.install(loopback_only=is_loopback(config.host))
    if config.target == "tensorrt":
        probe_nvenc()  # takes up to a second, once; not on the event loop
    asyncio.run(_serve(config))


async def _serve(config: StreamConfig) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_tell)
    if config.record is not None:
        check_place(config.record, config.force)
    with bounded_start(str(config.avatar)):
        avatar = load_avatar(config.avatar)
    server = Server(config, avatar)
    door = await start(server)  # first, since a port in use should be told at once
    watching = asyncio.ensure_future(server.sessions.watch())
    try:
        with _window(config, server) as window:
            await server.sessions.open()
            for number in (signal.SIGINT, signal.SIGTERM):  # before, they end the process at once: nothing is written
                loop.add_signal_handler(number, stopping.set)
            print(f"Miravox: {server.avatar.name} is at {link(config)} (Ctrl-C stops)", flush=True)
            if window is None:
                await stopping.wait()
            else:
                await _show(window, server, stopping)
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await server.sessions.close()
        await door.close()


def _tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What went wrong in a task or callback that nobody waits for, in a line: mostly what a peer's packets provoked."""
    error = context.get("exception")
    reason = f"{type(error).__name__}: {error}".splitlines()[0] if error is not None else ""
    log.warning("%s: %s", str(context.get("message")).splitlines()[0], reason)
    log.info("its traceback", exc_info=error)


@contextlib.contextmanager
def _window(config: StreamConfig, server: Server) -> Iterator[Window | None]:
    """The preview window, if one is wanted."""
    if not config.window:
        yield None
        return
    from ..stream.window import Window  # GLFW wants a desktop

    window = Window(f"Miravox: {server.avatar.name}", server.sessions.size)
    try:
        yield window
    finally:
        window.destroy()


async def _show(window: Window, server: Server, stopping: asyncio.Event) -> None:
    """Shows the frames of the shared session until the window is closed or the server told to stop."""
    shared = server.sessions.shared
    assert shared is not None
    shared.taps.append(window)
    showing = asyncio.ensure_future(window.show(shared.live.latency_ms))
    waiting = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({showing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if showing.done():
            showing.result()  # raises what ended it, if it was not the user
    finally:
        shared.taps.remove(window)
        for task in (showing, waiting):
            task.cancel()
