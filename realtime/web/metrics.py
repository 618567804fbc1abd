"""What a server measures, for Prometheus: read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ..frames import FRAME_COUNTS
from ..stage_timer import BUCKETS_MS, StageTimer
from ..stream.session import Session


class ServerCollector(Collector):
    """Totals of all sessions since the start, and what they are at this moment."""

    def __init__(self, totals: StageTimer, sessions: Callable[[], Iterable[Session]]) -> None:
        self._totals, self._sessions = totals, sessions

    def collect(self) -> Iterator[Metric]:
        stages = HistogramMetricFamily("miravox_stage_seconds", "Duration of each stage.", labels=["stage"])
        for stage, (counts, total_ms) in self._totals.histograms().items():
            running, buckets = 0, []
            for bound, count in zip((*BUCKETS_MS, None), counts, strict=True):
                running += count
                buckets.append(("+Inf" if bound is None else str(bound / 1000), running))
            stages.add_metric([stage], buckets, total_ms / 1000)
        yield stages
        for name, text in FRAME_COUNTS.items():
            yield CounterMetricFamily(f"miravox_frames_{name}", text, value=self._totals.counted(name))
        sessions = list(self._sessions())
        yield GaugeMetricFamily("miravox_sessions", "Sessions that are live.", value=len(sessions))
        viewers = sum(session.viewers for session in sessions)
        yield GaugeMetricFamily("miravox_viewers", "Browsers that view them.", value=viewers)
        drift = max((abs(session.live.input.state.drift_seconds) for session in sessions), default=0.0)
        yield GaugeMetricFamily("miravox_clock_drift_seconds", "Largest drift of a live source's clock.", value=drift)


def metrics_text(totals: StageTimer, sessions: Callable[[], Iterable[Session]]) -> bytes:
    """In Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(ServerCollector(totals, sessions))
    return generate_latest(registry)
