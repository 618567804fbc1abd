"""What a viewer's silence means: death, an outage, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from realtime.stream.tracks import EncodedTrack
from realtime.web.viewer import WATCH_SECONDS, OutageDetector, Viewer

POLLS = round(1 / WATCH_SECONDS)  # a second


def poll(detector: OutageDetector, counts: list[int]) -> list[int]:
    """Polls with the packets of each quarter of a second; returns where an outage ended."""
    total, ends = detector._received, []
    for index, count in enumerate(counts):
        total += count
        if detector.poll(total):
            ends.append(index)
    return ends


def test_a_microphones_outage_ends_with_the_first_packet_after_it() -> None:
    speaking = [13] * 5 * POLLS
    outage = [0] * POLLS
    detector = OutageDetector()
    assert poll(detector, speaking + outage + speaking) == [len(speaking) + len(outage)]
    assert detector.silent_seconds == 0


def test_jitter_is_no_outage() -> None:
    assert poll(OutageDetector(), [13, 0, 26, 13, 0, 0, 39, 13] * 20) == []


def test_a_viewer_who_only_reports_is_not_taken_for_broken_again_and_again() -> None:
    """Once a second, as receiver reports come: at first that is long, soon it is usual."""
    reports, detector = [1, 0, 0, 0], OutageDetector()
    assert len(poll(detector, reports * 10)) <= 3
    assert poll(detector, reports * 60) == []
    assert poll(detector, [0] * 4 * POLLS + [1]) == [4 * POLLS]


def test_a_viewer_may_be_asked_for_its_estimate_at_once() -> None:
    """The composing thread asks as soon as the viewer's track is known."""
    asked = []

    class Broadcast:
        def add_viewer(self, codec: str, estimate: Callable[[], int | None], *tracks: EncodedTrack) -> None:
            asked.append(estimate())

        def remove_viewer(self, *_: object) -> None:
            pass

    async def make() -> None:
        session: Any = SimpleNamespace(broadcast=Broadcast(), source=None)
        viewer = Viewer("H264", "silence", "id", [], lambda _: None, lambda _: None)
        viewer.join(session)
        await viewer.close()

    asyncio.run(make())
    assert asked == [None]


def test_silence_is_counted_until_packets_come() -> None:
    detector = OutageDetector()
    poll(detector, [5] + [0] * 15 * POLLS)
    assert detector.silent_seconds == 15
