"""What ends a command before its time: signals, and a start that hangs. Imports nothing that takes time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

START_SECONDS = 30.0  # for an avatar to be loaded and to show a frame; it takes one
FAULT_CODE = 2  # how a command ends that was given something wrong


def end_on_signals() -> None:
    """SIGTERM and SIGINT end the process at once, whatever it does: for the start, when nothing is written yet.

    Python's own way, an exception wherever the program happens to be, can come in the middle of an import, and never
    comes while a library's code runs. A signal that is ignored (nohup) stays so.
    """
    _on_signals(signal.SIG_DFL)


def interrupt_on_signals() -> None:
    """SIGTERM and SIGINT raise KeyboardInterrupt in the main thread, so that what was begun is finished in order."""
    _on_signals(_interrupt)


def _on_signals(handler: signal.Handlers | Callable[[int, FrameType | None], object]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # they are the main thread's
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def bounded_start(thing: str, seconds: float = START_SECONDS) -> Iterator[None]:
    """Ends the process with one line that names the thing, if the block takes longer. For commands alone."""
    overdue = threading.Timer(seconds, _give_up, (thing, seconds))
    overdue.daemon = True
    overdue.start()
    try:
        yield
    finally:
        overdue.cancel()


def _give_up(thing: str, seconds: float) -> None:
    """On the timer's thread; whatever hangs is in a library's code and cannot be interrupted otherwise."""
    line = f"miravox: {thing}: found no frame after {seconds:.0f} s; wanted one within a second or two. "
    os.write(2, f"{line}Get the avatar again, or try another machine.\n".encode(errors="replace"))
    os._exit(FAULT_CODE)
