"""Durations and counts as values."""

from __future__ import annotations

import pytest

from realtime.stage_timer import BUCKETS_MS, StageTimer


def test_percentiles_are_of_the_recent_values() -> None:
    timer = StageTimer()
    for value in [1000.0] * 100 + [float(v) for v in range(500)]:
        timer.add("encoder", value)
    assert timer.percentiles() == {"encoder": {"p50": 250.0, "p95": 475.0, "p99": 495.0}}


def test_histograms_are_of_all_values() -> None:
    timer = StageTimer()
    for value in (0.1, 0.5, 39.0, 41.0, 5000.0):
        timer.add("frame", value)
    counts, total = timer.histograms()["frame"]
    assert sum(counts) == 5 and total == pytest.approx(5080.6)
    assert counts[0] == 2 and counts[-1] == 1
    assert counts[BUCKETS_MS.index(40.0)] == counts[BUCKETS_MS.index(60.0)] == 1


def test_a_servers_totals_include_every_session() -> None:
    totals = StageTimer()
    first, second = StageTimer(totals), StageTimer(totals)
    first.count("late")
    second.count("late", 2)
    with first.measure("face"):
        pass
    second.add("face", 1.0)
    assert (first.counted("late"), second.counted("late"), totals.counted("late")) == (1, 2, 3)
    assert sum(totals.histograms()["face"][0]) == 2


def test_what_raised_is_not_measured() -> None:
    timer = StageTimer()
    with pytest.raises(ZeroDivisionError), timer.measure("face"):
        1 / 0  # noqa: B018
    assert timer.percentiles() == {} and timer.rate("face") == 0


def test_a_rate_is_taken_over_the_last_events(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("realtime.stage_timer.perf_counter", lambda: now)
    timer = StageTimer()
    for _ in range(200):
        now += 0.04
        timer.add("frame", 10.0)
    assert timer.rate("frame") == 25.0
    now += 2
    assert timer.rate("frame") == 0.0
