"""Rendering: the frames of a recording, as fast as they are asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeAlias

import av
import numpy as np

from ..arrays import FloatArray
from ..audio.block import Block
from ..audio.sound_file import SpeechFile
from ..avatar import Avatar
from ..contract import SAMPLES_PER_FRAME
from ..face.shared_engines import SharedEngines
from ..face.yuv import RgbConverter
from .offline import frame_count, render_frames
from .spoken_frame import Frame

Rendered: TypeAlias = tuple[av.VideoFrame, Block]

# Kept alive until their own threads close them: the garbage collector would do it on any thread.
_unclosed: set[Generator[Rendered, None, None]] = set()


class Rendering(Iterator[Frame]):
    """Iterator over the frames of a recording; `len` is how many there are in all. Made by Avatar.render.

    A frame is painted on a thread of its own while the caller works with the one before. Any thread may iterate, one at
    a time. It is closed by its last frame, by an exception, by `close`, by leaving `with`, or when nobody holds it any
    more.
    """

    def __init__(
        self,
        avatar: Avatar,
        speech: FloatArray | SpeechFile,
        target: str,
        size: int,
        engines: SharedEngines | None = None,
    ) -> None:
        """`speech`: float32 [n], n >= 1, 16 kHz, in [-1, 1]; or a recording that is read as it is shown, and closed.

        Nothing is loaded before the first frame is asked for.
        """
        self._frames = frame_count(speech)
        self._speech = None if isinstance(speech, np.ndarray) else speech
        # The one thread that touches the generator, and with it OpenGL.
        self._painting = ThreadPoolExecutor(1, "render")
        self._background = ThreadPoolExecutor(1, "read ahead")
        self._generator = render_frames(avatar, speech, target, size, self._background, engines)
        _unclosed.add(self._generator)
        self._ahead: Future[Rendered | None] | None = None  # the next frame
        self._to_rgb = RgbConverter()
        self._closed = False

    def __len__(self) -> int:
        return self._frames

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        """Raises MiravoxError, e.g. if there is no OpenGL."""
        if self._closed:
            raise StopIteration
        try:
            rendered = (self._ahead or self._begin_next()).result()
        except BaseException:  # an interruption, too, must leave no pipeline open
            self.close()
            raise
        if rendered is None:
            self.close()
            raise StopIteration
        self._ahead = self._begin_next()
        picture, block = rendered
        return Frame(block.start // SAMPLES_PER_FRAME, self._to_rgb(picture), block.samples.copy())

    def _begin_next(self) -> Future[Rendered | None]:
        return self._painting.submit(next, self._generator, None)

    def close(self) -> None:
        """Ends it, and gives back all that it holds. May be called again."""
        if not self._closed:
            self._end()
            self._painting.shutdown()
            self._background.shutdown()

    def _end(self) -> None:
        self._closed, self._ahead = True, None
        self._painting.submit(_close, self._generator, self._speech)
        self._painting.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Whatever thread this happens on, the painting one included, does not wait for it.
        if not self._closed:
            with contextlib.suppress(RuntimeError):  # Python is shutting down
                self._end()
                self._background.shutdown(wait=False)


def _close(generator: Generator[Rendered, None, None], speech: SpeechFile | None) -> None:
    """On the thread that painted and read."""
    try:
        generator.close()
        if speech is not None:
            speech.close()
    finally:
        _unclosed.discard(generator)
