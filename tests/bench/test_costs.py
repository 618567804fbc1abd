"""stages, startup, soak and compare: what a frame, a process and an hour cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from realtime.avatar import load_avatar
from realtime.errors import MiravoxError


@pytest.mark.usefixtures("gl_context")
def test_stages_add_up_to_the_frame(ada: Path, tmp_path: Path) -> None:
    from bench.stages import plot, print_table, stages
    from realtime.avatar import load_avatar

    avatar = load_avatar(ada)
    result = stages(avatar, avatar.sample, 1.2, "baked", 256, reference=False)
    assert result["frames"] == 30 and "reference_ms" not in result
    times = result["stages_ms"]
    parts = {"latent", "face", "source", "composition", "conversion"}
    assert set(times) == parts | {"encoding", "reading ahead"}
    inside = sum(times[n]["median"] for n in parts)
    assert inside == pytest.approx(result["frame_ms"]["median"], rel=0.5)
    assert result["frame_ms"]["median"] <= result["frame_ms"]["p95"] <= result["frame_ms"]["p99"]
    assert result["cold"]["frame_ms"] > 0 and set(result["cold"]["stages_ms"]) == set(times)
    print_table(result)
    plot(result, tmp_path / "stages.png")
    assert (tmp_path / "stages.png").stat().st_size > 5000


@pytest.mark.usefixtures("gl_context")
def test_larger_frames_cost_more(ada: Path, tmp_path: Path) -> None:
    """Four times the pixels are more work, less than four times: the encoder of speech does not grow."""
    from bench.pixels import pixels, plot, print_table

    avatar = load_avatar(ada)
    result = pixels(avatar, avatar.sample, 1.2, "baked", [256, 1024])
    small, large = result["pixels"]["256"], result["pixels"]["1024"]
    assert small["megapixels"] == pytest.approx(0.065536) and large["megapixels"] == pytest.approx(1.048576)
    assert large["encoding_ms"]["median"] > small["encoding_ms"]["median"]
    assert small["frame_ms"]["median"] < large["frame_ms"]["median"]
    fit = result["lines"]["frame_ms"]
    for found in (small, large):
        predicted = fit["base"] + fit["each"] * found["megapixels"]
        assert predicted == pytest.approx(found["frame_ms"]["median"])
    print_table(result)
    plot(result, tmp_path / "pixels.png")
    assert (tmp_path / "pixels.png").stat().st_size > 5000


def test_a_line_tells_proportion_from_none() -> None:
    from bench.linear import line

    assert line([1, 2, 3], [5.0, 7.0, 9.0]) == pytest.approx({"base": 3, "each": 2, "r2": 1})
    assert line([1, 2, 3], [1.0, 9.0, 1.0])["r2"] == pytest.approx(0, abs=1e-9)
    assert line([1, 10, 30], [2.0, 2.0, 2.0]) == pytest.approx({"base": 2, "each": 0, "r2": 1})


def test_reference_is_as_large_as_wav2lips_generator(torch: Any) -> None:
    """36 million parameters, 96 x 96 pixels; the exported network runs."""
    from bench.stages import reference_network
    from bench.wav2lip_generator import Generator

    assert sum(p.numel() for p in Generator().parameters()) == pytest.approx(36.3e6, rel=0.01)
    face = reference_network()()[0]
    assert face.shape == (1, 3, 96, 96) and 0 < face.min() < face.max() < 1


@pytest.mark.usefixtures("gl_context")
def test_startup_watches_the_server_itself(ada: Path) -> None:
    from bench.startup import import_startup, startup
    from realtime.avatar import load_avatar

    avatar = load_avatar(ada)
    assert 0.1 < import_startup(avatar, "baked") < 60
    figures = startup(avatar, "baked", 1.0)
    assert 0 < figures["server_s"] <= figures["first_frame_s"]
    assert figures["frames"]["rendered"] > 1 and 100 < figures["rss_mb"] < 2000


@pytest.mark.usefixtures("gl_context")
def test_sessions_and_viewers_get_frames(ada: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One session of its own voice, and one that two peers view: frames arrive at every peer."""
    from bench import sessions
    from realtime.avatar import load_avatar

    monkeypatch.setattr(sessions, "SETTLE_SECONDS", 2.0)
    result = sessions.sessions(load_avatar(ada), [1], [1, 2], 2.0)
    for figures in (result["sessions"]["1"], result["viewers"]["2"]):
        assert 0.01 < figures["cores"] < 4
        assert 2 < figures["fps"] < 40 and 0 < figures["p50_ms"] <= figures["p99_ms"]
        assert 0 <= figures["late_share"] <= 1
    assert set(result["lines"]) == {"viewers"}  # one point is no line
    sessions.print_table(result)
    sessions.plot(result, tmp_path / "sessions.png")
    assert (tmp_path / "sessions.png").stat().st_size > 5000


def test_a_soak_tells_growth_from_warming_up() -> None:
    """Memory that rises by 50 MB in the first minutes and by 12 MB an hour after that; one frame in a hundred late."""
    from bench.soak import figures_of

    samples = [
        {
            "seconds": s,
            "rss_mb": 300 + min(50.0, s / 2) + 12 * s / 3600,
            "latency_ms": float("nan") if s % 100 == 0 else 150 + s / 360,
            "skew_ms": 90.0 if s < 60 else 20 - s / 180,
            "rendered": 25.0 * s,
            "late": 0.25 * s if s > 600 else 150.0,
            "dropped": 0.0,
        }
        for s in range(0, 3600, 5)
    ]
    figures = figures_of(samples, 60)
    assert figures["rss_slope_mb_per_hour"] == pytest.approx(12, abs=0.01)
    assert figures["late_share"] == pytest.approx(0.01, abs=1e-3) and figures["dropped_share"] == 0
    # Between the middles of the first and the last fifth of 55 minutes lie 44.
    assert figures["drifts_ms"] == pytest.approx({"latency_ms": 44 / 6, "skew_ms": -44 / 3}, abs=0.1)
    assert figures["drift_ms"] == figures["drifts_ms"]["skew_ms"]
    assert figures["page_ms"]["latency_ms"] == pytest.approx(150 + 32.5 / 6, abs=0.1)
    assert figures["fps"] == pytest.approx(25)


def test_figures_of_the_page_are_read() -> None:
    from bench.soak import number_in

    assert number_in("167") == 167 and number_in("-12 ms") == -12 and number_in("−3.5\u00a0ms") == -3.5
    assert np.isnan(number_in("–")) and np.isnan(number_in(""))


def test_results_are_compared_figure_by_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.compare import compare, print_table

    a, b, other = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "other.json"
    around = {"hardware": {"cores": 2}, "versions": {"numpy": 2}, "config": {"size": 512}}
    a.write_text(json.dumps({"frame_ms": {"median": 20.0, "p95": 0}, "only_a": 1, "ok": True, "commit": "x"} | around))
    b.write_text(json.dumps({"frame_ms": {"median": 15.0, "p95": 3}, "ok": True} | around))
    assert compare(a, b) == [("frame_ms.median", 20.0, 15.0, 0.75), ("frame_ms.p95", 0.0, 3.0, None)]
    print_table(a, b)
    assert "0.750" in capsys.readouterr().out
    other.write_text(json.dumps({"fps": 3.0, "hardware": {"cores": 4}}))
    with pytest.raises(MiravoxError, match="no figure that both hold"):
        compare(a, other)
    other.write_text("[1, 2")
    with pytest.raises(MiravoxError, match="other.json"):
        compare(a, other)


def test_every_lookahead_is_heard_and_timed(ada: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The avatar that is timed has the lookahead that the row is named for."""
    import bench.lookahead as bench
    from networks.readout import LOOKAHEADS
    from realtime.avatar import Avatar

    timed: list[int] = []

    def latency(avatar: Avatar, target: str, audio: Path | None, seconds: float) -> dict[str, Any]:
        timed.append(avatar.lookahead_samples)
        time = 80 + avatar.lookahead_samples / 16
        return {"mouth_to_photon_ms": {"median": time, "p95": time + 30}}

    shares = dict.fromkeys(bench.RECOGNISED, 0.75)
    heard = {str(k): {"clean": shares, "noise_10db": shares} for k in range(len(LOOKAHEADS))}
    monkeypatch.setattr(bench, "latency", latency)
    monkeypatch.setattr(bench, "recognition", lambda *_: heard)
    avatar = load_avatar(ada)
    result = bench.lookahead(avatar, [], Path("bench/readout.safetensors"), "baked", 1.0)
    assert timed == list(LOOKAHEADS) and result["default_lookahead_ms"] == 112.5
    rows = cast(dict[str, Any], result["lookahead_ms"])
    assert list(rows) == ["37.5", "75", "112.5", "150", "200", "375"] and rows["75"]["clean"]["viseme"] == 0.75
    assert rows["75"]["mouth_to_photon_ms"]["median"] == 155
    bench.print_table(result)
    bench.plot(result, tmp_path / "lookahead.png")
    assert (tmp_path / "lookahead.png").stat().st_size > 1000
