"""The ledger of segments: what is told of them, when, and by whom it may be cut off."""

from __future__ import annotations

import threading

import numpy as np

from realtime.arrays import FloatArray
from realtime.audio.block import Block
from realtime.audio.input import AudioInput
from realtime.audio.playback import PlaybackFinished, PlaybackLedger, PlaybackStarted


def test_a_segment_starts_with_its_first_sample_and_finishes_with_its_last() -> None:
    ledger = PlaybackLedger()
    ledger.pushed()
    ledger.ended()
    ledger.released(1000)
    ledger.released(1320)
    ledger.released_end(1600)
    assert ledger.played(1000) == [], "what lies before it"
    assert ledger.played(1001) == [PlaybackStarted()]
    assert ledger.played(1599) == [], "told once"
    assert ledger.played(1600) == [PlaybackFinished(600 / 16_000, interrupted=False)]
    assert ledger.cut_off() is None


def test_several_segments_in_flight_are_told_in_order() -> None:
    ledger = PlaybackLedger()
    for first, end in ((0, 320), (320, 960)):
        ledger.pushed()
        ledger.ended()
        ledger.released(first)
        ledger.released_end(end)
    started = PlaybackStarted()
    assert ledger.played(2000) == [started, PlaybackFinished(0.02, False), started, PlaybackFinished(0.04, False)]


def test_a_segment_without_speech_only_finishes() -> None:
    ledger = PlaybackLedger()
    ledger.ended()
    ledger.released_end(640)
    assert ledger.played(640) == [PlaybackFinished(0.0, interrupted=False)]


def test_what_was_pushed_and_not_released_is_pending() -> None:
    ledger = PlaybackLedger()
    ledger.pushed()
    assert ledger.cut_off() == PlaybackFinished(0.0, interrupted=True)
    assert ledger.cut_off() is None, "told once"
    ledger.pushed()
    ledger.ended()
    assert ledger.cut_off() == PlaybackFinished(0.0, interrupted=True)


def test_what_was_played_of_a_segment_that_is_cut_off() -> None:
    ledger = PlaybackLedger()
    ledger.pushed()
    ledger.released(320)
    ledger.played(960)
    assert ledger.cut_off() == PlaybackFinished(0.04, interrupted=True)
    ledger.pushed()
    ledger.released(2000)
    assert ledger.played(2001) == [PlaybackStarted()], "a new segment"


def test_attaching_and_clearing_while_the_input_releases() -> None:
    """Feeds come and go, and are cut off, on several threads while blocks are released: nothing is told twice or lost,
    and no queue is walked while it changes.
    """
    news: list[object] = []
    now = 0.0
    written: list[Block] = []
    audio_input = AudioInput(written.append, on_playback=news.append, clock=lambda: now)
    stopping, errors = threading.Event(), list[Exception]()

    def disturb() -> None:
        piece: FloatArray = np.full(777, 0.1, np.float32)
        try:
            while not stopping.is_set():
                feed = audio_input.attach(live=False)
                for _ in range(5):
                    feed.push(piece, 24_000)
                    feed.end_segment()
                feed.clear()
        except Exception as error:  # noqa: BLE001  whatever it is: a thread would lose it
            errors.append(error)

    threads = [threading.Thread(target=disturb) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2000):
        now += 0.02
        audio_input.advance(now)
        audio_input.played(written[-1].start)
        assert audio_input.state.queued_seconds >= 0
    stopping.set()
    for thread in threads:
        thread.join(60)
    assert not errors and not any(thread.is_alive() for thread in threads)
    ends = [b.start + len(b.samples) for b in written]
    assert ends[:-1] == [b.start for b in written[1:]], "without a gap"
