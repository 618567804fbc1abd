"""The sample clock keeps real time, whatever a live source sends, and loses as little of its speech as can be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime.audio.block import BLOCK_SAMPLES
from realtime.contract import SAMPLE_RATE
from tests.audio.arrivals import Arriving, Heard, hear, in_order, noise, pieces_of

PACE_SECONDS = 0.06  # within any ten seconds
MOST_WAIT_SECONDS = 0.25  # and the length of a piece
CYCLE = 1 << 32


def on_time(seconds: float, piece_ms: float = 20) -> NDArray[np.float64]:
    """When pieces of a source come that is heard at once."""
    return (np.arange(round(1000 * seconds / piece_ms)) + 1) * piece_ms / 1000


def lost(heard: Heard, seconds: float) -> float:
    """Share of so much `noise` that was not passed on."""
    return 1 - np.count_nonzero(heard.speech) / (seconds * SAMPLE_RATE)


def buffers(heard: Heard) -> NDArray[np.float64]:
    """How long speech waited, in milliseconds, at each arrival."""
    return np.array([1000 * state.buffer_seconds for state in heard.states])


# Even sources


@pytest.mark.parametrize("seed", range(3))
def test_jitter_to_both_sides_of_5_ms_adds_nothing(seed: int) -> None:
    times = in_order(0.1 + on_time(20) + np.random.default_rng(seed).normal(0, 0.005, 1000))
    heard = hear(pieces_of(times, BLOCK_SAMPLES))
    assert np.median(buffers(heard)) < 1 and lost(heard, 20) == 0


@pytest.mark.parametrize("jitter_ms", [0, 2, 5])
def test_a_well_behaved_microphone_is_passed_on_as_it_comes(jitter_ms: float) -> None:
    """Half of its blocks are written within 0.1 ms of their arrival, and none waits for longer than 5 ms."""
    times = on_time(20) + np.random.default_rng(0).uniform(0, 1, 1000) * jitter_ms / 1000
    heard = hear(pieces_of(times, BLOCK_SAMPLES))
    spoken = np.flatnonzero(heard.speech)[0] + BLOCK_SAMPLES * np.arange(1, 1001)
    written = heard.times[np.searchsorted(heard.ends, spoken / SAMPLE_RATE - 1e-9)]
    waits = (written - times)[50:]  # after the first second
    assert np.median(waits) < 1e-4 and waits.max() < 0.005
    assert lost(heard, 20) == 0 and heard.off_pace < 0.05 and buffers(heard).max() < 1


@pytest.mark.parametrize("piece_ms", [5, 7, 10, 21.25, 40, 60, 85, 100, 120, 250, 500])
def test_pieces_of_any_length_are_heard_whole_and_in_real_time(piece_ms: float) -> None:
    """Pieces of 100 and 120 ms made the clock run 1.4 and 1.7 times too fast. LiveKit sends such."""
    heard = hear(pieces_of(on_time(24, piece_ms), round(16 * piece_ms)))
    assert heard.off_pace < PACE_SECONDS
    assert np.count_nonzero(heard.speech) == pytest.approx(round(16 * piece_ms) * len(on_time(24, piece_ms)), abs=700)
    assert heard.states[-1].counts.discarded == 0, "but it may be played 0.5 % slower for a while"
    assert buffers(heard)[-2] <= max(20, piece_ms), "what the piece needs, and not more"


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_pieces_of_odd_sizes_are_heard_whole(rate: int) -> None:
    """A stream that comes in pieces of 1 to 8191 samples, as a network's reads cut it."""
    sizes = np.random.default_rng(1).choice([1, 777, 1025, 4095, 6000, 8191], 400)
    speech = np.full(sizes.sum(), 0.25, np.float32)
    ends = np.cumsum(sizes)
    pieces = [
        Arriving(end / rate, speech[end - size : end], int(end - size)) for end, size in zip(ends, sizes, strict=True)
    ]
    heard = hear(pieces, rate)
    assert heard.off_pace < PACE_SECONDS
    assert np.count_nonzero(heard.speech > 0.2) > ends[-1] * SAMPLE_RATE / rate * 0.995 - 400


def test_faint_speech_and_speech_after_a_click_are_not_taken_for_pauses() -> None:
    """A whisper at -54 dB, and speech 34 dB down after a click at full scale, while the delay could be shorter."""
    times = on_time(10)
    times[100:200] += 0.06 * (np.arange(100) % 2)  # the delay grows, and may shrink again
    whisper = noise(10 * SAMPLE_RATE) * 0.004
    quiet = noise(10 * SAMPLE_RATE) * 0.04
    quiet[:BLOCK_SAMPLES] = 1
    for speech in (whisper, quiet):
        heard = hear(pieces_of(in_order(times), BLOCK_SAMPLES, speech=speech))
        assert buffers(heard).max() > 15
        assert lost(heard, 10) < 0.01, "0.5 % faster, but nothing left out"


# Lateness


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("piece_ms", [10, 20, 60])
def test_jitter_loses_at_most_one_percent(piece_ms: float, seed: int) -> None:
    """Of half-normal jitter with a sigma of 30 ms, in order: it lost 16 % when silence took the place after 60 ms."""
    times = on_time(20, piece_ms)
    times = in_order(times + np.abs(np.random.default_rng(seed).normal(0, 0.03, len(times))))
    heard = hear(pieces_of(times, round(16 * piece_ms)))
    assert lost(heard, 20) <= 0.01
    assert heard.off_pace < PACE_SECONDS
    assert np.median(buffers(heard)) < 75 + piece_ms, "no more than the jitter needs"


@pytest.mark.parametrize("seed", range(3))
def test_packets_that_overtake_each_other_are_put_in_order(seed: int) -> None:
    """Each packet has a delay of its own, sigma 30 ms: those that were overtaken were dropped."""
    times = on_time(20) + np.abs(np.random.default_rng(seed).normal(0, 0.03, 1000))
    speech = np.repeat(np.arange(1, 1001) / 2000, BLOCK_SAMPLES).astype(np.float32)
    heard = hear(pieces_of(times, BLOCK_SAMPLES, stamped=True, speech=speech))
    spoken = heard.speech[heard.speech > 0]
    assert (np.diff(spoken) > -2e-4).mean() > 0.995 and lost(heard, 20) <= 0.015
    assert heard.off_pace < PACE_SECONDS


@pytest.mark.parametrize("burst_ms", [40, 60, 80, 100, 120, 200])
def test_bursts_are_spread_out(burst_ms: int) -> None:
    """Packets that come several at a time: blocks leave evenly, so that no frame is made in a hurry."""
    heard = hear(pieces_of(np.ceil(on_time(20) * 1000 / burst_ms - 1e-9) * burst_ms / 1000, BLOCK_SAMPLES))
    assert lost(heard, 20) < 0.001 and heard.off_pace < PACE_SECONDS
    apart = np.diff(heard.times[(heard.times > 5) & (heard.times < 20)])
    assert apart.max() < 0.04 and (apart > 0.009).mean() > 0.6, "a frame has 40 ms"
    assert np.median(buffers(heard)) < burst_ms


def test_a_buffer_that_is_needed_no_more_shrinks_in_a_pause_within_seconds() -> None:
    rng = np.random.default_rng(0)
    times = on_time(30)
    times[:500] += np.abs(rng.normal(0, 0.04, 500))
    speech = noise(30 * SAMPLE_RATE)
    speech[16 * SAMPLE_RATE : 17 * SAMPLE_RATE] *= 0.01
    heard = hear(pieces_of(in_order(times), BLOCK_SAMPLES, speech=speech))
    waits = buffers(heard)
    assert np.median(waits[300:500]) > 30 and waits[17 * 50 :].max() < 20
    assert heard.off_pace < PACE_SECONDS


def test_a_buffer_shrinks_in_running_speech_without_a_cut() -> None:
    """By 0.5 % of speed: 20 ms in four seconds, and nothing is left out."""
    times = on_time(40)
    times[50:150] += 0.06 * (np.arange(100) % 2)
    tone = (0.5 * np.sin(2 * np.pi * 400 * np.arange(40 * SAMPLE_RATE) / SAMPLE_RATE)).astype(np.float32)
    heard = hear(pieces_of(in_order(times), BLOCK_SAMPLES, speech=tone))
    waits = buffers(heard)
    assert waits[150:200].max() > 15 and waits[-300:].max() < 15
    assert heard.states[-1].counts.discarded == heard.states[300].counts.discarded
    assert np.abs(np.diff(heard.speech[6 * SAMPLE_RATE : 39 * SAMPLE_RATE])).max() < 0.15


def test_one_stall_does_not_add_to_the_delay() -> None:
    times = on_time(20)
    times[(times > 5) & (times <= 5.4)] = 5.4
    waits = buffers(hear(pieces_of(times, BLOCK_SAMPLES)))
    assert waits.max() < 1


# Gaps


@pytest.mark.parametrize("stamped", [True, False])
def test_a_gap_counts_once(stamped: bool) -> None:
    """A second of speech, half a second lost, again and again: silence was inserted, and the gap was filled as well."""
    times, stamps = on_time(30), 960 * np.arange(1500)
    there = (times - 0.02) % 1.5 < 0.99
    speech = noise(480_000)
    pieces = [
        Arriving(times[k], speech[320 * k : 320 * (k + 1)], int(stamps[k]) // 3 if stamped else None)
        for k in np.flatnonzero(there)
    ]
    heard = hear(pieces)
    assert heard.off_pace < PACE_SECONDS
    assert np.count_nonzero(heard.speech) >= 0.999 * 320 * there.sum()


@pytest.mark.parametrize("missing", [1, 2, 5, 20])
def test_lost_packets_leave_the_rest_where_it_was(missing: int) -> None:
    """Silence is exactly as long as what was lost, so that the delay stays."""
    heard = hear(
        [piece for k, piece in enumerate(pieces_of(on_time(5), 320, stamped=True)) if not 100 <= k < 100 + missing]
    )
    first = int(np.flatnonzero(heard.speech)[0])
    gap = first + 100 * 320
    assert not heard.speech[gap : gap + 320 * missing].any()
    np.testing.assert_array_equal(
        heard.speech[gap + 320 * missing :][:6400], noise(80_000)[(100 + missing) * 320 :][:6400]
    )


def test_a_source_that_stops_for_ten_minutes_goes_on() -> None:
    """Silence keeps the clock running, and the first word after it is whole and not delayed."""
    times = np.concatenate([on_time(5), 605 + on_time(5)])
    heard = hear(pieces_of(times, BLOCK_SAMPLES))
    assert heard.off_pace < PACE_SECONDS and lost(heard, 10) == 0
    assert len(heard.speech) == pytest.approx(611 * SAMPLE_RATE, abs=0.06 * SAMPLE_RATE)
    assert buffers(heard).max() < 15 and heard.states[260].counts.discarded == 0


# Time stamps that lie


@pytest.mark.parametrize(
    "ticks", [48_000, 960 * 45, 640, 160, 0, -320, -48_000, CYCLE // 2], ids=lambda ticks: f"{ticks} a packet"
)
def test_time_stamps_never_move_the_clock(ticks: int) -> None:
    """A second a packet made the clock run 45 times too fast. All of the speech is heard."""
    pieces = [Arriving(p.seconds, p.samples, ticks * k % CYCLE) for k, p in enumerate(pieces_of(on_time(20), 320))]
    heard = hear(pieces)
    assert heard.off_pace < PACE_SECONDS and lost(heard, 20) == 0
    assert heard.states[-2].buffer_seconds < 0.005


def test_time_stamps_that_jump_leave_speech_alone() -> None:
    rng = np.random.default_rng(0)
    stamps = 320 * np.arange(1000) + 1000 * np.repeat(rng.integers(-(2**20), 2**20, 20), 50)
    heard = hear(
        [
            Arriving(p.seconds, p.samples, int(t) % CYCLE)
            for p, t in zip(pieces_of(on_time(20), 320), stamps, strict=True)
        ]
    )
    assert heard.off_pace < PACE_SECONDS and lost(heard, 20) == 0


def test_nan_is_silence() -> None:
    pieces = pieces_of(on_time(11), 320)
    pieces[100].samples[:] = np.nan
    pieces[200].samples[7] = np.inf
    heard = hear(pieces)
    assert np.isfinite(heard.speech).all() and heard.off_pace < PACE_SECONDS
    assert heard.states[-1].counts.bad == 321


# Any arrivals


STAMPS = ("none", "true", "fast", "random", "still")
KINDS = ("even", "jitter", "overtaking", "bursts", "loss", "stall", "stop", "fast", "slow")


@dataclass(frozen=True)
class Plan:
    """A source that behaves in another way every few seconds."""

    piece: int  # samples
    stamps: str
    seed: int
    phases: tuple[tuple[str, float, float], ...]  # what it does, for how many seconds, how much: 0 to 1


plans = st.builds(
    Plan,
    st.sampled_from([80, 160, 320, 341, 640, 1600, 1920, 4000, 8000]),
    st.sampled_from(STAMPS),
    st.integers(0, 1000),
    st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0.5, 6), st.floats(0, 1)), min_size=4, max_size=10).map(tuple),
)


def arriving(plan: Plan) -> list[Arriving]:
    """Its pieces. Every third half of a second is a pause."""
    rng, piece, now, taken = np.random.default_rng(plan.seed), plan.piece, 0.0, 0
    pieces: list[Arriving] = []
    for kind, seconds, much in plan.phases:
        count = max(2, round(seconds * SAMPLE_RATE / piece))
        times = now + np.arange(1, count + 1) * piece / SAMPLE_RATE
        coming = np.ones(count, bool)
        if kind in ("jitter", "overtaking"):
            times += np.abs(rng.normal(0, 0.1 * much, count))
            times = times if kind == "overtaking" else in_order(times)
        elif kind == "bursts":
            every = 0.03 + 0.6 * much
            times = np.ceil(times / every) * every
        elif kind == "loss":
            coming = np.repeat(rng.random(count // 5 + 1) > much, 5)[:count]
        elif kind == "stall":
            times = np.maximum(times, now + 3 * much)
        elif kind == "stop":
            times += 12 * much
        elif kind == "fast":
            times = now + (times - now) / (1 + 45 * much**3)
        elif kind == "slow":
            times = now + (times - now) * (1 + 0.5 * much)
        for k in np.flatnonzero(coming):
            true = (taken + k) * piece
            stamp = {"none": None, "true": true, "fast": 45 * true, "random": rng.integers(CYCLE), "still": 7}[
                plan.stamps
            ]
            level = 0.3 if true // 8000 % 3 else 0.0003
            samples = np.full(piece, level, np.float32)
            pieces.append(Arriving(float(times[k]), samples, None if stamp is None else int(stamp) % CYCLE))
        taken += count
        now = float(times.max())
    return pieces or [Arriving(1.0, np.zeros(piece, np.float32))]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(plans, st.sampled_from([0.0, 0.001, 0.003]))
def test_whatever_arrives_the_clock_keeps_real_time(plan: Plan, late: float) -> None:
    """`hear` also fails if blocks overlap or leave a gap."""
    pieces = arriving(plan)
    heard = hear(pieces, seconds_after=3.0, late=late)
    assert heard.off_pace <= PACE_SECONDS
    longest = max(len(piece.samples) for piece in pieces) / SAMPLE_RATE
    assert heard.waited / SAMPLE_RATE <= MOST_WAIT_SECONDS + 2 * longest + 0.05, "its own samples, and those overdue"
    assert not heard.speech[-SAMPLE_RATE:].any(), "what waits is said, and nothing more"


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(plans)
def test_whatever_came_the_low_delay_comes_back(plan: Plan) -> None:
    """When the source was even for fifteen seconds, with pauses, its speech waits for less than a block."""
    pieces = arriving(plan)
    begin = max(piece.seconds for piece in pieces)
    speech = noise(15 * SAMPLE_RATE)
    speech[np.arange(len(speech)) % SAMPLE_RATE > 0.6 * SAMPLE_RATE] *= 1e-3
    heard = hear([*pieces, *pieces_of(begin + on_time(15), BLOCK_SAMPLES, speech=speech)])
    assert heard.states[-2].buffer_seconds < BLOCK_SAMPLES / SAMPLE_RATE
    assert heard.off_pace <= PACE_SECONDS
