"""One page that views the avatar and means no harm: how many frames it gets, how late, and its longest freeze."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.browser import ServerProcess, write_microphone
from bench.chromium import open_chromium
from bench.page import Page
from realtime.contract import FRAME_RATE, SAMPLE_RATE

FloatArray = NDArray[np.floating[Any]]

PROBE = Path(__file__).with_name("shown_frames.js")
FRAME_MS = 1000 / FRAME_RATE
FRAME_TICKS = 90_000 // FRAME_RATE  # of RTP time stamps
NEAR_MS = 30_000.0  # within which the quickest frame is what others are compared with
LONGEST_STEP = 10 * 60 * FRAME_RATE  # frames between two that were shown: more, or backwards, is another connection


class HonestPage:
    """The page, live, whose avatar says its sample; what it shows is noted by a probe in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.frame_p99_ms = 0.0  # what the server says that its frames took to make; of the worst 20 seconds
        self._rows: list[list[float]] = []
        self._begun = 0.0

    def begin(self) -> None:
        """Forgets what was shown until now."""
        self._take()
        self._rows, self._begun, self.frame_p99_ms = [], self._now(), 0.0

    def take(self) -> None:
        """Fetches what the probe noted, now and then, so that it does not pile up in the page."""
        self._rows += self._take()
        now = self.page.run("return miravox.status?.stages_ms?.frame?.p99 ?? 0")
        self.frame_p99_ms = max(self.frame_p99_ms, float(now))

    def figures(self) -> dict[str, float]:
        """Of everything since `begin`."""
        self.take()
        return figures_of(np.array(self._rows, float).reshape(-1, 4), self._begun, self._now())

    def _take(self) -> list[list[float]]:
        rows: list[list[float]] = self.page.run("return shownFrames.splice(0)")
        return rows

    def _now(self) -> float:
        return float(self.page.run("return performance.now()"))


@contextlib.contextmanager
def honest_page(server: ServerProcess) -> Iterator[HonestPage]:
    """Chromium shows the page of a server. Raises MiravoxError if it is not there, or the page does not go live."""
    with tempfile.TemporaryDirectory(prefix="miravox-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        microphone = folder / "microphone.wav"  # the page asks for none; Chromium wants one to start with
        write_microphone(microphone, np.zeros(SAMPLE_RATE, np.float32), 1.0)
        chromium = open_chromium(microphone, folder / "profile", asks=True)
        try:
            page = Page(chromium, server.address, before=PROBE.read_text())
            page.choose("sample")
            page.start()
            yield HonestPage(page)
        finally:
            chromium.quit()


def figures_of(rows: FloatArray, begun: float, ended: float) -> dict[str, Any]:
    """What a page got between two moments, in milliseconds of its clock.

    Args:
        rows: [frames, 4] as shown_frames.js has them, in the order in which they were shown.

    Returns:
        fps: frames that were shown, a second.
        p99_ms: 99th percentile of how much later a frame had come than the quickest of the half minutes around it, when
            frame k is due at 40 k ms.
        dropped_share: of the frames that were made, those that were not shown, those of a time without connection
            included.
        longest_freeze_ms: between two frames that were shown, or between one and either end.
    """
    if not len(rows):
        return {"fps": 0.0, "p99_ms": ended - begun, "dropped_share": 1.0, "longest_freeze_ms": ended - begun}
    display, received, stamps, count = rows.T
    steps = (np.diff(stamps) + 2**31) % 2**32 - 2**31
    frames = np.rint(steps / FRAME_TICKS)
    shown = np.diff(count)
    same = (frames > 0) & (frames < LONGEST_STEP) & (shown > 0)  # as before: the same connection
    # Between two connections nothing counts the frames that the page missed, but the clock.
    frames = np.where(same, frames, np.maximum(1, np.rint(np.diff(display) / FRAME_MS)))
    shown = np.where(same, np.minimum(shown, frames), 1)
    total, made = 1 + shown.sum(), 1 + frames.sum()
    late = []
    for part in np.split(np.arange(len(rows)), np.flatnonzero(~same) + 1):
        late.append(lateness(received[part], np.concatenate(([0], np.cumsum(frames[part[:-1]])))))
    gaps = np.diff(np.concatenate(([begun], display, [ended])))
    return {
        "fps": float(1000 * total / (ended - begun)),
        "p99_ms": float(np.percentile(np.concatenate(late), 99)),
        "dropped_share": float(1 - total / made),
        "longest_freeze_ms": float(gaps.max()),
    }


def lateness(received: FloatArray, index: FloatArray) -> FloatArray:
    """How much later each frame came than the quickest of its half minute and the two beside it, in ms.

    The two clocks, of the server and of the page, drift apart meanwhile, but by too little to be seen.

    Args:
        received: [n] when it had come, in ms.
        index: [n] of the frame.
    """
    off = received - FRAME_MS * index
    part = ((received - received[0]) // NEAR_MS).astype(int)
    quickest = np.full(part[-1] + 3, np.inf)
    np.minimum.at(quickest, part + 1, off)
    near = np.minimum(np.minimum(quickest[:-2], quickest[1:-1]), quickest[2:])
    lateness: FloatArray = off - near[part]
    return lateness
