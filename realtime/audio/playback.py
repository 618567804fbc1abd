"""PlaybackLedger: which segments of queued speech were played, and how far.

A segment is an utterance: what was pushed between two ends of a segment. Speech counts as played when it has left this
machine towards its listeners.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from ..contract import SAMPLE_RATE


@dataclass(frozen=True)
class PlaybackStarted:
    """The first sample of a segment was played."""


@dataclass(frozen=True)
class PlaybackFinished:
    """A segment was played to its end, or cut off."""

    seconds: float  # of the segment's speech that were played
    interrupted: bool


Playback: TypeAlias = PlaybackStarted | PlaybackFinished


@dataclass
class _Segment:
    """Samples on the sample clock; `end` is None while the segment is still being released."""

    first: int
    end: int | None = None
    started: bool = False


class PlaybackLedger:
    """Follows segments from the push to their last sample. Its owner's lock guards it: several threads tell it."""

    def __init__(self) -> None:
        self._released: deque[_Segment] = deque()  # of which samples were released and not all played
        self._waiting = 0  # ends of segments that were pushed and not released yet
        self._unfinished = False  # speech was pushed after the last end of a segment
        self._played = 0  # sample

    def pushed(self) -> None:
        self._unfinished = True

    def ended(self) -> None:
        """The end of a segment was pushed."""
        self._unfinished = False
        self._waiting += 1

    def released(self, first: int) -> None:
        """Speech that begins at that sample was released: of the segment that is open, or of a new one."""
        if not self._released or self._released[-1].end is not None:
            self._released.append(_Segment(first))

    def released_end(self, sample: int) -> None:
        """The end of a segment was released; one without speech begins and ends there."""
        self._waiting -= 1
        self.released(sample)
        self._released[-1].end = sample

    def played(self, end_sample: int) -> list[Playback]:
        """Speech before that sample was played; what is to be told about it, in order."""
        self._played = max(self._played, end_sample)
        news: list[Playback] = []
        while self._released:
            segment = self._released[0]
            if not segment.started and segment.first < self._played and segment.end != segment.first:
                segment.started = True
                news.append(PlaybackStarted())
            if segment.end is None or segment.end > self._played:
                break
            self._released.popleft()
            news.append(PlaybackFinished((segment.end - segment.first) / SAMPLE_RATE, interrupted=False))
        return news

    def cut_off(self) -> PlaybackFinished | None:
        """Forgets everything that was not played; what is to be told about it, if anything was pending."""
        pending = self._unfinished or self._waiting > 0 or bool(self._released)
        played = max(0, self._played - self._released[0].first) if self._released else 0
        self._released.clear()
        self._waiting, self._unfinished = 0, False
        return PlaybackFinished(played / SAMPLE_RATE, interrupted=True) if pending else None
