"""The files of a dataset folder: frames without loss, and speech."""

from __future__ import annotations

import contextlib
import errno
import os
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from networks.contract import FRAME_RATE, SAMPLE_RATE
from realtime.errors import MiravoxError

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]

DATASET_VERSION = 1  # of the folder


class LosslessVideo:
    """A file of frames at 25 a second: H.264 without loss (RGB, quantiser 0), a key frame a second, so that seeking
    decodes 25 frames at most. A context manager: the file appears when all of it is written.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self._partial = path.with_name(f".{path.name}.partial")

    def __enter__(self) -> LosslessVideo:
        self._container = av.open(str(self._partial), "w", format="matroska")
        self._stream = self._container.add_stream("libx264rgb", rate=FRAME_RATE)
        self._stream.width = self._stream.height = self.size
        self._stream.pix_fmt = "rgb24"
        self._stream.gop_size = FRAME_RATE
        self._stream.options = {"qp": "0", "preset": "ultrafast", "bf": "0", "threads": "1"}
        return self

    def write(self, frame: ByteArray) -> None:
        """uint8 [size, size, 3] sRGB."""
        with writing(self.path):
            self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with writing(self.path):
                    self._container.mux(self._stream.encode(None))
                    self._container.close()
                    os.replace(self._partial, self.path)
        finally:
            self._partial.unlink(missing_ok=True)
            with contextlib.suppress(OSError, av.error.FFmpegError):  # the end of a file that is gone cannot be written
                self._container.close()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into one clear line."""
    try:
        yield
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise MiravoxError(
            str(path), found="a full disk" if full else f"a place that takes no more ({error.strerror})",
            wanted="room for lossless frames, about 6 MB for each second of video",
            remedy="Free some space, or choose another --out, and start again: what is finished is kept.",
        ) from error  # fmt: skip


def write_wav(path: Path, speech: FloatArray) -> None:
    """16-bit PCM, mono, 16 kHz."""
    with writing(path), wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE)
        sound.writeframes((np.clip(speech, -1, 1) * 32767).round().astype("<i2").tobytes())


def read_wav(path: Path) -> FloatArray:
    """What write_wav wrote."""
    with wave.open(str(path), "rb") as sound:
        return np.asarray(np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / np.float32(32767), np.float32)
