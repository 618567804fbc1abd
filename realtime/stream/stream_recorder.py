"""StreamRecorder: records what a session streams, while it runs."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from pathlib import Path

import numpy as np

from ..audio.block import Block
from ..contract import SAMPLE_RATE, SAMPLES_PER_FRAME
from ..errors import MiravoxError
from ..frames import Frame
from .recorder import Recorder

log = logging.getLogger("miravox")

MAX_QUEUED_FRAMES = 50  # that wait for the disk, 20 MB at 512 x 512; speech is small and always waits
EARLY_SAMPLES = 4 * SAMPLE_RATE  # speech that is kept for the first frame: it was said before that was drawn
CLOSE_SECONDS = 10.0  # how long a disk may take for the end; a dead one would hold up whoever closes


class StreamRecorder:
    """Writes what is streamed into an MP4 file, on a thread of its own. The file is whole after `close`; until then,
    and if the process is killed, all but the last second can be played.

    The recording begins with the first frame. A full disk ends the recording with an error line, not the session; what
    was recorded is kept.
    """

    def __init__(self, path: Path, size: int, name: str, marking: str, force: bool = False) -> None:
        """Arguments of Recorder. Raises MiravoxError if the file cannot be written there."""
        self._recorder = Recorder(path, size, name, marking, force)
        self._queue: queue.Queue[Frame | Block | None] = queue.Queue()
        self._room = threading.Semaphore(MAX_QUEUED_FRAMES)
        self._early: deque[Block] = deque()
        self._first_frame: int | None = None
        self._end_sample = 0  # of the recording's speech
        self.dropped = 0
        self.ended = threading.Event()  # nothing more is written
        self._thread = threading.Thread(target=self._write, name="record", daemon=True)
        self._thread.start()

    def frame(self, frame: Frame) -> None:
        """Never waits: a frame too many is left out, and the one before stays on."""
        if self.ended.is_set():
            return
        if self._room.acquire(blocking=False):
            self._queue.put(frame)
        else:
            self.dropped += 1

    def speech(self, block: Block) -> None:
        if not self.ended.is_set():
            self._queue.put(block)

    def close(self) -> None:
        """Writes what waits, within ten seconds. Frames and speech that come later are ignored."""
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            log.error("%s: the disk does not answer; the end of the recording may be missing", self._recorder.path)

    def _write(self) -> None:
        try:
            with self._recorder:
                while (item := self._queue.get()) is not None:
                    if isinstance(item, Block):
                        self._hear(item)
                    else:
                        self._room.release()
                        self._show(item)
                if self._first_frame is None:
                    raise MiravoxError(
                        str(self._recorder.path),
                        found="not one frame until the end",
                        wanted="a session that was viewed",
                        remedy="Open the page before stopping.",
                    )
            log.warning("recorded %s (%d frames dropped)", self._recorder.path, self.dropped)
        except MiravoxError as error:
            failed = self._first_frame is None and self._early  # a session that ran and showed nothing has said why
            log.log(logging.DEBUG if failed else logging.ERROR, "%s", error)
        except Exception as error:  # of FFmpeg or of ours: there is nobody above this thread who could be told
            kept = "; what was recorded until then is in it" if self._recorder.is_kept else ""
            log.exception("%s: the recording failed: %s%s", self._recorder.path, error, kept)
        finally:
            self.ended.set()
            while not self._queue.empty():
                self._queue.get_nowait()

    def _show(self, frame: Frame) -> None:
        if self._first_frame is None:
            self._first_frame = frame.index
            self._recorder.write_frame(0, frame.picture)
            while self._early:
                self._hear(self._early.popleft())
        else:
            self._recorder.write_frame(frame.index - self._first_frame, frame.picture)

    def _hear(self, block: Block) -> None:
        if self._first_frame is None:
            self._early.append(block)
            while self._early[0].start < block.start - EARLY_SAMPLES:
                self._early.popleft()
            return
        start = block.start - SAMPLES_PER_FRAME * self._first_frame
        samples = block.samples[max(0, -start) :]
        if len(samples) == 0:
            return
        if start > self._end_sample:  # the recorder came when the first frame was drawn already
            self._recorder.write_speech(Block(self._end_sample, np.zeros(start - self._end_sample, np.float32)))
        self._recorder.write_speech(Block(max(0, start), samples))
        self._end_sample = max(0, start) + len(samples)
