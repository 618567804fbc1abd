"""What a session says of itself: the types of its status, as JSON has them, and where each value comes from.

docs/http-api.md describes every field for users. Times are milliseconds unless a name says otherwise.
"""

from __future__ import annotations

from typing import TypedDict

from ..audio.input import InputState
from ..audio.sources import Source
from ..contract import SAMPLE_RATE
from ..frames import FRAME_COUNTS, Quality
from ..stage_timer import StageTimer


class SourceStatus(TypedDict):
    """Who speaks."""

    kind: str  # browser, mic, sample, file or silence
    name: str
    state: str  # live, waiting (for samples), ended or lost
    message: str | None


class ArrivalStatus(TypedDict):
    """When the newest speech came."""

    sample: int
    time_ms: float  # of this machine's monotonic clock


class MicStatus(TypedDict):
    """Which sample one of the browser's time stamps became."""

    rtp_timestamp: int
    sample: int


class SampleCounts(TypedDict):
    """Samples that were not simply passed on."""

    silence: int  # inserted because none came
    discarded: int  # of a live source: too late, or left out to shorten its delay
    bad: int  # NaN or infinite: silenced


class SessionStatus(TypedDict):
    """One avatar that speaks."""

    session: str  # id
    shared: bool  # every page may join it
    viewers: int
    source: SourceStatus
    arrival: ArrivalStatus
    mic: MicStatus | None
    lookahead_ms: float
    buffer_ms: float  # how long live speech waits for its turn
    fps: float  # frames finished a second, lately
    frames: dict[str, int]  # by the names of frames.FRAME_COUNTS
    given_up: list[str]  # what is left out of frames now: unrefined, halved
    samples: SampleCounts
    stages_ms: dict[str, dict[str, float]]  # {stage: {p50, p95, p99}} over the last 20 s
    drift_ms: float


def source_status(source: Source | None, failure: Exception | None) -> SourceStatus:
    """What speaks, or why nothing does."""
    state = source.state() if source is not None else None
    kind, name = (state.kind, state.name) if state is not None else ("silence", "silence")
    if failure is not None:
        return SourceStatus(kind=kind, name=name, state="lost", message=f"rendering stopped: {failure}")
    if state is None:
        return SourceStatus(kind=kind, name=name, state="waiting", message=None)
    return SourceStatus(kind=kind, name=name, state=state.state, message=state.message)


def session_status(
    session: str,
    shared: bool,
    viewers: int,
    source: SourceStatus,
    speech: InputState,
    timer: StageTimer,
    quality: Quality,
    lookahead_samples: int,
) -> SessionStatus:
    """All of it at one moment."""
    arrival, counts = speech.arrival, speech.counts
    stamp = arrival.stamp
    return SessionStatus(
        session=session,
        shared=shared,
        viewers=viewers,
        source=source,
        arrival=ArrivalStatus(sample=arrival.sample, time_ms=1000 * arrival.seconds),
        mic=None if stamp is None else MicStatus(rtp_timestamp=stamp[0], sample=stamp[1]),
        lookahead_ms=1000 * lookahead_samples / SAMPLE_RATE,
        buffer_ms=round(1000 * speech.buffer_seconds, 1),
        fps=timer.rate("frame"),
        frames={str(name): timer.counted(name) for name in FRAME_COUNTS},
        given_up=list(quality.given_up),
        samples=SampleCounts(silence=counts.silence, discarded=counts.discarded, bad=counts.bad),
        stages_ms=timer.percentiles(),
        drift_ms=round(1000 * speech.drift_seconds, 2),
    )
