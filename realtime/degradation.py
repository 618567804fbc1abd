"""Degradation: what a session gives up, a step at a time, while its frames come late; it is taken back by itself.

First the composition network's refinement, then half of the shaded resolution in each direction. What comes after
that, dropping frames, is the render loop's.
"""

from __future__ import annotations

import threading
from collections import deque

from networks.contract import FRAME_RATE
from realtime.stage_timer import StageTimer

UNREFINED, HALVED = "unrefined", "halved"  # what is given up, in this order; counted by these names
STEPS = (UNREFINED, HALVED)

WATCHED_FRAMES = FRAME_RATE // 2
LATE_FRAMES = 3  # of the watched ones: one late frame is a hiccup of the machine
PATIENCE_FRAMES = 2 * FRAME_RATE  # without a late one, until a step is taken back
LONGEST_PATIENCE_FRAMES = 60 * FRAME_RATE  # it doubles whenever taking back was too soon


class Degradation:
    """How many of the steps are given up. Any thread may tell of frames and ask."""

    def __init__(self, timer: StageTimer, steps: tuple[str, ...] = STEPS) -> None:
        """`timer` counts the frames for which each of `steps` was given up, the first of STEPS that there are."""
        self._timer, self._steps = timer, steps
        self._lock = threading.Lock()
        self._late: deque[bool] = deque(maxlen=WATCHED_FRAMES)
        self._on_time = 0  # frames since the last late one, or since the last step
        self._patience = PATIENCE_FRAMES
        self._trying = False  # a step was taken back, and has not lasted yet
        self._given_up = 0

    def note(self, late: bool) -> None:
        """Tells whether a frame came late. A step more is given up when LATE_FRAMES of the last WATCHED_FRAMES did, and
        one is taken back after a while without.
        """
        with self._lock:
            self._late.append(late)
            self._on_time = 0 if late else self._on_time + 1
            if sum(self._late) >= LATE_FRAMES and self._given_up < len(self._steps):
                if self._trying:
                    self._patience = min(2 * self._patience, LONGEST_PATIENCE_FRAMES)
                self._step(1)
            elif self._on_time >= self._patience:
                if self._given_up:
                    self._step(-1)
                else:  # all of it has lasted
                    self._trying, self._patience = False, PATIENCE_FRAMES

    def _step(self, number: int) -> None:
        self._given_up += number
        self._trying = number < 0
        self._late.clear()
        self._on_time = 0

    @property
    def given_up(self) -> tuple[str, ...]:
        """Those of the steps that are given up now."""
        with self._lock:
            return self._steps[: self._given_up]

    def gives_up(self, step: str) -> bool:
        """Whether to leave out that much for the next frame; counts it if so."""
        left_out = step in self.given_up
        if left_out:
            self._timer.count(step)
        return left_out
