"""The source loop: the short real video that the mouth is painted into.

Stored unrolled (there and back), decoded forwards only.
"""

from __future__ import annotations

import threading
from pathlib import Path

import av
from av.container import InputContainer
from av.video.reformatter import VideoReformatter

from ..contract import FRAME_RATE
from ..errors import MiravoxError
from .yuv import copy_of

SEEK_AHEAD = 8  # further ahead, seeking is cheaper than decoding what lies between


# What a stranger's file may be: MP4 by its own header and nothing else (no playlist, no list of files), one stream of
# H.264, and no picture larger than the loop's. Nothing else is decoded, and no other file or address is opened.
DEMUXER = "mp4"
OPENING = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2",  # FFmpeg's name of that one demuxer
    "codec_whitelist": "h264",
    "protocol_whitelist": "file",
}
MAX_FRAMES = 1 << 14  # eleven minutes
WANTED = "a source loop as export writes it: MP4 with one H.264 video"
REMEDY = "Get the avatar again."


def open_source_loop(path: Path, width: int) -> InputContainer:
    """The file of a source loop whose frames are `width` pixels a side. Raises MiravoxError if it is none."""
    options = {**OPENING, "max_pixels": str(2 * width * width)}  # the decoder works on whole blocks beyond the edges
    try:
        with path.open("rb") as file:
            if file.read(8)[4:] != b"ftyp":
                raise _refused(path, "a file that is not MP4")
        container = av.open(str(path), format=DEMUXER, options=options)
    except (av.error.FFmpegError, OSError) as error:
        raise _refused(path, f"a file that FFmpeg refuses ({error.strerror})") from error
    streams = container.streams
    found = [f"{s.type} {s.codec_context.name if s.codec_context else 'unknown'}" for s in streams]
    if found != ["video h264"]:
        container.close()
        raise _refused(path, f"the streams {', '.join(found)[:80] or 'none'}")
    codec = streams.video[0].codec_context
    if (codec.width, codec.height) != (width, width) or codec.pix_fmt != "yuv420p":
        container.close()
        raise _refused(
            path, f"{codec.width} x {codec.height} {codec.pix_fmt}, {width} x {width} yuv420p in avatar.json"
        )
    codec.options = {"max_pixels": options["max_pixels"]}
    codec.thread_count = 1
    return container


def _refused(path: Path, found: str) -> MiravoxError:
    return MiravoxError(str(path), found=found, wanted=WANTED, remedy=REMEDY)


class SourceLoop:
    """Frames of an endless video. Frame k of the sample clock shows loop frame k modulo its length."""

    def __init__(self, path: Path, frames: int, size: int, width: int) -> None:
        """
        Args:
            frames: how many of the file's belong to the loop.
            size: side of the frames that are given out, pixels.
            width: of the file's own frames, which are square.

        Raises MiravoxError if the file is not such a video.
        """
        self.path, self.frames, self.size = path, frames, size
        self.container = open_source_loop(path, width)
        self.stream = self.container.streams.video[0]
        if not frames <= self.stream.frames <= MAX_FRAMES or self.stream.average_rate != FRAME_RATE:
            found = f"{self.stream.frames} frames, {float(self.stream.average_rate or 0):g} a second"
            self.container.close()
            wanted = f"{frames} frames, one for each pose, and at most {MAX_FRAMES}; {FRAME_RATE} a second"
            raise MiravoxError(str(path), found=found, wanted=wanted, remedy=REMEDY)
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
            except (StopIteration, av.error.FFmpegError) as error:  # the end, or what cannot be decoded
                raise self._too_short(index) from error
        self.next_index = index + 1
        if self._index(decoded) != index:
            raise self._too_short(index)
        if (decoded.width, decoded.height, decoded.format.name) == (self.size, self.size, "yuv420p"):
            return copy_of(decoded)  # the decoder keeps its own
        return self.reformatter.reformat(decoded, width=self.size, height=self.size, format="yuv420p", threads=1)

    def _index(self, decoded: av.VideoFrame) -> int:
        assert self.stream.average_rate is not None
        if decoded.time is None:
            raise self._too_short(self.next_index)
        return round(decoded.time * self.stream.average_rate)

    def _too_short(self, index: int) -> MiravoxError:
        return MiravoxError(
            str(self.path),
            found=f"no frame {index} that can be decoded",
            wanted=f"{self.frames} frames, one for each pose",
            remedy=REMEDY,
        )

    def _seek(self, index: int) -> None:
        """Goes on at any frame: all of them are keyframes."""
        assert self.stream.average_rate is not None and self.stream.time_base is not None
        self.container.seek(round(index / self.stream.average_rate / self.stream.time_base), stream=self.stream)
        self.decoder = self.container.decode(self.stream)
        self.next_index = index

    def close(self) -> None:
        self.container.close()
