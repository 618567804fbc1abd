"""RenderLoop: the thread that owns OpenGL. Waits for samples, never for a timer; hands over the newest face.

ComposeLoop, another thread, finishes the frame, so that two frames are made at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

from ..audio.ring import AudioRing, SamplesOverwritten
from ..contract import SAMPLES_PER_FRAME
from ..errors import MiravoxError
from ..frames import FULL_QUALITY, FrameCount, Painted, Quality
from ..stage_timer import StageTimer
from ..targets import AnyPipeline
from .degradation import Degradation
from .mailbox import Mailbox
from .schedule import Cores

log = logging.getLogger("miravox")

POLL_SECONDS = 0.1  # how long a wait for samples may delay the end of the loop


class RenderLoop:
    """Paints the face of frame k as soon as sample 640 k + lookahead is in the ring.

    Args:
        make_pipeline: is called on the loop's thread, which owns the OpenGL context.
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
        mailbox: Mailbox[Painted[Any]],
        timer: StageTimer,
        cores: Cores,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._make_pipeline, self._ring, self._lookahead = make_pipeline, ring, lookahead_samples
        self._mailbox, self._timer = mailbox, timer
        self._cores, self._wanted = cores, wanted
        self._degradation: Degradation | None = None  # once the pipeline says what it can draw
        self._ready = threading.Event()
        self._running, self._stopping = threading.Event(), threading.Event()
        self.failure: Exception | None = None
        self._pipeline: AnyPipeline | None = None  # once ready
        self._thread = threading.Thread(target=self._main, name="render", daemon=True)
        self._thread.start()

    def wait_until_ready(self) -> AnyPipeline:
        """The pipeline, when its networks are loaded and warm. Raises what went wrong."""
        self._ready.wait()
        if self.failure is not None:
            raise self.failure
        assert self._pipeline is not None
        return self._pipeline

    @property
    def quality(self) -> Quality:
        """Of the next frame."""
        return self._degradation.quality if self._degradation is not None else FULL_QUALITY

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
                self._pipeline, self._degradation = pipeline, Degradation(pipeline.qualities)
                self._ready.set()
                self._running.wait()
                self._loop(pipeline, self._degradation)
        except Exception as error:  # whatever it is, the session ends with it and others go on
            self.failure = error
            if not isinstance(error, MiravoxError):
                log.exception("rendering stopped: %s", error)
            elif self._ready.is_set():  # else whoever waits until it is ready says it
                log.warning("rendering stopped: %s", error)
        finally:
            self._ready.set()

    def _newest(self) -> int:
        """The newest frame whose samples are all there."""
        return (self._ring.end_sample - self._lookahead) // SAMPLES_PER_FRAME

    def _loop(self, pipeline: AnyPipeline, degradation: Degradation) -> None:
        k = 0
        while not self._stopping.is_set():
            if not self._ring.wait_for(SAMPLES_PER_FRAME * k + self._lookahead, POLL_SECONDS):
                continue
            newest = self._newest()
            if not self._wanted():
                k = newest + 1
                continue
            if newest - k > 1:
                self._timer.count(FrameCount.DROPPED, newest - k)
                degradation.note(late=True)
                self._catch_up(pipeline, k, newest)
                k = newest
            started, epoch, quality = perf_counter(), self._ring.epoch, degradation.quality
            try:
                with self._cores.core_for_frame(started):
                    face = pipeline.paint(k, quality)
            except SamplesOverwritten:  # the machine slept: begin where the ring is
                self._timer.count(FrameCount.DROPPED)
                k = self._newest()
                continue
            self._timer.count(FrameCount.RENDERED)
            for given_up in quality.given_up:
                self._timer.count(given_up)
            replaced = self._mailbox.put(Painted(k, face, quality, epoch, started, ready=perf_counter()))
            if replaced:
                self._timer.count(FrameCount.DROPPED)  # the one before it
            k += 1
            late = self._newest() >= k
            if late:
                self._timer.count(FrameCount.LATE)
            degradation.note(late or replaced)

    def _catch_up(self, pipeline: AnyPipeline, first: int, end: int) -> None:
        """The speech of frames that are dropped is embedded all the same, unless the ring holds it no more."""
        try:
            for k in range(first, end):
                pipeline.skip(k)
        except SamplesOverwritten:
            return
