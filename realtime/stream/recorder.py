"""Frames and speech -> an MP4 file: H.264 (BT.709, limited range, flagged so) and AAC, both on the sample clock.

The file is a fragmented MP4: a header, then pieces of half a second that each stand for themselves. Whatever ends the
recording (a crash, a full disk, a power cut), what was written until then can be played.
"""

from __future__ import annotations

import contextlib
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
from .recording_file import RecordingFile

RECORDED_RATE = 48_000  # Hz: players expect it
KEYFRAME_FRAMES = 25  # players go to any second at once
X264 = {"preset": "superfast", "crf": "18", "g": str(KEYFRAME_FRAMES)}
# Times in microseconds. The header waits for the first fragment (delay_moov), since only then the edit list that aligns
# sound and picture is known. A fragment does not wait for a picture that does not come (max_interleave_delta).
FRAGMENTS = {
    "movflags": "+empty_moov+delay_moov+default_base_moof+frag_keyframe",
    "frag_duration": "500000",
    "flush_packets": "1",
    "max_interleave_delta": "1000000",
}


class Recorder:
    """A recording in the making: a context manager. What was recorded is never deleted: on leaving it with an
    exception, too, the file is finished as far as it got.

    The file appears half a second after the first frame; without a frame there is none.
    """

    def __init__(self, path: Path, size: int, name: str, marking: str, force: bool = False) -> None:
        """For frames of size x size pixels (an even number). The avatar's name and marking go into the file's metadata,
        as title and comment.

        Args:
            force: a file that is there already is replaced, when the first fragment is written.

        Raises MiravoxError if there is one and `force` is not given, or if it can't be written there.
        """
        self.path = path
        self.size = size
        self._file = RecordingFile(path, force)
        self._container = av.open(self._file, "w", format="mp4", options=FRAGMENTS)
        self._container.metadata.update(title=name, comment=marking)
        self._video = self._container.add_stream("libx264", rate=FRAME_RATE, options=X264)
        self._video.width = self._video.height = size
        self._video.pix_fmt = "yuv420p"
        flag_bt709(self._video.codec_context)
        self._audio = self._container.add_stream("aac", rate=RECORDED_RATE, layout="mono", bit_rate=128_000)
        self._resampler = av.AudioResampler(self._audio.format, "mono", RECORDED_RATE, 1024)
        self._end_sample = 0
        self._next_frame = 0
        self._failed = False

    @property
    def seconds(self) -> float:
        """How long the recording is so far."""
        return self._next_frame / FRAME_RATE

    @property
    def is_kept(self) -> bool:
        """Whether there is a file that holds something of it."""
        return self._file.committed_bytes > 0

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
            if self._next_frame and not self._failed:
                self._finish()
        except MiravoxError:
            if error is None:  # else the first fault is told
                raise
        finally:
            self._file.close()

    def _finish(self) -> None:
        with self._writing():
            for resampled in self._resampler.resample(None) if self._end_sample else []:
                self._container.mux(self._audio.encode(resampled))
            self._container.mux(self._audio.encode(None))
            self._container.mux(self._video.encode(None))
            self._container.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """The muxer hands over whole fragments, one at a time: what it wrote goes to the disk."""
        yield
        try:
            self._file.commit()
        except MiravoxError as error:
            self._failed = True
            kept = " What was recorded until then is in it." if self.is_kept else ""
            raise MiravoxError(
                error.thing, found=error.found, wanted=error.wanted, remedy=error.remedy + kept
            ) from error
