"""The source loop: the short real video that the mouth is painted into.

Stored unrolled (there and back), decoded forwards only.
"""

from __future__ import annotations

import threading
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

from ..errors import MiravoxError
from .yuv import copy_of

SEEK_AHEAD = 8  # further ahead, seeking is cheaper than decoding what lies between


class SourceLoop:
    """Frames of an endless video. Frame k of the sample clock shows loop frame k modulo its length."""

    def __init__(self, path: Path, frames: int, size: int) -> None:
        self.path, self.frames, self.size = path, frames, size
        self.container = av.open(str(path))
        self.stream = self.container.streams.video[0]
        self.stream.codec_context.thread_count = 1
        self.next_index = 0
        self.decoder = self.container.decode(self.stream)
        self.reformatter = VideoReformatter()  # keeps its tables from frame to frame
        self.ahead: tuple[int, av.VideoFrame] | None = None
        self.decoding = threading.Lock()  # the decoder is one thread's at a time

    def frame(self, index: int) -> av.VideoFrame:
        """Loop frame `index`, 0 <= index < frames, yuv420p (face/yuv.py), the caller's own. Cheap for consecutive
        indices, and at once if it was read ahead.
        """
        with self.decoding:
            ahead, self.ahead = self.ahead, None
            return ahead[1] if ahead is not None and ahead[0] == index else self._decode(index)

    def read_ahead(self) -> None:
        """Decodes the frame after the last one, on any thread: when nobody waits, after a frame was sent or while a GPU
        draws one.
        """
        with self.decoding:
            if self.ahead is None:
                following = self.next_index % self.frames
                self.ahead = following, self._decode(following)

    def _decode(self, index: int) -> av.VideoFrame:
        if index < self.next_index or index > self.next_index + SEEK_AHEAD:
            self._seek(index)
        decoded = None
        while decoded is None or self._index(decoded) < index:
            try:
                decoded = next(self.decoder)
            except (StopIteration, av.error.EOFError) as error:
                raise self._too_short(index) from error
        self.next_index = index + 1
        if self._index(decoded) != index:
            raise self._too_short(index)
        if (decoded.width, decoded.height, decoded.format.name) == (self.size, self.size, "yuv420p"):
            return copy_of(decoded)  # the decoder keeps its own
        return self.reformatter.reformat(decoded, width=self.size, height=self.size, format="yuv420p", threads=1)

    def _index(self, decoded: av.VideoFrame) -> int:
        assert self.stream.average_rate is not None and decoded.time is not None
        return round(decoded.time * self.stream.average_rate)

    def _too_short(self, index: int) -> MiravoxError:
        return MiravoxError(
            str(self.path),
            found=f"no frame {index}",
            wanted=f"{self.frames} frames, one for each pose",
            remedy="Get the avatar again.",
        )

    def _seek(self, index: int) -> None:
        """Goes on at any frame: all of them are keyframes."""
        assert self.stream.average_rate is not None and self.stream.time_base is not None
        self.container.seek(round(index / self.stream.average_rate / self.stream.time_base), stream=self.stream)
        self.decoder = self.container.decode(self.stream)
        self.next_index = index

    def close(self) -> None:
        self.container.close()
