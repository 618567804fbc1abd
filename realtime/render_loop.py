"""RenderLoop: the thread that owns OpenGL. Waits for samples, never for a timer; hands over the newest face.

Another thread composes it into the frame and encodes it, so that two frames are in the making at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

import av
import numpy as np
from numpy.typing import NDArray

from networks.contract import SAMPLES_PER_FRAME
from realtime.audio_ring import AudioRing, SamplesOverwritten
from realtime.degradation import HALVED, Degradation
from realtime.device_frame import Rendered
from realtime.errors import MiravoxError
from realtime.schedule import Cores
from realtime.stage_timer import StageTimer
from realtime.targets import AnyPipeline

log = logging.getLogger("miravox")

POLL_SECONDS = 0.1  # how long a wait for samples may delay the end of the loop


@dataclass(frozen=True)
class Painted:
    """The face of frame k, which shows the speech at sample 640 k."""

    index: int  # k
    face: NDArray[np.uint8] | Rendered  # [h, w, 4]: sRGB and coverage, the inpaint box; or all that there is to do
    epoch: int
    started: float  # perf_counter seconds
    ready: float

    @property
    def sample(self) -> int:
        return SAMPLES_PER_FRAME * self.index


@dataclass(frozen=True)
class Frame:
    """A finished frame."""

    index: int  # k
    picture: av.VideoFrame  # yuv420p, size x size (realtime/yuv.py); nobody changes its pixels any more
    on_device: av.VideoFrame | None = None  # the same in a GPU's memory, for an encoder there


T = TypeVar("T")


class Mailbox(Generic[T]):
    """One slot between two threads: the newest item wins."""

    def __init__(self) -> None:
        self._filled = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> bool:
        """Returns whether it took the place of an item that nobody had fetched."""
        with self._filled:
            replaced = self._item is not None
            self._item = item
            self._filled.notify()
            return replaced

    def take(self) -> T | None:
        """Waits for an item; None once the mailbox is closed."""
        with self._filled:
            self._filled.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    def take_now(self) -> T | None:
        """The item, if there is one."""
        with self._filled:
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        with self._filled:
            self._closed = True
            self._filled.notify_all()


class RenderLoop:
    """Paints the face of frame k as soon as sample 640 k + lookahead is in the ring.

    Args:
        make_pipeline: is called on the loop's thread, which owns the OpenGL context.
        degradation: is told of every frame that comes late, and tells what to leave out.
        cores: one is taken while a face is painted.
        wanted: whether anybody looks; nothing is computed while nobody does.

    Counts, in the timer: `rendered`; `late`, when a face was finished after the next one's samples had come;
    `dropped`, when it was more than one frame behind and left frames out, or a face was not fetched in time.
    """

    def __init__(
        self,
        make_pipeline: Callable[[], AnyPipeline],
        ring: AudioRing,
        lookahead_samples: int,
        mailbox: Mailbox[Painted],
        timer: StageTimer,
        degradation: Degradation,
        cores: Cores,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._make_pipeline, self._ring, self._lookahead = make_pipeline, ring, lookahead_samples
        self._mailbox, self._timer, self._degradation = mailbox, timer, degradation
        self._cores, self._wanted = cores, wanted
        self._ready = threading.Event()
        self._running, self._stopping = threading.Event(), threading.Event()
        self.failure: Exception | None = None
        self.pipeline: AnyPipeline | None = None  # once ready
        self._thread = threading.Thread(target=self._main, name="render", daemon=True)
        self._thread.start()

    def wait_until_ready(self) -> None:
        """Returns when the networks are loaded and warm. Raises what went wrong."""
        self._ready.wait()
        if self.failure is not None:
            raise self.failure

    def start(self) -> None:
        """Begins with frame 0."""
        self._running.set()

    def stop(self) -> None:
        """Ends the loop; returns when OpenGL is released."""
        self._stopping.set()
        self._running.set()
        self._thread.join()

    def _main(self) -> None:
        try:
            with self._make_pipeline() as pipeline:
                pipeline.warm_up()
                self.pipeline = pipeline
                self._ready.set()
                self._running.wait()
                self._loop(pipeline)
        except Exception as error:  # whatever it is, the session ends with it and others go on
            self.failure = error
            level = logging.WARNING if isinstance(error, MiravoxError) else logging.ERROR
            log.log(level, "rendering stopped: %s", error, exc_info=not isinstance(error, MiravoxError))
        finally:
            self._ready.set()

    def _newest(self) -> int:
        """The newest frame whose samples are all there."""
        return (self._ring.end_sample - self._lookahead) // SAMPLES_PER_FRAME

    def _loop(self, pipeline: AnyPipeline) -> None:
        k = 0
        while not self._stopping.is_set():
            if not self._ring.wait_for(SAMPLES_PER_FRAME * k + self._lookahead, POLL_SECONDS):
                continue
            newest = self._newest()
            if not self._wanted():
                k = newest + 1
                continue
            if newest - k > 1:
                self._timer.count("dropped", newest - k)
                self._degradation.note(late=True)
                self._catch_up(pipeline, k, newest)
                k = newest
            started, epoch = perf_counter(), self._ring.epoch
            try:
                with self._cores.one(started):
                    face = pipeline.paint(k, self._degradation.gives_up(HALVED))
            except SamplesOverwritten:  # the machine slept: begin where the ring is
                self._timer.count("dropped")
                k = self._newest()
                continue
            ready = perf_counter()
            self._timer.count("rendered")
            replaced = self._mailbox.put(Painted(k, face, epoch, started, ready))
            if replaced:
                self._timer.count("dropped")  # the one before it
            k += 1
            late = self._newest() >= k
            if late:
                self._timer.count("late")
            self._degradation.note(late or replaced)

    def _catch_up(self, pipeline: AnyPipeline, first: int, end: int) -> None:
        """Frames that are dropped are heard all the same, unless that is hopeless."""
        try:
            for k in range(first, end):
                pipeline.skip(k)
        except SamplesOverwritten:
            return
