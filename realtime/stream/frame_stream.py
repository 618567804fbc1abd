"""Stream: an avatar that speaks in real time, for programs: speech is pushed in, frames and events come out.

push -> LiveAvatar -> picture k and the speech beside it -> frames that wait for their reader -> `async for`

A frame that could not be drawn in time shows the picture before it, so that every 40 ms of the sample clock has its
frame and no speech is missing. A reader who is late loses the oldest frames.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType
from typing import Self

from numpy.typing import ArrayLike

from .. import frames
from ..audio.block import Block
from ..audio.input import Feed
from ..audio.pcm import mono_samples, sample_rate
from ..audio.playback import Playback
from ..avatar import Avatar
from ..contract import SAMPLES_PER_FRAME
from ..errors import MiravoxError
from ..face.shared_engines import SharedEngines
from ..stage_timer import StageTimer
from .live_avatar import LiveAvatar
from .schedule import Cores
from .spoken_frame import Frame, FrameAssembler

MAX_WAITING_FRAMES = 10  # 400 ms for a reader who is late
MAX_WAITING_EVENTS = 1000  # that nobody reads
LOOK_SECONDS = 0.2  # between two looks whether rendering has failed, while no frame comes


class Stream:
    """An avatar in real time. Made by Avatar.stream; open within `async with`, once.

        async with avatar.stream() as stream:
            stream.push(samples, rate=24_000)       # as fast as it is synthesised: it is queued, and said in real time
            stream.end_segment()                    # the end of an utterance
            async for frame in stream:              # 25 a second, the avatar idles while there is no speech
                ...

    `push`, `end_segment` and `interrupt` may be called on any thread, frames and events are read on the event loop.
    Rendering itself runs on threads of its own. Leaving `async with`, in whatever way, ends them.
    """

    def __init__(
        self, avatar: Avatar, target: str, size: int, engines: SharedEngines | None = None, cores: Cores | None = None
    ) -> None:
        self._timer = StageTimer()
        self._make: Callable[[], LiveAvatar] = lambda: LiveAvatar(
            avatar,
            target,
            size,
            on_speech=self._speech_came,
            on_frame=self._picture_came,
            on_playback=self._playback_changed,
            timer=self._timer,
            engines=engines,
            cores=cores,
        )
        self._live: LiveAvatar | None = None  # while open
        self._feed: Feed | None = None
        self._entered = False
        self._assembler = FrameAssembler(self._frame_came, MAX_WAITING_FRAMES)

        # Only the event loop touches these.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[int, Frame]] = deque()  # with their epochs
        self._events: deque[Playback] = deque(maxlen=MAX_WAITING_EVENTS)
        self._changed = asyncio.Event()
        self._missed = 0

    # Speech

    def push(self, samples: ArrayLike, rate: int) -> None:
        """Speech to be said after all that was pushed before. It is copied, and any amount may be pushed at once.

        Args:
            samples: [n] or [n, channels] (their mean is said), n may be 0: float16, float32 or float64 in [-1, 1]
                (louder is clipped), or int16, int32 or uint8 of their full range. NaN and infinity become silence.
            rate: samples a second, 4,000 to 384,000. It may change between utterances.

        Raises MiravoxError if the stream is not open, and for any other samples or rate.
        """
        feed = self._opened("push")
        checked_rate, speech = sample_rate(rate), mono_samples(samples)
        if len(speech):
            feed.push(speech, checked_rate)

    def end_segment(self) -> None:
        """What was pushed so far is an utterance: when its last sample was played, PlaybackFinished tells.

        Raises MiravoxError if the stream is not open.
        """
        self._opened("end_segment").end_segment()

    def interrupt(self) -> None:
        """Drops all speech that was not played yet; the mouth comes to rest within 100 ms. If an utterance was under
        way, PlaybackFinished tells how much of it was played.

        Raises MiravoxError if the stream is not open.
        """
        self._opened("interrupt").clear()

    def _opened(self, call: str) -> Feed:
        if self._feed is None:
            raise MiravoxError(
                f"Stream.{call}",
                found="a stream that was closed" if self._entered else "a stream that is not open yet",
                wanted="an open stream",
                remedy="Call it within `async with avatar.stream() as stream`.",
            )
        return self._feed

    # Frames and events

    def __aiter__(self) -> AsyncIterator[Frame]:
        """Frames from now on, in order, until the stream is closed. The loop may be left and entered again.

        Raises whatever ended the rendering, if something did.
        """
        return self

    async def __anext__(self) -> Frame:
        while self._live is not None:
            while self._waiting:
                epoch, frame = self._waiting.popleft()
                if epoch >= self._live.input.epoch:
                    self._live.input.played(SAMPLES_PER_FRAME * (frame.index + 1))
                    return frame
            await self._wait()
        raise StopAsyncIteration

    async def events(self) -> AsyncGenerator[Playback, None]:
        """PlaybackStarted and PlaybackFinished of each utterance, until the stream is closed. For one reader.

        Speech counts as played when the frame beside it was read, or had waited for 400 ms for a reader.
        """
        while self._live is not None:
            while self._events:
                yield self._events.popleft()
            await self._wait()

    @property
    def dropped(self) -> int:
        """How many frames show the picture before them, since they could not be drawn in time, or were not read within
        400 ms.
        """
        return self._missed + self._timer.counted(frames.FrameCount.DROPPED)

    async def _wait(self) -> None:
        """Until something changed, or it is time to see whether all is well. Raises what ended the rendering."""
        assert self._live is not None
        if self._live.failure is not None:
            raise self._live.failure
        self._changed.clear()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._changed.wait()
        except TimeoutError:
            return

    # Life

    async def __aenter__(self) -> Self:
        """Loads the networks and starts the sample clock, which takes up to a second.

        Raises MiravoxError, e.g. if there is no OpenGL, or if the stream was open before.
        """
        if self._entered:
            raise MiravoxError(
                "Stream",
                found="one that was opened before",
                wanted="a new one",
                remedy="Call avatar.stream() for each.",
            )
        self._entered, self._loop = True, asyncio.get_running_loop()
        opening = self._loop.run_in_executor(None, self._open)
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:  # a thread cannot be cancelled
            await asyncio.wait([opening])
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    def _open(self) -> None:
        """On a thread of its own, since it takes a while."""
        self._live = self._make()
        try:
            self._feed = self._live.input.attach(live=False)
            self._live.start()
        except BaseException:  # an interruption, too, must leave no thread behind
            self._live.close()
            self._live = self._feed = None
            raise

    async def _close(self) -> None:
        live, self._live, self._feed = self._live, None, None
        self._waiting.clear()
        self._changed.set()  # whoever waits for a frame or an event learns that none will come
        if live is not None:
            assert self._loop is not None
            await asyncio.shield(self._loop.run_in_executor(None, live.close))

    # On the live avatar's threads

    def _picture_came(self, picture: frames.Frame) -> None:
        if (live := self._live) is not None:
            self._assembler.picture(live.ring, picture)

    def _speech_came(self, block: Block) -> None:
        if (live := self._live) is not None:
            self._assembler.speech(live.ring)

    def _frame_came(self, epoch: int, frame: Frame) -> None:
        self._on_loop(self._arrive, epoch, frame)

    def _playback_changed(self, playback: Playback) -> None:
        self._on_loop(self._tell, playback)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and the stream with it
            self._loop.call_soon_threadsafe(call, *arguments)

    # On the event loop

    def _arrive(self, epoch: int, frame: Frame) -> None:
        if self._live is None:
            return
        self._waiting.append((epoch, frame))
        if len(self._waiting) > MAX_WAITING_FRAMES:
            _, lost = self._waiting.popleft()
            self._missed += 1
            self._live.input.played(SAMPLES_PER_FRAME * (lost.index + 1))
        self._changed.set()

    def _tell(self, playback: Playback) -> None:
        self._events.append(playback)
        self._changed.set()
