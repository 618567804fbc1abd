"""Frames and speech -> an MP4 file: H.264 (BT.709, limited range, flagged so) and AAC, both on the sample clock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.frame import PictureType

from ..audio.block import Block
from ..contract import FRAME_RATE, SAMPLE_RATE
from ..errors import MiravoxError
from ..face.yuv import flag_bt709

RECORDED_RATE = 48_000  # Hz: players expect it
X264 = {"preset": "superfast", "crf": "18"}


class Recorder:
    """A recording in the making: a context manager. The file appears when all of it is written, or not at all.

    Everything goes into a hidden file beside the wanted one, which replaces it on leaving without an exception and is
    deleted on leaving with one (an interruption included).
    """

    def __init__(self, path: Path, size: int, name: str, marking: str) -> None:
        """Opens the file for frames of size x size pixels (an even number). The avatar's name and marking go into its
        metadata, as title and comment.

        Raises MiravoxError if it can't be written there.
        """
        self.path = path
        self.size = size
        self._target = path.resolve()  # a link is not replaced, but what it points to
        self._partial = self._target.with_name(f".{self._target.name}.{os.getpid()}.partial")
        if self._target.exists() and not self._target.is_file():
            raise self._error("a folder" if self._target.is_dir() else "something other than a file", "Name a file.")
        try:
            self._partial.touch()  # FFmpeg itself would not try before the first frame
        except OSError as error:
            found = f"a place that cannot be written ({error.strerror})"
            raise self._error(found, "Make the folder, or choose another one.") from error
        self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"})
        self._container.metadata.update(title=name, comment=marking)
        self._video = self._container.add_stream("libx264", rate=FRAME_RATE, options=X264)
        self._video.width = self._video.height = size
        self._video.pix_fmt = "yuv420p"
        flag_bt709(self._video.codec_context)
        self._audio = self._container.add_stream("aac", rate=RECORDED_RATE, layout="mono", bit_rate=128_000)
        self._resampler = av.AudioResampler(self._audio.format, "mono", RECORDED_RATE, 1024)
        self._end_sample = 0
        self._next_frame = 0

    def __enter__(self) -> Recorder:
        return self

    def write_speech(self, block: Block) -> None:
        """Appends a block of speech, which begins where the last one ended.

        Raises ValueError if it does not, MiravoxError if it can't be written.
        """
        if block.start != self._end_sample:
            raise ValueError(f"a block begins at sample {block.start}; wanted {self._end_sample}")
        self._end_sample += len(block.samples)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.samples[None]), format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.pts, frame.time_base = block.start, Fraction(1, SAMPLE_RATE)
        with self._writing():
            for resampled in self._resampler.resample(frame):
                self._container.mux(self._audio.encode(resampled))

    def write_frame(self, frame_index: int, picture: av.VideoFrame) -> None:
        """Adds frame k, which is shown from sample 640 k on. Frames may be left out; the one before stays on then.

        Args:
            frame_index: k, larger than that of the last frame.
            picture: yuv420p, size x size (realtime/face/yuv.py); only its time stamp is changed.

        Raises ValueError for a wrong index or size, MiravoxError if it can't be written.
        """
        if frame_index < self._next_frame:
            raise ValueError(f"frame {frame_index} comes after frame {self._next_frame - 1}")
        found = (picture.width, picture.height, picture.format.name)
        if found != (self.size, self.size, "yuv420p"):
            raise ValueError(f"a frame has the shape {found}; wanted {(self.size, self.size, 'yuv420p')}")
        self._next_frame = frame_index + 1
        picture.pts, picture.time_base, picture.pict_type = frame_index, Fraction(1, FRAME_RATE), PictureType.NONE
        with self._writing():
            self._container.mux(self._video.encode(picture))

    def write(self, frame_index: int, picture: av.VideoFrame, block: Block) -> None:
        """A frame and the speech that it shows."""
        self.write_speech(block)
        self.write_frame(frame_index, picture)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._discard()

    def _finish(self) -> None:
        with self._writing():
            for resampled in self._resampler.resample(None) if self._end_sample else []:
                self._container.mux(self._audio.encode(resampled))
            self._container.mux(self._audio.encode(None))
            self._container.mux(self._video.encode(None))
            self._container.close()
            os.replace(self._partial, self._target)

    def _discard(self) -> None:
        """Deletes what is unfinished; nothing is left to do after _finish."""
        self._partial.unlink(missing_ok=True)
        with contextlib.suppress(OSError, av.error.FFmpegError):  # the end of a file that is gone cannot be written
            self._container.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns what the file system refuses into the one clear line."""
        try:
            yield
        except OSError as error:
            found = f"a disk that takes no more ({error.strerror})"
            raise self._error(found, "Free some space, or choose another folder.") from error

    def _error(self, found: str, remedy: str) -> MiravoxError:
        return MiravoxError(
            str(self.path), found=found, wanted="a place where an MP4 file can be written or replaced", remedy=remedy
        )
