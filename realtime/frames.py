"""What a frame is on its way through a pipeline, and what every pipeline can do.

    paint(k, quality) -> face     on the thread that owns OpenGL, and a GPU where there is one
    finish(k, face, quality)      on the composing thread: the whole frame, ready for encoders

so that two frames are in the making at once. Nobody outside a pipeline looks into its faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import av

from .stage_timer import StageTimer

FaceT = TypeVar("FaceT")


class FrameCount(StrEnum):
    """What frames are counted by: in the timer of a session, in its status, in the metrics."""

    RENDERED = "rendered"
    LATE = "late"
    DROPPED = "dropped"
    CUT_OFF = "cut_off"
    UNREFINED = "unrefined"
    HALVED = "halved"


FRAME_COUNTS = {
    FrameCount.RENDERED: "Frames rendered.",
    FrameCount.LATE: "Frames finished after the next frame's samples had come.",
    FrameCount.DROPPED: "Frames left out because rendering was more than a frame behind.",
    FrameCount.CUT_OFF: "Frames discarded because their speech was cut off.",
    FrameCount.UNREFINED: "Frames that were not refined by the composition network because frames came late.",
    FrameCount.HALVED: "Faces shaded at half the resolution because frames came late.",
}


@dataclass(frozen=True)
class Quality:
    """How carefully a frame is drawn; less than FULL_QUALITY only while frames come late."""

    refined: bool = True  # by the composition network
    halved: bool = False  # the face is shaded at half the resolution in each direction

    @property
    def given_up(self) -> tuple[str, ...]:
        """What is left out, by the names under which such frames are counted."""
        left_out = {FrameCount.UNREFINED: not self.refined, FrameCount.HALVED: self.halved}
        return tuple(name for name, is_so in left_out.items() if is_so)


FULL_QUALITY = Quality()


@dataclass(frozen=True)
class Frame:
    """A finished frame, which shows the speech at sample 640 k."""

    index: int  # k
    picture: av.VideoFrame  # yuv420p, size x size (realtime/face/yuv.py); nobody changes its pixels any more
    on_device: av.VideoFrame | None = None  # the same in a GPU's memory, for an encoder there


@dataclass(frozen=True)
class Painted(Generic[FaceT]):
    """Frame k between the two threads that make it."""

    index: int  # k
    face: FaceT
    quality: Quality
    epoch: int  # of the speech that it shows
    started: float  # perf_counter seconds: when its window was complete and a core was asked for
    ready: float  # perf_counter seconds: when the face was painted


class Pipeline(Protocol[FaceT]):
    """Renders one avatar from one ring of speech. Made, painted with and closed on one thread."""

    timer: StageTimer  # is told how long each stage took; may be replaced between two frames

    @property
    def qualities(self) -> tuple[Quality, ...]:
        """What it can draw, best first: what a session gives up, a step at a time, while its frames come late. A
        pipeline with one quality has its frames dropped instead.
        """

    def render(self, frame_index: int) -> av.VideoFrame:
        """Frame k at full quality, yuv420p: `paint` and `finish` in one."""

    def paint(self, frame_index: int, quality: Quality = FULL_QUALITY) -> FaceT:
        """The face of frame k, the caller's own. The ring must hold the speech up to sample 640 k + lookahead.

        Raises SamplesOverwritten if the ring holds it no more.
        """

    def finish(self, frame_index: int, face: FaceT, quality: Quality = FULL_QUALITY) -> Frame:
        """Frame k from its face. Another thread than the painting one may do it, one at a time."""

    def read_ahead(self) -> None:
        """Gets the source picture of the next frame ready, if it is not yet. On any thread, when nobody waits."""

    def skip(self, frame_index: int) -> None:
        """Frame k is not drawn; only its speech is embedded, since the latents of the next eight frames need it."""

    def warm_up(self) -> None:
        """Draws a frame of silence that nobody sees: fills every cache."""

    def close(self) -> None:
        """Gives back what it holds. On the thread that made it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
