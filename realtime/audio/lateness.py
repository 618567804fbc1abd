"""Lateness: how early or late the newest pieces of a live source came, and what delay they would have needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..contract import SAMPLE_RATE
from .block import BLOCK_SAMPLES

KEPT_SAMPLES = 5 * SAMPLE_RATE  # pieces are remembered for so much sound: a pause in between ages nothing
KEPT_PIECES = 256  # more than there are blocks in it
LATE_SAMPLES = 240  # 15 ms: one piece in ten may come so late. Its frame is late, and the next one is not held up
LOST_SAMPLES = 384  # 24 ms: one piece in a hundred may come later than that. Silence takes its place soon after
LATE_SHARE, LOST_SHARE, EARLY_SHARE = 0.1, 0.01, 0.9


@dataclass(frozen=True)
class Verdict:
    """What the newest pieces say, in samples at 16 kHz. A piece's lead is how long before its turn it came."""

    slack: float  # by which the delay could be shorter; below 0, by which it is too short
    short: float  # by which it is too short for what has happened twice, at least 0
    early: float  # lead that one piece in ten exceeds
    earliest: float  # highest lead
    typical: float  # median lead


class Lateness:
    """The leads of the newest pieces. Whoever moves the turns tells `shift`, so that old leads stay comparable."""

    def __init__(self) -> None:
        self._leads = np.zeros(KEPT_PIECES)
        self._at = np.full(KEPT_PIECES, -np.inf)  # samples that had come when the piece did
        self._order = np.arange(KEPT_PIECES)
        self._newest = -1
        self.received_samples = 0

    def add(self, lead: float, count: int) -> None:
        """A piece of `count` samples came `lead` samples before its turn. Of those within a block the latest counts."""
        self.received_samples += count
        at = self._newest % KEPT_PIECES
        if self.received_samples - self._at[at] < BLOCK_SAMPLES:
            self._leads[at] = min(self._leads[at], lead)
            return
        self._newest += 1
        at = self._newest % KEPT_PIECES
        self._leads[at], self._at[at] = lead, self.received_samples

    def shift(self, samples: float, since: float = -np.inf) -> None:
        """Pieces have so many samples more until their turn: all of them, or those since `received_samples` was so."""
        self._leads[self._at > since] += samples

    def verdict(self) -> Verdict:
        """Without any piece, all is in time."""
        leads = self._kept()
        if not len(leads):
            return Verdict(0.0, 0.0, 0.0, 0.0, 0.0)
        late = leads < -LATE_SAMPLES
        began = np.flatnonzero(late & ~np.concatenate([[False], late[:-1]]))
        worst = np.sort(np.minimum.reduceat(leads, began)) if len(began) > 1 else None  # of each time
        leads = np.sort(leads)
        slack = min(_part(leads, LATE_SHARE) + LATE_SAMPLES, _part(leads, LOST_SHARE) + LOST_SAMPLES)
        short = 0.0 if worst is None else max(0.0, min(-slack, -float(worst[1]) - LATE_SAMPLES))
        return Verdict(slack, short, _part(leads, EARLY_SHARE), float(leads[-1]), _part(leads, 0.5))

    def _kept(self) -> NDArray[np.float64]:
        """Oldest first."""
        order = (self._order + self._newest + 1) % KEPT_PIECES
        leads: NDArray[np.float64] = self._leads[order][self._at[order] > self.received_samples - KEPT_SAMPLES]
        return leads


def _part(ascending: NDArray[np.float64], share: float) -> float:
    """The value below which that share of them lies."""
    return float(ascending[int(share * len(ascending))])
