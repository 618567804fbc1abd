"""Degradation: which quality a session draws, a step lower while its frames come late; it recovers by itself.

First the composition network's refinement is left out, then half of the shaded resolution in each direction. What comes
after that, dropping frames, is the render loop's.
"""

from __future__ import annotations

import threading
from collections import deque

from ..contract import FRAME_RATE
from ..frames import Quality

WATCHED_FRAMES = FRAME_RATE // 2
LATE_FRAMES = 3  # of the watched ones: one late frame is a hiccup of the machine
PATIENCE_FRAMES = 2 * FRAME_RATE  # without a late one, until a step is taken back
LONGEST_PATIENCE_FRAMES = 60 * FRAME_RATE  # it doubles whenever taking back was too soon


class Degradation:
    """Chooses among the qualities of a pipeline. Any thread may tell of frames and ask."""

    def __init__(self, qualities: tuple[Quality, ...]) -> None:
        """`qualities`: of the pipeline, best first."""
        self._qualities = qualities
        self._lock = threading.Lock()
        self._late: deque[bool] = deque(maxlen=WATCHED_FRAMES)
        self._on_time = 0  # frames since the last late one, or since the last step
        self._patience = PATIENCE_FRAMES
        self._trying = False  # a step was taken back, and has not lasted yet
        self._steps = 0  # below the best quality

    def note(self, late: bool) -> None:
        """Tells whether a frame came late. A step more is given up when LATE_FRAMES of the last WATCHED_FRAMES did, and
        one is taken back after a while without.
        """
        with self._lock:
            self._late.append(late)
            self._on_time = 0 if late else self._on_time + 1
            if sum(self._late) >= LATE_FRAMES and self._steps < len(self._qualities) - 1:
                if self._trying:
                    self._patience = min(2 * self._patience, LONGEST_PATIENCE_FRAMES)
                self._step(1)
            elif self._on_time >= self._patience:
                if self._steps:
                    self._step(-1)
                else:  # all of it has lasted
                    self._trying, self._patience = False, PATIENCE_FRAMES

    def _step(self, number: int) -> None:
        self._steps += number
        self._trying = number < 0
        self._late.clear()
        self._on_time = 0

    @property
    def quality(self) -> Quality:
        """Of the next frame."""
        with self._lock:
            return self._qualities[self._steps]
