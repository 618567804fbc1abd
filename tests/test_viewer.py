"""What a viewer's silence means: death, an outage, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from realtime.tracks import EncodedTrack
from realtime.viewer import WATCH_SECONDS, Hearing, Viewer

POLLS = round(1 / WATCH_SECONDS)  # a second


def listen(hearing: Hearing, counts: list[int]) -> list[int]:
    """Polls with the packets of each quarter of a second; returns where an outage ended."""
    total, ends = hearing._heard, []
    for index, count in enumerate(counts):
        total += count
        if hearing.poll(total):
            ends.append(index)
    return ends


def test_a_microphones_outage_ends_with_the_first_packet_after_it() -> None:
    speaking = [13] * 5 * POLLS
    outage = [0] * POLLS
    hearing = Hearing()
    assert listen(hearing, speaking + outage + speaking) == [len(speaking) + len(outage)]
    assert hearing.silent == 0


def test_jitter_is_no_outage() -> None:
    assert listen(Hearing(), [13, 0, 26, 13, 0, 0, 39, 13] * 20) == []


def test_a_viewer_who_only_reports_is_not_taken_for_broken_again_and_again() -> None:
    """Once a second, as receiver reports come: at first that is long, soon it is usual."""
    reports, hearing = [1, 0, 0, 0], Hearing()
    assert len(listen(hearing, reports * 10)) <= 3
    assert listen(hearing, reports * 60) == []
    assert listen(hearing, [0] * 4 * POLLS + [1]) == [4 * POLLS]


def test_a_viewer_may_be_asked_for_its_estimate_at_once() -> None:
    """The composing thread asks as soon as the viewer's track is known, before there is a connection."""
    asked = []

    class Session:
        def add_viewer(self, codec: str, estimate: Callable[[], int | None]) -> tuple[object, object]:
            asked.append(estimate())
            return EncodedTrack("video", lambda: None), EncodedTrack("audio")

        def remove_viewer(self, *_: object) -> None:
            pass

    async def make() -> None:
        session: Any = Session()
        viewer = Viewer(session, "H264", [], lambda _: None)
        await viewer.close()

    asyncio.run(make())
    assert asked == [None]


def test_silence_is_counted_until_something_is_heard() -> None:
    hearing = Hearing()
    listen(hearing, [5] + [0] * 15 * POLLS)
    assert hearing.silent == 15
