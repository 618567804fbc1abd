"""HalfOpen: viewers whose offer was answered and who are not connected yet: few, and for seconds."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from .viewer import Viewer

log = logging.getLogger("miravox")

HALF_OPEN_PLACES = 32  # the oldest makes room for one too many
HALF_OPEN_SECONDS = 8.0  # that connecting may take


@dataclass(frozen=True)
class Waiting:
    """One of them."""

    viewer: Viewer
    since: float  # seconds
    address: str  # that its offer came from


class HalfOpen:
    """Knows who they are; whoever asks it ends those that are to go.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: dict[str, Waiting] = {}  # by id, the oldest first

    def __len__(self) -> int:
        return len(self._waiting)

    def viewers(self) -> list[Viewer]:
        return [waiting.viewer for waiting in self._waiting.values()]

    def clear(self) -> None:
        self._waiting.clear()

    def add(self, viewer: Viewer, address: str) -> None:
        self._waiting[viewer.id] = Waiting(viewer, self._clock(), address)

    def remove(self, viewer: Viewer) -> bool:
        """Whether it was one of them."""
        return self._waiting.pop(viewer.id, None) is not None

    def late(self) -> list[Viewer]:
        """Those that did not connect in time."""
        since = self._clock() - HALF_OPEN_SECONDS
        late = [waiting.viewer for waiting in self._waiting.values() if waiting.since <= since]
        for viewer in late:
            log.info("viewer %s did not connect within %.0f s", viewer.id, HALF_OPEN_SECONDS)
        return late

    def in_the_way(self, address: str) -> list[Viewer]:
        """Those that must go before one more from that address can be added.

        If there is no room, that is the oldest from the address that has most; behind a proxy, where all have one, the
        oldest of all.
        """
        late = self.late()
        if len(self._waiting) - len(late) < HALF_OPEN_PLACES:
            return late
        held = Counter(waiting.address for waiting in self._waiting.values())
        held[address] += 1
        most = max(held.values())
        oldest = next(w.viewer for w in self._waiting.values() if held[w.address] == most)
        return [*late, oldest]
