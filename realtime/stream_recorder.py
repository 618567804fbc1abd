"""StreamRecorder: records what a session streams, while it runs."""

from __future__ import annotations

import logging
import queue
import threading
from pathlib import Path

from networks.contract import SAMPLES_PER_FRAME
from realtime.audio_input import Block
from realtime.errors import MiravoxError
from realtime.recorder import Recorder
from realtime.render_loop import Frame

log = logging.getLogger("miravox")

MAX_QUEUED = 100  # frames and blocks that wait for the disk


class StreamRecorder:
    """Writes what is streamed into an MP4 file, on a thread of its own. The file is whole after `close`."""

    def __init__(self, path: Path, size: int) -> None:
        """Raises MiravoxError if the file cannot be written there."""
        self._recorder = Recorder(path, size)
        self._queue: queue.Queue[Frame | Block | None] = queue.Queue()
        self._first_frame: int | None = None
        self.dropped = 0
        self._thread = threading.Thread(target=self._write, name="record", daemon=True)
        self._thread.start()

    def frame(self, frame: Frame) -> None:
        if self._queue.qsize() < MAX_QUEUED:
            self._queue.put(frame)
        else:
            self.dropped += 1

    def speech(self, block: Block) -> None:
        self._queue.put(block)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        """Speech waits for the first frame: the recording begins with it."""
        early: list[Block] = []
        try:
            with self._recorder as recorder:
                while (item := self._queue.get()) is not None:
                    if isinstance(item, Block):
                        self._write_speech(recorder, item, early)
                    elif self._first_frame is None:
                        self._first_frame = item.index
                        recorder.write_frame(0, item.image)
                        for block in early:
                            self._write_speech(recorder, block, early)
                    else:
                        recorder.write_frame(item.index - self._first_frame, item.image)
                if self._first_frame is None:
                    raise MiravoxError(
                        str(recorder.path), found="not one frame until the end", wanted="a session that was viewed",
                        remedy="Open the page before stopping.",
                    )  # fmt: skip
            log.warning("recorded %s (%d frames dropped)", self._recorder.path, self.dropped)
        except MiravoxError as error:
            log.error("%s", error)

    def _write_speech(self, recorder: Recorder, block: Block, early: list[Block]) -> None:
        if self._first_frame is None:
            early.append(block)
            return
        start = block.start - SAMPLES_PER_FRAME * self._first_frame
        if start + len(block.samples) > 0 and len(block.samples):
            recorder.write_speech(Block(max(0, start), block.samples[max(0, -start) :]))
