"""ComposeLoop: the thread that finishes the faces which RenderLoop painted, and hands the frames on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

from ..frames import Frame, FrameCount, Painted
from ..stage_timer import StageTimer
from ..targets import AnyPipeline
from .mailbox import Mailbox
from .schedule import Cores

log = logging.getLogger("miravox")


class ComposeLoop:
    """Finishes each face from the mailbox, unless its speech was cut off meanwhile.

    Args:
        pipeline: that painted the faces.
        epoch: tells the speech's newest epoch; older faces are discarded, and counted as cut off.
        encode: is given each frame while its core is held: the rest of what a frame costs.
        deliver: is given each frame after that.
    """

    def __init__(
        self,
        pipeline: AnyPipeline,
        mailbox: Mailbox[Painted[Any]],
        timer: StageTimer,
        cores: Cores,
        epoch: Callable[[], int],
        encode: Callable[[Frame], None],
        deliver: Callable[[Frame], None],
    ) -> None:
        self._pipeline, self._mailbox, self._timer, self._cores = pipeline, mailbox, timer, cores
        self._epoch, self._encode, self._deliver = epoch, encode, deliver
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._main, name="compose", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop; returns when the pipeline is used no more. The mailbox is closed."""
        self._mailbox.close()
        self._thread.join()

    def _main(self) -> None:
        try:
            while (painted := self._mailbox.take()) is not None:
                if painted.epoch < self._epoch():
                    self._timer.count(FrameCount.CUT_OFF)
                else:
                    self._deliver(self._finish(painted))
        except Exception as error:  # whatever it is, the session ends with it and others go on
            self.failure = error
            log.exception("composing stopped")

    def _finish(self, painted: Painted[Any]) -> Frame:
        self._timer.add("hand-over", 1000 * (perf_counter() - painted.ready))
        with self._cores.core_for_frame(painted.started):
            frame = self._pipeline.finish(painted.index, painted.face, painted.quality)
            self._timer.add("frame", 1000 * (perf_counter() - painted.started))
            self._encode(frame)
            self._pipeline.read_ahead()
        return frame
