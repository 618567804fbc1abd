"""Sessions: which avatars are live, who views them, and how many there may be.

A page's offer is answered at once. When the page is connected it gets a session of its own, which ends when its viewer
has gone; or its viewer joins the one session that runs from the start, if the server has one (--source mic, silence or
FILE). Until then it holds nothing but a half-open connection, of which there are few, for seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiortc import RTCIceServer

from ..avatar import Avatar
from ..config import StreamConfig
from ..errors import MiravoxError
from ..face.shared_engines import SharedEngines
from ..interruption import bounded_start
from ..stage_timer import StageTimer
from ..stream.schedule import Cores, PhaseSlots
from ..stream.session import Session
from ..stream.stream_recorder import StreamRecorder
from . import aiortc_guards
from .half_open import HalfOpen
from .offers import Offer
from .viewer import Viewer

log = logging.getLogger("miravox")

CLOSE_SECONDS = 1.0  # for goodbyes when the server ends
LOOK_SECONDS = 1.0  # how often failed sessions are looked for, and viewers that never connected
MAX_VIEWERS = 100  # of the shared session
DECODERS = 2  # recordings that are decoded at once: threads of their own, so that nothing else waits for them
SESSION_CLOSE_SECONDS = 10.0  # for a session's threads to end


class AllTaken(Exception):
    """There are as many sessions, or viewers of the shared one, as there may be; says so."""


class Sessions:
    """All sessions of one avatar, and their viewers. Made, used and closed on the event loop.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, config: StreamConfig, avatar: Avatar, clock: Callable[[], float] = time.monotonic) -> None:
        self.config, self.avatar = config, avatar
        self.size = config.size_pixels or avatar.width  # pixels, of the square frame
        self.totals = StageTimer()
        self.shared: Session | None = None
        self.half_open = HalfOpen(clock)  # answered, and not connected
        self.joining: dict[str, Viewer] = {}  # connected: their session is being opened
        self.viewers: dict[str, Viewer] = {}  # of a session
        self.unclosed = 0  # connections and sessions that did not end in time
        self.decoding = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._slots, self._cores, self._engines = PhaseSlots(config.max_sessions), Cores(), SharedEngines(avatar)
        self._recordings = 0
        self._opened = asyncio.Event()
        self._spare: Session | None = None  # loaded ahead, so that the first page opened does not wait
        self._ending: set[asyncio.Task[None]] = set()

    # Life

    async def open(self) -> None:
        """Loads the first session. Raises MiravoxError for whatever stands in the way."""
        with bounded_start(str(self.avatar.folder)) if self.config.target != "tensorrt" else contextlib.nullcontext():
            first = await self._load_session()  # plans for a GPU may take minutes
        if self.config.source == "browser":
            self._spare = first
        else:
            self.shared, first.is_shared = first, True
            file = self.config.source_file
            kind = "file" if file else self.config.source
            await first.open_source(kind, file, loop=self.config.loop, max_seconds=None)
            first.start()
        self._opened.set()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    async def wait_until_open(self) -> None:
        await self._opened.wait()

    async def close(self) -> None:
        """Says goodbye to all browsers and ends all sessions; takes two seconds at most."""
        self.decoding.shutdown(wait=False, cancel_futures=True)
        viewers = [*self._not_joined(), *self.viewers.values()]
        self.half_open.clear()
        self.joining.clear()
        with contextlib.suppress(TimeoutError):
            ending = [*(viewer.close() for viewer in viewers), *self._ending]
            await asyncio.wait_for(asyncio.gather(*ending, return_exceptions=True), CLOSE_SECONDS)
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
                name, marking, force = self.avatar.name, self.avatar.marking, self.config.force
                session.taps.append(StreamRecorder(path, self.size, name, marking, force))
            await session.load()
        except BaseException:  # cancellation, too, must leave no thread behind
            await session.close()
            raise
        return session

    def _next_recording(self, record: Path) -> Path:
        """OUT.mp4 for the first session, OUT-2.mp4 for the second ...; of those, names that are taken are left out."""
        self._recordings += 1
        if self._recordings == 1:
            return record
        while os.path.lexists(path := record.with_stem(f"{record.stem}-{self._recordings}")) and not self.config.force:
            self._recordings += 1
        return path

    def live(self) -> list[Session]:
        """Those that run, the shared one last."""
        of_viewers = [viewer.session for viewer in self.viewers.values()]
        private = [session for session in of_viewers if session is not None and not session.is_shared]
        return [*private, *([self.shared] if self.shared is not None else [])]

    async def find(self, session_id: str) -> Session | None:
        """The session of that id; waits for one whose viewer is being connected."""
        found = next((session for session in self.live() if session.id == session_id), None)
        waiting = [v for v in self._not_joined() if v.session_id == session_id]
        return await asyncio.shield(waiting[0].joined) if found is None and waiting else found

    async def find_viewer(self, viewer_id: str) -> Viewer | None:
        """The viewer of that id, who has joined; waits for one that is being connected."""
        waiting = [v for v in self._not_joined() if v.id == viewer_id]
        if waiting:
            await asyncio.shield(waiting[0].joined)
        return self.viewers.get(viewer_id)

    def _not_joined(self) -> Iterable[Viewer]:
        return [*self.half_open.viewers(), *self.joining.values()]

    # Viewers

    async def add_viewer(self, offer: Offer, source: str, address: str) -> tuple[Viewer, str]:
        """A viewer and its answer. It gets its place when it is connected, if one is free then.

        Args:
            source: "shared" joins the session that runs; any other opens a session that it speaks in.
            address: where the offer comes from.

        Raises AllTaken if there is no place now, and MiravoxError if the offer cannot be answered.
        """
        self._check_places(source)
        for one_too_many in self.half_open.in_the_way(address):
            self._on_gone(one_too_many)
        session_id = self.shared.id if source == "shared" and self.shared is not None else secrets.token_urlsafe(9)
        viewer = Viewer(offer.codec, source, session_id, self._ice_servers(), self._on_connected, self._on_gone)
        self.half_open.add(viewer, address)  # while it is answered, too
        try:
            return viewer, await viewer.answer(offer, self.size)
        except BaseException:  # cancellation, too, must leave no connection behind
            await self.remove_viewer(viewer)
            raise

    def _check_places(self, source: str) -> None:
        """Raises AllTaken."""
        joining = sum((viewer.source == "shared") == (source == "shared") for viewer in self.joining.values())
        if source == "shared":
            assert self.shared is not None
            if self.shared.viewers + joining >= MAX_VIEWERS:
                raise AllTaken(f"The shared session has {MAX_VIEWERS} viewers, as many as it may have.")
        elif len(self.live()) + joining >= self.config.max_sessions:
            raise AllTaken(f"All {self.config.max_sessions} sessions are taken.")

    def _ice_servers(self) -> list[RTCIceServer]:
        return [RTCIceServer(s.url, s.username, s.credential) for s in self.config.ice_servers]

    def _on_connected(self, viewer: Viewer) -> None:
        if not self.half_open.remove(viewer):
            return
        try:
            self._check_places(viewer.source)
        except AllTaken as error:  # others were quicker
            log.info("viewer %s: %s", viewer.id, error)
            self._spawn(self._end(viewer))
            return
        self.joining[viewer.id] = viewer
        self._spawn(self._join(viewer))

    def _on_gone(self, viewer: Viewer) -> None:
        if self._forget(viewer):
            self._spawn(self._end(viewer))

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _join(self, viewer: Viewer) -> None:
        """Gives a connected viewer its session, unless it left meanwhile."""
        session = self.shared
        try:
            if viewer.source != "shared":
                session = None
                session = await self._open_session(viewer.source)
                session.id = viewer.session_id
        except Exception as error:  # of whatever loads an avatar; its viewer is told by the end of its connection
            told = isinstance(error, MiravoxError)
            log.error("viewer %s gets no session: %s", viewer.id, error, exc_info=not told)
        if session is not None and self.joining.pop(viewer.id, None) is not None:
            viewer.join(session)
            self.viewers[viewer.id] = viewer
            log.info("viewer %s of session %s: %s", viewer.id, session.id, viewer.codec)
            return
        if session is not None and not session.is_shared:
            await self._close_session(session)
        self._on_gone(viewer)

    async def _open_session(self, source: str) -> Session:
        """One that runs. A source that cannot be opened is told in its status."""
        session, self._spare = self._spare, None
        if session is None:
            session = await self._load_session()
        try:
            try:
                await session.open_source(source)
            except MiravoxError as error:
                session.lack_source(source, str(error))
            session.start()
        except BaseException:  # cancellation, too, must leave no session without a viewer
            await self._close_session(session)
            raise
        return session

    async def remove(self, viewer_id: str) -> bool:
        """Ends the viewer of that id, joined or not; whether there is one."""
        found = [v for v in (*self._not_joined(), *self.viewers.values()) if v.id == viewer_id]
        for viewer in found:
            await self.remove_viewer(viewer)
        return bool(found)

    async def remove_viewer(self, viewer: Viewer) -> None:
        """Ends a viewer, and its session if nobody shares it. May be called twice."""
        if self._forget(viewer):
            await self._end(viewer)

    def _forget(self, viewer: Viewer) -> bool:
        """Whether it was known until now."""
        found = [held.pop(viewer.id, None) for held in (self.joining, self.viewers)]
        return self.half_open.remove(viewer) or any(each is not None for each in found)

    async def _end(self, viewer: Viewer) -> None:
        """Closes its connection, which may take seconds, and its session in any case."""
        try:
            if not await viewer.close():
                self.unclosed += 1
                log.warning("a connection did not end within %.0f s: it was cut off", aiortc_guards.CLOSE_SECONDS)
        finally:
            if viewer.session is not None and not viewer.session.is_shared:
                await self._close_session(viewer.session)
        log.info("viewer %s left", viewer.id)

    async def _close_session(self, session: Session) -> None:
        """Its threads end; nobody waits for long if one of them hangs."""
        try:
            await asyncio.wait_for(asyncio.shield(session.close()), SESSION_CLOSE_SECONDS)
        except TimeoutError:
            self.unclosed += 1
            log.warning("a session did not end within %.0f s", SESSION_CLOSE_SECONDS)

    async def watch(self) -> None:
        """Ends sessions whose rendering failed, whose pages reconnect to new ones, and viewers that never connected."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for viewer in self.half_open.late():
                self._on_gone(viewer)
            for viewer in self._failed():
                await self.remove_viewer(viewer)

    def _failed(self) -> Iterable[Viewer]:
        viewers = list(self.viewers.values())
        return [
            v for v in viewers if v.session is not None and v.session.failure is not None and not v.session.is_shared
        ]
