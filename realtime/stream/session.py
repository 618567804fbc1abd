"""Session: an avatar that speaks, who speaks to it, and who sees it.

source -> LiveAvatar -> Broadcast -> viewers' tracks
                     -> taps: a recording, a window
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

from ..audio.block import Block
from ..audio.microphone import Microphone
from ..audio.sound_file import open_speech
from ..audio.sources import BrowserMicrophone, Recording, Silence, Source, SourceState
from ..avatar import Avatar
from ..errors import MiravoxError
from ..face.shared_engines import SharedEngines
from ..frames import Frame
from ..stage_timer import StageTimer
from .broadcast import Broadcast
from .live_avatar import LiveAvatar
from .schedule import Cores, PhaseSlots
from .status import SessionStatus, session_status, source_status

MAX_FILE_SECONDS = 3600.0  # of a recording that a page sends
SERVER_SOURCES = ("mic", "sample", "silence")  # what a page may ask for, besides its own microphone or file


class Tap(Protocol):
    """Something else that takes what is streamed."""

    def frame(self, frame: Frame) -> None: ...

    def speech(self, block: Block) -> None: ...

    def close(self) -> None: ...


class LackingSource:
    """Nobody speaks, since the source that was wanted cannot be opened."""

    def __init__(self, kind: str, message: str) -> None:
        self._kind, self._message = kind, message

    def state(self) -> SourceState:
        return SourceState(self._kind, self._kind, "lost", self._message)

    def close(self) -> None:
        pass


class Session:
    """One avatar and its speech; many viewers. Made and closed on the event loop; `load` and `close` may take a second.

    Args:
        device: of the sound card's microphone; None is the default.
        totals: a server's stage times and counts.
        slots: of a server's sessions; this one takes one until it is closed.
        cores, engines: of a server, which its sessions share.
    """

    def __init__(
        self,
        avatar: Avatar,
        target: str,
        size: int,
        device: str | None,
        totals: StageTimer | None = None,
        slots: PhaseSlots | None = None,
        cores: Cores | None = None,
        engines: SharedEngines | None = None,
    ) -> None:
        self.id = secrets.token_urlsafe(9)
        self.avatar, self.size, self._device = avatar, size, device
        self.timer = StageTimer(totals)
        self.is_shared = False  # every page may join it
        self.source: Source | None = None
        self.taps: list[Tap] = []
        self.wall_clock_zero = 0.0  # seconds since 1970 at sample 0
        self._slots, self._slot = slots, slots.take() if slots is not None else None
        self.broadcast = Broadcast(size, avatar.lookahead_samples, self.timer, self._played)
        self.live = LiveAvatar(
            avatar,
            target,
            size,
            on_speech=self._take_speech,
            on_frame=self._take_frame,
            encode=self.broadcast.encode,
            wanted=lambda: self.viewers > 0 or bool(self.taps),
            timer=self.timer,
            cores=cores,
            engines=engines,
            keep_on_device=self.broadcast.takes_device_frames,
            frame_phase_seconds=self._slot,
        )
        self._switching = asyncio.Lock()  # one source is opened at a time
        self._ending = threading.Lock()  # guards `source` against closing
        self._closed = False

    # Life

    async def load(self) -> None:
        """Returns when frames can be rendered. Raises what stands in the way."""
        await asyncio.to_thread(self.live.wait_until_ready)

    def start(self) -> None:
        """Starts the sample clock at sample 0; it is silent while there is no source. The session is loaded."""
        self.wall_clock_zero = time.time()
        self.live.start()

    async def close(self) -> None:
        """Ends every thread of the session and closes its source. May be called twice."""
        await asyncio.to_thread(self._close)
        if self._slots is not None and self._slot is not None:
            self._slots.give_back(self._slot)
            self._slot = None

    def _close(self) -> None:
        with self._ending:
            if self._closed:
                return
            self._closed = True
            source, self.source = self.source, None  # a recording is large
        if source is not None:
            source.close()
        self.live.stop()
        self.broadcast.close()  # before the pipeline's frames go
        self.live.close()
        for tap in self.taps:
            tap.close()

    @property
    def failure(self) -> Exception | None:
        """What ended the rendering, if something did."""
        return self.live.failure

    # Source

    async def open_source(
        self,
        kind: str,
        file: Path | None = None,
        name: str = "",
        loop: bool = True,
        max_seconds: float | None = MAX_FILE_SECONDS,
        executor: Executor | None = None,
        hung_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """Another source takes over: browser, mic, sample, silence or file. On a MiravoxError the old one stays.

        Args:
            file: of kind "file"; `name` is what it is called.
            loop: recordings are said again and again.
            max_seconds: that a file may last; None: any length.
            executor: whose thread opens it; by default one that sessions share for all that waits.
            hung_up: whether nobody waits for it any more; asked on that thread, often while a file is decoded.
        """
        async with self._switching:
            cancelled = lambda: self._closed or hung_up()  # noqa: E731
            running = asyncio.get_running_loop()
            await running.run_in_executor(executor, self._open_source, kind, file, name, loop, max_seconds, cancelled)

    def lack_source(self, kind: str, message: str) -> None:
        """Nobody speaks, and the status says why."""
        self.source = LackingSource(kind, message)

    def _open_source(
        self,
        kind: str,
        file: Path | None,
        name: str,
        loop: bool,
        max_seconds: float | None,
        cancelled: Callable[[], bool],
    ) -> None:
        opened = self._make_source(kind, file, name, loop, max_seconds, cancelled)
        with self._ending:
            too_late = self._closed
            before, self.source = (opened, self.source) if too_late else (self.source, opened)
        if before is not None:
            before.close()
        if too_late:  # a sound card may take seconds to open; nobody waits for it in order to close
            raise MiravoxError(
                "the session", found="one that was closed meanwhile", wanted="a live one", remedy="Open the page again."
            )

    def _make_source(
        self,
        kind: str,
        file: Path | None,
        name: str,
        loop: bool,
        max_seconds: float | None,
        cancelled: Callable[[], bool],
    ) -> Source:
        speech = self.live.input
        if kind == "browser":
            return BrowserMicrophone(speech)
        elif kind == "mic":
            return Microphone(speech, self._device)
        elif kind == "sample":
            return Recording(speech, open_speech(self.avatar.sample), self.avatar.sample.name, "sample", loop)
        elif kind == "file":
            assert file is not None
            recording = open_speech(file, max_seconds, cancelled)
            return Recording(speech, recording, name or file.name, "file", loop)
        else:
            assert kind == "silence", kind
            return Silence(speech)

    # What comes out

    def _played(self, end_sample: int) -> None:
        self.live.input.played(end_sample)

    def _take_speech(self, block: Block) -> None:
        """On the input's thread."""
        self.broadcast.write_speech(block)
        for tap in self.taps:
            tap.speech(block)

    def _take_frame(self, frame: Frame) -> None:
        """On the composing thread; it is encoded already."""
        for tap in self.taps:
            tap.frame(frame)

    @property
    def viewers(self) -> int:
        return self.broadcast.viewers

    def status(self) -> SessionStatus:
        """What the page and /stats show."""
        return session_status(
            self.id,
            self.is_shared,
            self.viewers,
            source_status(self.source, self.failure),
            self.live.input.state,
            self.timer,
            self.live.quality,
            self.avatar.lookahead_samples,
        )
