"""AudioRing against its slow twin: the whole stream in one array."""

from __future__ import annotations

from threading import Event, Thread

import numpy as np
import pytest

from realtime.arrays import FloatArray
from realtime.audio.block import Block
from realtime.audio.ring import AudioRing, RingCounts, SamplesNotWritten, SamplesOverwritten
from realtime.contract import WINDOW_SAMPLES


def stream(samples: int) -> FloatArray:
    return np.linspace(0.1, 1, samples, dtype=np.float32)


def slow_window(speech: FloatArray, end_sample: int) -> FloatArray:
    padded = np.concatenate([np.zeros(WINDOW_SAMPLES, np.float32), speech])
    return padded[end_sample : end_sample + WINDOW_SAMPLES]


@pytest.mark.parametrize("capacity", [WINDOW_SAMPLES, 5000, 16_000])
def test_windows_equal_those_of_the_whole_stream(capacity: int) -> None:
    speech = stream(23_456)
    ring = AudioRing(capacity)
    rng = np.random.default_rng(0)
    start = 0
    while start < len(speech):
        count = int(rng.integers(1, 1200))
        ring.write(Block(start, speech[start : start + count]))
        start = min(start + count, len(speech))
        assert ring.end_sample == start
        oldest_end = max(0, start - capacity) + WINDOW_SAMPLES if start > capacity else 0
        for end in {start, int(rng.integers(min(oldest_end, start), start + 1))}:
            window = ring.window(end)
            assert window.dtype == np.float32
            np.testing.assert_array_equal(window, slow_window(speech, end))
    assert ring.counts == RingCounts(0, 0, 0)


def test_before_the_first_sample_there_is_silence() -> None:
    ring = AudioRing(8000)
    assert not ring.window(0).any()
    assert not ring.window(-640).any()
    ring.write(Block(0, np.ones(10, np.float32)))
    assert np.flatnonzero(ring.window(10)).tolist() == list(range(WINDOW_SAMPLES - 10, WINDOW_SAMPLES))
    ring.write(Block(10, np.ones(20_000, np.float32)))
    assert not ring.window(0).any(), "silence before sample 0 is never overwritten"


def test_a_gap_becomes_zeros_and_is_counted() -> None:
    ring = AudioRing(8000)
    ring.write(Block(0, np.ones(100, np.float32)))
    ring.write(Block(150, np.ones(50, np.float32)))
    assert ring.counts == RingCounts(gap_samples=50, discarded_samples=0, overwritten_samples=0)
    np.testing.assert_array_equal(ring.window(200)[-200:], np.repeat(np.array([1, 0, 1], np.float32), [100, 50, 50]))


def test_a_gap_longer_than_the_ring_leaves_nothing_of_the_past() -> None:
    ring = AudioRing(4000)
    ring.write(Block(0, np.ones(4000, np.float32)))
    ring.write(Block(1_000_000, np.full(7, 0.5, np.float32)))
    assert ring.counts.gap_samples == 996_000
    window = ring.window(1_000_007)
    assert not window[:-7].any() and (window[-7:] == 0.5).all()


def test_old_and_overlapping_samples_are_discarded_and_counted() -> None:
    ring = AudioRing(8000)
    ring.write(Block(0, np.ones(100, np.float32)))
    ring.write(Block(60, np.full(100, 2, np.float32)))  # 40 of it are there already
    ring.write(Block(20, np.full(30, 3, np.float32)))  # all of it is
    ring.write(Block(160, np.zeros(0, np.float32)))
    assert ring.counts == RingCounts(gap_samples=0, discarded_samples=70, overwritten_samples=0)
    np.testing.assert_array_equal(ring.window(160)[-160:], np.repeat(np.array([1, 2], np.float32), [100, 60]))


def test_a_block_longer_than_the_ring_keeps_its_end() -> None:
    speech = stream(30_000)
    ring = AudioRing(5000)
    ring.write(Block(0, speech[:123]))
    ring.write(Block(123, speech[123:]))
    np.testing.assert_array_equal(ring.window(30_000), speech[-WINDOW_SAMPLES:])


def test_asking_too_late_is_an_error_and_counted() -> None:
    ring = AudioRing(4000)
    ring.write(Block(0, stream(4300)))
    ring.window(300 + WINDOW_SAMPLES)
    with pytest.raises(SamplesOverwritten, match="begins at sample 200; the ring of 4000 samples begins at 300"):
        ring.window(200 + WINDOW_SAMPLES)
    with pytest.raises(SamplesOverwritten):
        ring.window(40)
    assert ring.counts.overwritten_samples == 100 + 40


def test_asking_too_early_is_an_error() -> None:
    ring = AudioRing(4000)
    ring.write(Block(0, stream(100)))
    with pytest.raises(SamplesNotWritten, match="ends at sample 101; the newest one ends at 100"):
        ring.window(101)


def test_a_newer_epoch_silences_what_is_there() -> None:
    ring = AudioRing(8000)
    ring.write(Block(0, np.ones(5000, np.float32)))
    ring.write(Block(5000, np.zeros(0, np.float32), epoch=1))
    assert ring.epoch == 1 and not ring.window(5000).any()
    ring.write(Block(5000, np.full(100, 0.5, np.float32), epoch=1))
    assert np.count_nonzero(ring.window(5100)) == 100


def test_a_block_of_an_older_epoch_is_silent_but_keeps_time() -> None:
    ring = AudioRing(8000)
    ring.write(Block(0, np.ones(100, np.float32), epoch=2))
    ring.write(Block(100, np.ones(100, np.float32), epoch=1))
    assert ring.end_sample == 200 and ring.epoch == 2
    assert np.flatnonzero(ring.window(200)).tolist() == list(range(WINDOW_SAMPLES - 200, WINDOW_SAMPLES - 100))


def test_a_ring_smaller_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="3799; wanted 3800"):
        AudioRing(WINDOW_SAMPLES - 1)


def test_memory_is_fixed() -> None:
    ring = AudioRing(4000)
    buffer = ring._samples
    for start in range(0, 64_000, 640):
        ring.write(Block(start, np.ones(640, np.float32)))
    assert ring._samples is buffer and buffer.nbytes == 16_000


def test_the_reader_waits_for_samples() -> None:
    ring = AudioRing(8000)
    assert ring.wait_for(0, 0)
    assert not ring.wait_for(1, 0)
    waiting, seen = Event(), []

    def read() -> None:
        waiting.set()
        seen.append(ring.wait_for(1280, 60) and ring.window(1280)[-1])

    reader = Thread(target=read)
    reader.start()
    waiting.wait()
    ring.write(Block(0, np.zeros(640, np.float32)))
    ring.write(Block(640, np.full(640, 0.25, np.float32)))
    reader.join(60)
    assert seen == [0.25]
