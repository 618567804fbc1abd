"""What /metrics says, from made-up sessions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from realtime.frames import FRAME_COUNTS, FrameCount
from realtime.stage_timer import BUCKETS_MS, StageTimer
from realtime.web.metrics import metrics_text


def session(viewers: int, drift_seconds: float) -> Any:
    state = SimpleNamespace(drift_seconds=drift_seconds)
    return SimpleNamespace(viewers=viewers, live=SimpleNamespace(input=SimpleNamespace(state=state)))


def values(totals: StageTimer, *sessions: Any) -> dict[str, float]:
    """{name, with its labels: value}."""
    families = text_string_to_metric_families(metrics_text(totals, lambda: sessions).decode())
    return {
        " ".join([sample.name, *(sample.labels[key] for key in sorted(sample.labels, reverse=True))]): sample.value
        for f in families
        for sample in f.samples
    }


def test_every_count_of_frames_is_there_and_totals_are_sums() -> None:
    totals = StageTimer()
    totals.count(FrameCount.DROPPED, 3)
    found = values(totals, session(2, -0.004), session(5, 0.001))
    assert {f"miravox_frames_{name}_total" for name in FRAME_COUNTS} <= set(found)
    assert found["miravox_frames_dropped_total"] == 3 and found["miravox_frames_late_total"] == 0
    assert found["miravox_sessions"] == 2 and found["miravox_viewers"] == 7
    assert found["miravox_clock_drift_seconds"] == 0.004, "the largest, whatever its sign"


def test_stages_are_cumulative_histograms_in_seconds() -> None:
    totals = StageTimer()
    for milliseconds in (0.4, 7.0, 10_000.0):
        totals.add("face", milliseconds)
    found = values(totals)
    bounds = [found[f"miravox_stage_seconds_bucket face {bound / 1000}"] for bound in BUCKETS_MS]
    assert bounds == sorted(bounds) and bounds[0] == 1 and bounds[-1] == 2
    assert found["miravox_stage_seconds_bucket face +Inf"] == found["miravox_stage_seconds_count face"] == 3
    assert abs(found["miravox_stage_seconds_sum face"] - 10.0074) < 1e-6


def test_a_server_without_sessions_has_no_drift() -> None:
    found = values(StageTimer())
    assert found["miravox_sessions"] == found["miravox_viewers"] == found["miravox_clock_drift_seconds"] == 0
