"""Frames without loss and 16-bit speech: the large files of a dataset folder."""

from __future__ import annotations

import contextlib
import errno
import wave
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from realtime.arrays import ByteArray, FloatArray
from realtime.contract import FRAME_RATE, SAMPLE_RATE
from realtime.errors import MiravoxError
from realtime.whole_file import replacing


class LosslessVideo:
    """Writes frames, 25 a second: H.264 without loss (RGB, quantiser 0), a key frame a second, so that seeking decodes
    25 frames at most. A context manager: the file appears when all of it is written.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self._session = self._opened()

    def __enter__(self) -> LosslessVideo:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, traceback)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        with replacing(self.path) as partial:
            self._container = av.open(str(partial), "w", format="matroska")
            try:
                self._stream = self._container.add_stream("libx264rgb", rate=FRAME_RATE)
                self._stream.width = self._stream.height = self.size
                self._stream.pix_fmt = "rgb24"
                self._stream.gop_size = FRAME_RATE
                self._stream.options = {"qp": "0", "preset": "ultrafast", "bf": "0", "threads": "1"}
                yield
                with writing(self.path):
                    self._container.mux(self._stream.encode(None))
                    self._container.close()
            finally:
                with contextlib.suppress(OSError, av.error.FFmpegError):  # the fault that led here is told instead
                    self._container.close()

    def write(self, frame: ByteArray) -> None:
        """Adds a frame, uint8 [size, size, 3] sRGB. Raises MiravoxError if the disk takes no more."""
        with writing(self.path):
            self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError of the file system into MiravoxError, one clear line with the remedy."""
    try:
        yield
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise MiravoxError(
            str(path),
            found="a full disk" if full else f"a place that takes no more ({error.strerror})",
            wanted="room for lossless frames, about 6 MB for each second of video",
            remedy="Free some space, or choose another --out, and start again: what is finished is kept.",
        ) from error


def write_wav(path: Path, speech: FloatArray) -> None:
    """Writes float32 [S] in [-1, 1] as 16-bit PCM, mono, 16 kHz."""
    with writing(path), replacing(path) as partial, wave.open(str(partial), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE)
        sound.writeframes((np.clip(speech, -1, 1) * 32767).round().astype("<i2").tobytes())


def read_wav(path: Path) -> FloatArray:
    """What write_wav wrote: float32 [S] in [-1, 1]."""
    with wave.open(str(path), "rb") as sound:
        return np.asarray(np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / np.float32(32767), np.float32)
