"""A pipeline that draws nothing: grey frames at once, and a note of what it was asked for."""

from __future__ import annotations

import threading
from types import TracebackType

import av
import numpy as np

from realtime.arrays import ByteArray
from realtime.frames import FULL_QUALITY, Frame, Quality
from realtime.stage_timer import StageTimer

SIZE = 128


class FakePipeline:
    """Satisfies frames.Pipeline. `allowed` holds up painting while it is cleared."""

    qualities = (FULL_QUALITY, Quality(refined=False))

    def __init__(self, size: int = SIZE) -> None:
        self.size, self.timer = size, StageTimer()
        self.painted: list[int] = []
        self.finished: list[tuple[int, Quality]] = []
        self.read_aheads = 0
        self.error: Exception | None = None  # raised by `finish`
        self.allowed = threading.Event()
        self.allowed.set()
        self.closed = False
        self.threads: set[str] = set()  # that it was used on

    def render(self, frame_index: int) -> av.VideoFrame:
        return self.finish(frame_index, self.paint(frame_index)).picture

    def paint(self, frame_index: int, quality: Quality = FULL_QUALITY) -> ByteArray:
        assert self.allowed.wait(60)
        self.painted.append(frame_index)
        self.threads.add(threading.current_thread().name)
        return np.full((2, 2, 4), 128, np.uint8)

    def finish(self, frame_index: int, face: ByteArray, quality: Quality = FULL_QUALITY) -> Frame:
        if self.error is not None:
            raise self.error
        assert not self.closed, "finished after it was closed"
        self.finished.append((frame_index, quality))
        grey = np.full((self.size * 3 // 2, self.size), 128, np.uint8)
        return Frame(frame_index, av.VideoFrame.from_ndarray(grey, format="yuv420p"))

    def read_ahead(self) -> None:
        self.read_aheads += 1

    def skip(self, frame_index: int) -> None:
        pass

    def warm_up(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> FakePipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
