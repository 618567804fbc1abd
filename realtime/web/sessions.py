"""Sessions: which avatars are live, who views them, and how many there may be.

A page's offer makes a session of its own, which ends when its viewer has gone; or its viewer joins the one session that
runs from the start, if the server has one (--source mic, silence or FILE).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path

from aiortc import RTCIceServer

from ..avatar import Avatar
from ..config import StreamConfig
from ..face.shared_engines import SharedEngines
from ..stage_timer import StageTimer
from ..stream.schedule import Cores, PhaseSlots
from ..stream.session import Session
from ..stream.stream_recorder import StreamRecorder
from .viewer import Viewer

log = logging.getLogger("miravox")

CLOSE_SECONDS = 1.0  # for goodbyes when the server ends
FAILURE_SECONDS = 1.0  # how often failed sessions are looked for


class AllTaken(Exception):
    """There are as many sessions as there may be."""


class Sessions:
    """All sessions of one avatar, and their viewers. Made, used and closed on the event loop."""

    def __init__(self, config: StreamConfig, avatar: Avatar) -> None:
        self.config, self.avatar = config, avatar
        self.size = config.size_pixels or avatar.width  # pixels, of the square frame
        self.totals = StageTimer()
        self.shared: Session | None = None
        self.viewers: dict[str, Viewer] = {}
        self._slots, self._cores, self._engines = PhaseSlots(config.max_sessions), Cores(), SharedEngines(avatar)
        self._recordings = 0
        self._opened = asyncio.Event()
        self._spare: Session | None = None  # loaded ahead, so that the first page opened does not wait
        self._opening = 0
        self._ending: set[asyncio.Task[None]] = set()

    # Life

    async def open(self) -> None:
        """Loads the first session. Raises MiravoxError for whatever stands in the way."""
        first = await self._load_session()
        if self.config.source == "browser":
            self._spare = first
        else:
            self.shared, first.is_shared = first, True
            file = self.config.source_file
            await first.open_source("file" if file else self.config.source, file, loop=self.config.loop)
            first.start()
        self._opened.set()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    async def wait_until_open(self) -> None:
        await self._opened.wait()

    async def close(self) -> None:
        """Says goodbye to all browsers and ends all sessions; takes two seconds at most."""
        viewers = list(self.viewers.values())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(v.close() for v in viewers), return_exceptions=True), CLOSE_SECONDS)
        await asyncio.gather(*(session.close() for session in self.live()))
        if self._spare is not None:
            await self._spare.close()

    async def _load_session(self) -> Session:
        session = Session(
            self.avatar,
            self.config.target,
            self.size,
            self.config.device,
            totals=self.totals,
            slots=self._slots,
            cores=self._cores,
            engines=self._engines,
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

    def live(self) -> list[Session]:
        """Those that run, the shared one last."""
        private = [viewer.session for viewer in self.viewers.values() if not viewer.session.is_shared]
        return [*private, *([self.shared] if self.shared is not None else [])]

    def find(self, session_id: str) -> Session | None:
        return next((session for session in self.live() if session.id == session_id), None)

    # Viewers

    async def add_viewer(self, sdp: str, codec: str, source: str) -> tuple[Viewer, str]:
        """Answers an offer that `check_offer` passed; the viewer and the answer's SDP.

        Args:
            source: "shared" joins the session that runs; any other opens a session that it speaks in.

        Raises AllTaken, and MiravoxError if the offer cannot be answered or the source not be opened.
        """
        if source == "shared":
            assert self.shared is not None
            return await self._answer(self.shared, sdp, codec)
        if len(self.live()) + self._opening >= self.config.max_sessions:
            raise AllTaken
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
        self.viewers[viewer.id] = viewer
        log.info("viewer %s of session %s: %s", viewer.id, session.id, codec)
        return viewer, answer

    def _ice_servers(self) -> list[RTCIceServer]:
        return [RTCIceServer(s.url, s.username, s.credential) for s in self.config.ice_servers]

    def _on_gone(self, viewer: Viewer) -> None:
        task = asyncio.ensure_future(self.remove_viewer(viewer))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def remove_viewer(self, viewer: Viewer) -> None:
        """Ends a viewer, and its session if nobody shares it. May be called twice."""
        if self.viewers.pop(viewer.id, None) is None:
            return
        await viewer.close()
        if not viewer.session.is_shared:
            await viewer.session.close()
        log.info("viewer %s left", viewer.id)

    async def watch_failures(self) -> None:
        """Ends sessions whose rendering failed: their pages reconnect to new ones."""
        while True:
            await asyncio.sleep(FAILURE_SECONDS)
            for viewer in self._failed():
                await self.remove_viewer(viewer)

    def _failed(self) -> Iterable[Viewer]:
        viewers = list(self.viewers.values())
        return [v for v in viewers if v.session.failure is not None and not v.session.is_shared]
