"""Hostile viewers beside an honest page: what is measured of both, and half a minute of it against the real server."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bench import chaos
from bench.chromium import BROWSERS, DRIVERS
from bench.honest_page import FRAME_MS, FRAME_TICKS, figures_of, lateness
from bench.hostile_inputs import SDP_LIES, packets, raw_request, recordings
from bench.vitals import slope_per_hour
from realtime.avatar import load_avatar
from tests.conftest import lacking

CHAOS_MINUTES = 0.3
NORMAL_FREEZE_MS = 60.0


def frames(count: int, first: int = 0) -> Any:
    """Rows of a page that gets every frame: shown 20 ms after it came, which takes up to 3 ms."""
    index = np.arange(first, first + count)
    received = 1000 + FRAME_MS * index + index % 4
    return np.stack([received + 20, received, index * FRAME_TICKS % 2**32, 1 + np.arange(count)], 1)


def test_a_page_that_gets_every_frame() -> None:
    """RTP time stamps run over in the middle of it."""
    rows = frames(1000)
    rows[:, 2] = (rows[:, 2] + 2**32 - 500 * FRAME_TICKS) % 2**32
    found = figures_of(rows, 1000, 41_000)
    assert found["fps"] == pytest.approx(25, abs=0.01) and found["dropped_share"] == 0
    assert found["p99_ms"] == pytest.approx(3) and found["longest_freeze_ms"] < NORMAL_FREEZE_MS


def test_frames_that_are_missed_are_told() -> None:
    """Three in a row are not shown; two that the browser showed were not noted by the probe."""
    rows = frames(1000)
    rows[500:, 3] -= 3
    found = figures_of(np.delete(rows, [*range(497, 500), 700, 701], 0), 1000, 41_000)
    assert found["dropped_share"] == pytest.approx(0.003)
    assert found["fps"] == pytest.approx(25 * 0.997, abs=0.01)
    assert found["longest_freeze_ms"] == pytest.approx(4 * FRAME_MS, abs=3)


def test_late_frames_are_told() -> None:
    """Two of a hundred come 70 ms late; meanwhile the clocks drift apart by 20 ms."""
    rows = frames(5000)
    rows[:, :2] += np.linspace(0, 20, 5000)[:, None]
    rows[::50, 1] += 70
    found = figures_of(rows, 1000, 201_020)
    assert 70 <= found["p99_ms"] < 85
    rows[::50, 1] -= 70
    assert figures_of(rows, 1000, 201_020)["p99_ms"] < 15


def test_a_connection_that_is_made_anew_is_an_interruption() -> None:
    """Two seconds without a picture; then time stamps and counts begin again."""
    again = frames(500, first=550)
    again[:, 2] -= 550 * FRAME_TICKS - 90_000
    found = figures_of(np.concatenate([frames(500), again]), 1000, 43_000)
    assert found["dropped_share"] == pytest.approx(50 / 1050, abs=0.002)
    assert found["longest_freeze_ms"] == pytest.approx(51 * FRAME_MS, abs=5)
    assert found["p99_ms"] == pytest.approx(3)


def test_a_page_that_froze_or_never_began_is_told() -> None:
    assert figures_of(frames(100), 1000, 61_000)["longest_freeze_ms"] > 55_000
    nothing = figures_of(np.empty((0, 4)), 1000, 11_000)
    assert nothing == {"fps": 0, "p99_ms": 10_000, "dropped_share": 1, "longest_freeze_ms": 10_000}


def test_lateness_counts_from_the_quickest_frame_nearby() -> None:
    index = np.arange(3000.0)
    late = np.where(np.arange(3000) % 10 == 0, 15.0, 0.0)
    assert lateness(500 + FRAME_MS * index + late, index) == pytest.approx(late)


def test_the_slope_of_memory_has_an_interval() -> None:
    """Growth is told from what an allocator takes and gives back."""
    seconds = np.arange(0, 3600, 2.0)
    noise = 3 * np.random.default_rng(0).standard_normal(len(seconds))
    slope, (low, high) = slope_per_hour(seconds, 300 + noise)
    assert low < 0 < high and abs(slope) < 1
    slope, (low, high) = slope_per_hour(seconds, 300 + noise + 12 * seconds / 3600)
    assert low < 12 < high and low > 10
    assert slope_per_hour(seconds[:1], noise[:1]) == (0, (-np.inf, np.inf))
    slope, interval = slope_per_hour(np.array([0.0, 3600.0]), np.array([1.0, 2.0]))
    assert slope == pytest.approx(1) and interval == (-np.inf, np.inf)


def test_tracebacks_of_the_log_are_told_once() -> None:
    call = '  File "/a/b/server.py", line 7, in answer\n    read(body)\n    ^^^^\n'
    one = f"Traceback (most recent call last):\n{call}ValueError: no\n"
    told = "2 times in the log: ValueError: no (server.py:7 answer)"
    assert chaos.tracebacks("") == [] and chaos.tracebacks(f"miravox: fine\n{one}between\n{one}") == [told]
    assert chaos.warnings("miravox: 12 late\nother\nmiravox: 3 late\n") == {"miravox: N late": 2}


def test_a_seed_fixes_what_is_sent() -> None:
    sections = ("m=audio 9 X 111", "a=mid:0", "a=sendrecv", "m=video 9 X 97", "a=mid:1", "a=recvonly", "")
    sdp = "\r\n".join(("v=0", "a=group:BUNDLE 0 1", *sections))

    def sent(seed: int) -> list[object]:
        rng = random.Random(seed)
        lies = [lie(sdp, rng) for lie in SDP_LIES.values() for _ in range(3)]
        return [*lies, *(raw_request(rng) for _ in range(20)), *(packets(rng) for _ in range(5))]

    assert sent(1) == sent(1) != sent(2)
    assert recordings() == recordings()


def test_the_hostile_files_are_what_they_are_called() -> None:
    """Small, and some of them huge when they are decoded."""
    files = recordings()
    assert max(map(len, files.values())) < 1_000_000
    with av.open(io.BytesIO(files["hour.flac"])) as hour:
        duration, time_base = hour.streams.audio[0].duration, hour.streams.audio[0].time_base
        assert duration is not None and time_base is not None and duration * time_base == 3600
    with av.open(io.BytesIO(files["picture.avi"])) as film:
        assert film.streams.video[0].codec.name == "png"


@pytest.mark.usefixtures("ada", "gl_context")
def test_an_honest_page_lives_among_hostile_viewers(ada: Path) -> None:
    """Bounds that a machine holds which does other things, too: nothing here is about speed."""
    if not all(any(map(shutil.which, programs)) for programs in (BROWSERS, DRIVERS)):
        lacking("Chromium with its ChromeDriver (on Debian and Ubuntu: apt-get install chromium chromium-driver)")
    figures = chaos.chaos(load_avatar(ada), "baked", CHAOS_MINUTES, seed=1)
    chaos.print_table(figures)
    assert figures["faults"] == []
    assert set(figures["honest"]) == {"fps", "p99_ms", "dropped_share", "longest_freeze_ms"}
    assert figures["honest"]["fps"] > 12 and figures["honest"]["longest_freeze_ms"] < 3000
    assert figures["hostile"]["kinds"] >= 12 and figures["hostile"]["inputs"] > 100
    before, after = figures["before"], figures["after"]
    assert set(before) == set(after) == {"rss_mb", "fds", "threads", "tasks", "places"}
    assert after["places"] == before["places"] == 1
    assert after["fds"] <= before["fds"] + 10 and after["tasks"] <= before["tasks"] + 5
    assert after["threads"] <= before["threads"] + 16  # executors keep what they started
    assert after["rss_mb"] <= before["rss_mb"] + 150  # codecs and caches that the first of a kind fills
