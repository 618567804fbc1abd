"""The sample clock, on a clock of the test's own: no test here waits."""

from __future__ import annotations

from threading import Event

import numpy as np
import pytest

from realtime.arrays import FloatArray
from realtime.audio.block import BLOCK_SAMPLES, Block
from realtime.audio.input import AudioInput
from realtime.audio.playback import PlaybackFinished
from realtime.contract import SAMPLE_RATE
from tests.audio.input_bench import BLOCK_SECONDS, Bench, ramp

# Queued: recordings and agents


def test_queued_speech_is_released_in_real_time_and_none_of_it_is_lost() -> None:
    bench = Bench()
    feed = bench.input.attach(live=False)
    feed.push(ramp(10_000))
    bench.run(0.3)
    assert len(bench.speech) == pytest.approx(0.3 * SAMPLE_RATE, abs=BLOCK_SAMPLES)
    bench.run(0.7)
    speech = bench.speech
    first = int(np.flatnonzero(speech)[0])
    np.testing.assert_array_equal(speech[first : first + 10_000], ramp(10_000))
    assert not speech[first + 10_000 :].any(), "silence keeps the clock running"
    assert bench.input.state.counts.silence == len(speech) - 10_000


def test_blocks_are_20_ms_and_the_next_wake_is_when_one_is_due() -> None:
    bench = Bench()
    bench.input.attach(live=False)
    wake = bench.advance()
    assert wake == pytest.approx(bench.now + BLOCK_SECONDS)
    bench.advance(BLOCK_SECONDS)
    assert [len(b.samples) for b in bench.blocks if len(b.samples)] == [BLOCK_SAMPLES]


def test_small_pushes_are_not_torn_apart() -> None:
    """An agent that pushes 15 ms at a time, in real time: no silence in between."""
    bench = Bench()
    feed = bench.input.attach(live=False)
    feed.push(ramp(640))
    for k in range(60):
        feed.push(ramp(240, 640 + 240 * k))
        bench.run(0.015)
    feed.end_segment()
    bench.run(0.2)
    speech = bench.speech
    first = int(np.flatnonzero(speech)[0])
    np.testing.assert_array_equal(speech[first : first + 640 + 60 * 240], ramp(640 + 60 * 240))


def test_a_rest_shorter_than_a_block_is_said_when_nothing_follows() -> None:
    bench = Bench()
    feed = bench.input.attach(live=False)
    feed.push(ramp(100))
    bench.run(0.2)
    assert np.count_nonzero(bench.speech) == 100


def test_other_rates_are_resampled_in_a_stream() -> None:
    bench = Bench()
    feed = bench.input.attach(live=False)
    tone = np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000).astype(np.float32) * 0.5
    for start in range(0, 24_000, 777):
        feed.push(tone[start : start + 777], 24_000)
    bench.run(1.3)
    speech = bench.speech[np.flatnonzero(bench.speech)[0] :][: SAMPLE_RATE - 200]
    spectrum = np.abs(np.fft.rfft(speech * np.hanning(len(speech))))
    peak = int(spectrum.argmax()) * SAMPLE_RATE / len(speech)
    assert peak == pytest.approx(440, abs=2)
    spectrum[int(380 * len(speech) / SAMPLE_RATE) : int(500 * len(speech) / SAMPLE_RATE)] = 0
    assert spectrum.max() < 0.002 * len(speech), "no seam between the pieces"


def test_an_utterance_of_another_rate_keeps_its_end() -> None:
    """A resampler holds back the last few samples until it is told that nothing follows."""
    bench = Bench()
    feed = bench.input.attach(live=False)
    for _ in range(2):
        feed.push(np.full(24_000, 0.25, np.float32), 24_000)
        feed.end_segment()
    bench.run(2.5)
    bench.input.played(len(bench.speech))
    assert bench.finished == [PlaybackFinished(1.0, interrupted=False)] * 2


def test_playback_is_reported_when_the_last_sample_was_played() -> None:
    bench = Bench()
    feed = bench.input.attach(live=False)
    feed.push(ramp(3200))
    feed.end_segment()
    feed.push(ramp(1600))
    feed.end_segment()
    bench.run(0.5)
    assert not bench.finished, "released is not played"
    speech = bench.speech
    first = int(np.flatnonzero(speech)[0])
    bench.input.played(first + 3199)
    assert not bench.finished
    bench.input.played(first + 3200)
    assert bench.finished == [PlaybackFinished(0.2, interrupted=False)]
    bench.input.played(first + 4800)
    assert bench.finished[1:] == [PlaybackFinished(0.1, interrupted=False)]


def test_clear_drops_what_is_queued_and_starts_a_new_epoch() -> None:
    bench = Bench()
    feed = bench.input.attach(live=False)
    feed.push(np.ones(SAMPLE_RATE, np.float32))
    bench.run(0.1)
    first = int(np.flatnonzero(bench.speech)[0])
    bench.input.played(first + 800)
    epoch, mark = bench.input.epoch, len(bench.speech)
    feed.clear()
    assert bench.input.epoch == epoch + 1
    assert bench.finished == [PlaybackFinished(0.05, interrupted=True)]
    bench.advance()
    assert bench.blocks[-1].epoch == epoch + 1, "told at once, not with the next block"
    bench.run(0.3)
    assert not bench.since(mark).any()
    feed.push(ramp(320))
    bench.run(0.1)
    assert np.count_nonzero(bench.since(mark)) == 320 and bench.blocks[-1].epoch == epoch + 1


def test_clear_without_speech_reports_nothing() -> None:
    bench = Bench()
    feed = bench.input.attach(live=False)
    bench.run(0.1)
    feed.clear()
    assert not bench.finished


def test_a_feed_is_deaf_after_another_was_attached() -> None:
    bench = Bench()
    old = bench.input.attach(live=False)
    old.push(np.ones(SAMPLE_RATE, np.float32))
    bench.run(0.1)
    new = bench.input.attach(live=False)
    assert bench.finished == [PlaybackFinished(0.0, interrupted=True)]
    bench.advance()
    mark = len(bench.speech)
    old.push(np.ones(320, np.float32))
    old.clear()
    new.push(ramp(320))
    bench.run(0.2)
    assert np.count_nonzero(bench.since(mark)) == 320 and bench.since(mark).max() < 0.01
    assert new.attached and not old.attached


def test_a_feed_that_runs_low_is_asked_for_more() -> None:
    bench = Bench()
    asked = []

    def push_more() -> None:
        asked.append(bench.now)
        feed.push(ramp(8000))

    feed = bench.input.attach(live=False, on_low=push_more)
    bench.run(3)
    speech = bench.speech
    first = int(np.flatnonzero(speech)[0])
    assert np.count_nonzero(speech[first:]) == len(speech) - first, "without a gap"
    assert 4 <= len(asked) <= 9, "not more often than needed"


def test_a_machine_that_slept_does_not_say_it_all_at_once() -> None:
    bench = Bench()
    feed = bench.input.attach(live=False)
    feed.push(ramp(5 * SAMPLE_RATE))
    bench.run(0.1)
    before = len(bench.speech)
    bench.advance(30)
    assert len(bench.speech) - before <= 2 * BLOCK_SAMPLES
    bench.run(0.2)
    speech = bench.speech[np.flatnonzero(bench.speech)[0] :]
    np.testing.assert_array_equal(speech, ramp(len(speech)))


# Live: microphones


def say(bench: Bench, feed: object, blocks: int, start: int = 0, late: float = 0.0) -> None:
    """A microphone in real time: a block every 20 ms."""
    for k in range(blocks):
        bench.run(BLOCK_SECONDS + (late if k == 0 else 0.0))
        feed.push(ramp(BLOCK_SAMPLES, start + BLOCK_SAMPLES * k))  # type: ignore[attr-defined]
        bench.advance()


def test_live_samples_are_passed_on_at_once() -> None:
    bench = Bench(phase=200)
    feed = bench.input.attach(live=True)
    say(bench, feed, 50)
    speech = bench.speech
    first = int(np.flatnonzero(speech)[0])
    np.testing.assert_array_equal(speech[first:], ramp(50 * BLOCK_SAMPLES))
    assert (first + BLOCK_SAMPLES) % BLOCK_SAMPLES == 200, "blocks end where a window does"
    assert bench.input.state.counts.discarded == 0 and not bench.input.state.waiting


def test_resampled_blocks_end_where_a_window_does() -> None:
    """A resampler holds back a few samples at first: the blocks end at the phase all the same, and stamps stay true."""
    bench = Bench(phase=200)
    feed = bench.input.attach(live=True)
    speech = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    stamps = []
    for k in range(50):
        bench.run(BLOCK_SECONDS)
        feed.push(speech[960 * k : 960 * (k + 1)], 48_000, source_time=960 * k)
        bench.advance()
        assert len(bench.speech) % BLOCK_SAMPLES == 200
        assert bench.input.state.arrival.stamp is not None
        stamps.append(bench.input.state.arrival.stamp)
    offsets = {sample - time // 3 for time, sample in stamps}
    assert len(offsets) == 1, "every stamp names its own sample"


def test_the_phase_is_found_again_in_a_quiet_moment() -> None:
    """Pieces whose ends lie a little after those of the blocks, as drift correction may leave them."""
    bench = Bench(phase=200)
    feed = bench.input.attach(live=True)
    say(bench, feed, 20)
    feed.push(np.full(37, 0.4, np.float32))
    loud = np.full(BLOCK_SAMPLES, 0.4, np.float32)
    quiet = np.full(BLOCK_SAMPLES, 0.001, np.float32)

    def waiting_after(samples: FloatArray) -> int:
        bench.run(BLOCK_SECONDS)
        feed.push(samples)
        bench.advance()
        assert len(bench.speech) % BLOCK_SAMPLES == 200, "blocks end where windows do all the same"
        return bench.input._live._queue.count

    assert [waiting_after(loud), waiting_after(loud)] == [37, 37], "not within a word"
    assert waiting_after(quiet) == 0
    assert np.count_nonzero(bench.speech == np.float32(0.4)) == 37 + 2 * BLOCK_SAMPLES


def test_46_ms_without_samples_become_silence() -> None:
    """A block of 20 ms and 26 ms of patience: with more the clock could not stay within 60 ms of real time."""
    bench = Bench()
    feed = bench.input.attach(live=True)
    say(bench, feed, 10)
    mark = len(bench.speech)
    bench.run(0.045)
    assert len(bench.speech) == mark, "jitter is not silence"
    bench.run(0.955)
    assert len(bench.speech) - mark == pytest.approx(SAMPLE_RATE, abs=3 * BLOCK_SAMPLES)
    assert not bench.since(mark).any() and bench.input.state.waiting


def test_a_pause_discards_nothing_that_is_on_time() -> None:
    """A microphone that was muted for two seconds: the first word after it is whole."""
    bench = Bench(phase=200)
    feed = bench.input.attach(live=True)
    say(bench, feed, 20)
    bench.run(2)
    mark = len(bench.speech)
    say(bench, feed, 50)
    assert bench.input.state.counts.discarded == 0
    spoken = bench.since(mark)
    np.testing.assert_array_equal(spoken[spoken > 0], ramp(50 * BLOCK_SAMPLES))


@pytest.mark.parametrize("stall", [0.1, 0.2, 0.5])
def test_a_burst_of_late_samples_does_not_add_to_the_delay(stall: float) -> None:
    bench = Bench()
    feed = bench.input.attach(live=True)
    say(bench, feed, 50)
    ahead = len(bench.speech) - bench.now * SAMPLE_RATE
    bench.run(stall)
    missed = round(stall / BLOCK_SECONDS)
    for k in range(missed):
        feed.push(ramp(BLOCK_SAMPLES, k))
    bench.advance()
    say(bench, feed, 50)
    grown = len(bench.speech) - bench.now * SAMPLE_RATE - ahead
    assert abs(grown) <= 2 * BLOCK_SAMPLES
    assert bench.input.state.counts.discarded >= missed * BLOCK_SAMPLES - 960 - 2 * BLOCK_SAMPLES


def test_many_hiccups_do_not_add_up() -> None:
    bench = Bench(phase=200)
    feed = bench.input.attach(live=True)
    say(bench, feed, 50)
    ahead = len(bench.speech) - bench.now * SAMPLE_RATE
    for _ in range(20):
        bench.run(0.12)
        for _ in range(6):
            feed.push(np.ones(BLOCK_SAMPLES, np.float32))
        bench.advance()
        say(bench, feed, 25)
    assert abs(len(bench.speech) - bench.now * SAMPLE_RATE - ahead) <= 3 * BLOCK_SAMPLES


@pytest.mark.parametrize("parts_per_million", [400, -400])
def test_a_sound_cards_drift_is_corrected(parts_per_million: int) -> None:
    """A card that runs 0.04 % fast or slow: after four minutes it would be 96 ms off; it stays within 25."""
    bench = Bench()
    feed = bench.input.attach(live=True)
    period = BLOCK_SECONDS / (1 + parts_per_million / 1e6)
    tone = np.sin(2 * np.pi * 400 * np.arange(BLOCK_SAMPLES) / SAMPLE_RATE).astype(np.float32) * 0.5
    worst = 0.0
    for _ in range(round(240 / period)):
        bench.advance(period)
        feed.push(tone)
        bench.advance()
        worst = max(worst, abs(bench.input.state.drift_seconds))
    assert 0.018 < worst < 0.025
    late = len(bench.speech) / SAMPLE_RATE - (bench.now - 100.0)
    assert abs(late) < 0.045
    assert bench.input.state.counts.discarded == 0
    assert np.abs(np.diff(bench.speech[SAMPLE_RATE:])).max() < 0.15, "no click: a 400 Hz tone moves 0.08 a sample"


def test_jitter_is_no_drift() -> None:
    bench = Bench()
    feed = bench.input.attach(live=True)
    rng = np.random.default_rng(0)
    start = bench.now
    for k in range(3000):
        arrival = start + (k + 1) * BLOCK_SECONDS + float(rng.uniform(0, 0.03))
        bench.advance(max(0.0, arrival - bench.now))
        feed.push(ramp(BLOCK_SAMPLES, BLOCK_SAMPLES * k))
        bench.advance()
    bench.run(0.05)  # what waits, since others came later
    speech = bench.speech
    np.testing.assert_array_equal(speech[speech > 0], np.clip(ramp(3000 * BLOCK_SAMPLES), -1, 1))


def test_bad_samples_become_silence_and_are_counted() -> None:
    bench = Bench()
    feed = bench.input.attach(live=True)
    samples = np.full(BLOCK_SAMPLES, 3.0, np.float32)
    samples[[3, 5, 7]] = np.nan, np.inf, -np.inf
    feed.push(samples)
    bench.advance(BLOCK_SECONDS)
    speech = bench.speech[-BLOCK_SAMPLES:]
    assert bench.input.state.counts.bad == 3 and not speech[[3, 5, 7]].any() and speech.max() == 1


def test_the_arrival_tells_which_sample_a_stamp_is() -> None:
    bench = Bench(phase=200)
    feed = bench.input.attach(live=True)
    bench.advance(1.0)
    feed.push(ramp(BLOCK_SAMPLES), source_time=7_000)
    bench.advance()
    arrival = bench.input.state.arrival
    assert arrival.stamp == (7_000, arrival.sample) and bench.speech[arrival.sample] == ramp(1)[0]
    assert arrival.seconds == pytest.approx(bench.now - BLOCK_SECONDS)


def test_switching_between_live_and_queued_keeps_the_clock() -> None:
    bench = Bench(phase=200)
    live = bench.input.attach(live=True)
    say(bench, live, 30)
    queued = bench.input.attach(live=False)
    queued.push(np.full(8000, 0.5, np.float32))
    bench.run(0.7)
    live = bench.input.attach(live=True)
    say(bench, live, 30)
    assert len(bench.speech) == pytest.approx((bench.now - 100.0) * SAMPLE_RATE, abs=4 * BLOCK_SAMPLES)
    assert np.count_nonzero(bench.speech == 0.5) == 8000


def test_switching_again_and_again_does_not_move_the_clock() -> None:
    """Each source that was attached began the clock anew, up to 40 ms later: a viewer that switches could stop it."""
    bench = Bench(phase=200, turn=0.0133)
    bench.run(1)
    before = len(bench.speech) / SAMPLE_RATE - bench.now
    for k in range(60):
        bench.run(0.1 + 0.001 * k)
        feed = bench.input.attach(live=k % 2 == 0)
        feed.push(ramp(BLOCK_SAMPLES * 3))
        bench.advance()
        assert abs(len(bench.speech) / SAMPLE_RATE - bench.now - before) < 0.06


def test_what_waits_of_a_live_source_is_not_said_after_it_was_cut_off() -> None:
    bench = Bench(phase=200)
    feed = bench.input.attach(live=True)
    feed.push(np.full(1600, 0.5, np.float32))
    bench.advance()
    said = np.count_nonzero(bench.speech)
    feed.clear()
    bench.run(0.3)
    assert 0 < said < 1600 and np.count_nonzero(bench.speech) == said


@pytest.mark.parametrize("turn", [0.0, 0.0133, 0.039])
def test_queued_speech_keeps_to_its_turn(turn: float) -> None:
    """Whenever a source is attached, after a live one and after a sleep, sample 640 k is due at the turn."""
    bench = Bench(phase=200, turn=turn)

    def ends() -> list[float]:
        """When, in 40 ms of the clock, the frame began that each of the next blocks belongs to."""
        found = []
        for _ in range(10):
            bench.now = bench.advance()
            bench.advance()
            found.append((bench.now - bench.input._samples.end_sample / SAMPLE_RATE - turn + 0.02) % 0.04 - 0.02)
        return found

    bench.run(0.0071)
    bench.input.attach(live=False).push(ramp(50_000))
    bench.advance()
    assert ends() == pytest.approx([0] * 10, abs=1e-5)
    say(bench, bench.input.attach(live=True), 30)
    bench.run(0.0123)
    bench.input.attach(live=False).push(ramp(50_000))
    bench.advance()
    assert ends() == pytest.approx([0] * 10, abs=1e-5)
    bench.advance(5.0123)  # this machine slept
    assert ends() == pytest.approx([0] * 10, abs=1e-5)


def test_the_thread_writes_without_being_asked() -> None:
    """The only test on the real clock: waits for as many blocks as it needs."""
    enough = Event()
    blocks: list[Block] = []

    def write(block: Block) -> None:
        blocks.append(block)
        if block.start >= 3200:
            enough.set()

    audio_input = AudioInput(write)
    audio_input.start()
    feed = audio_input.attach(live=False)
    feed.push(ramp(1600))
    assert enough.wait(20)
    audio_input.stop()
    count = len(blocks)
    assert np.count_nonzero(np.concatenate([b.samples for b in blocks])) == 1600
    assert len(blocks) == count
