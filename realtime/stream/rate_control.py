"""RateControl: how many bits a second the video may have, of what the viewers' networks carry."""

from __future__ import annotations

from collections import deque

from ..contract import FRAME_RATE

# Bits per second. A step restarts the encoder; each is less than 1.5 times the one before, since a browser estimates no
# more than 1.5 times what it gets.
BITRATES = (300_000, 420_000, 590_000, 820_000, 1_150_000, 1_600_000, 2_250_000)
START_BITRATE = 1_600_000
CONGESTED_BELOW = 0.95  # of what is sent: an estimate below that means that the network does not carry it
SENT_FRAMES = 2 * FRAME_RATE  # what is sent is measured over
# Of the bitrate and of what is sent: the bitrate is used up, and the estimate leaves room for the next step.
USED_ABOVE, ROOM_ABOVE = 0.8, 1.3
FRAMES_BEFORE_LOWER, FRAMES_BEFORE_RAISE = 2 * FRAME_RATE, 8 * FRAME_RATE


class RateControl:
    """The bitrate, from what browsers say the network carries: in coarse steps, down soon and up slowly.

    What is sent may be far below the bitrate (a still picture, a busy machine), and a browser's estimate with it: only
    an estimate below what is sent speaks of the network.
    """

    def __init__(self) -> None:
        self.bitrate = START_BITRATE
        self._sent: deque[tuple[int, int]] = deque()  # frame, bytes
        self._low_since: int | None = None  # frames
        self._high_since: int | None = None

    def sent(self, size_bytes: int, frame_index: int) -> None:
        """Takes note of an encoded frame."""
        self._sent.append((frame_index, size_bytes))
        while frame_index - self._sent[0][0] >= SENT_FRAMES:
            self._sent.popleft()

    def _sent_rate(self) -> float:
        """Bits per second over the last two seconds."""
        return 8 * sum(size for _, size in self._sent) * FRAME_RATE / SENT_FRAMES

    def update(self, estimate: int | None, frame_index: int) -> int:
        """Takes the lowest estimate of all viewers (bits per second); returns the bitrate from this frame on."""
        if estimate is None:
            return self.bitrate
        sent, above = self._sent_rate(), [b for b in BITRATES if b > self.bitrate]
        low = estimate < CONGESTED_BELOW * sent and self.bitrate > BITRATES[0]
        room = estimate >= ROOM_ABOVE * sent and sent >= USED_ABOVE * self.bitrate
        high = bool(above) and room
        self._low_since = (frame_index if self._low_since is None else self._low_since) if low else None
        self._high_since = (frame_index if self._high_since is None else self._high_since) if high else None
        if self._low_since is not None and frame_index - self._low_since >= FRAMES_BEFORE_LOWER:
            below = [b for b in BITRATES if b < self.bitrate]
            self.bitrate = max((b for b in below if b <= estimate), default=below[0])
            self._low_since = None
        elif self._high_since is not None and frame_index - self._high_since >= FRAMES_BEFORE_RAISE:
            self.bitrate = above[0]
            self._high_since = None
        return self.bitrate
