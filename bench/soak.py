"""Hours of speech to one browser: does memory grow, does the clock drift, do frames come late?

    python -m bench soak 60 --json F [--png F] [--target baked]

Server and headless Chromium on this machine; the avatar says its sample recording again and again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.browser import START_BUTTON, START_SECONDS, ServerProcess, open_chromium, wait_until, write_microphone
from bench.picture import drawing
from bench.startup import memory_mb, stats_of, talking_server
from networks.contract import SAMPLE_RATE
from realtime.avatar import Avatar, load_avatar

Figures = dict[str, Any]

LOOK_SECONDS = 5.0
WARM_UP_SHARE, WARM_UP_SECONDS = 0.2, 300.0  # left out of all figures, the shorter of both


def soak(avatar: Avatar, target: str, minutes: float) -> Figures:
    with tempfile.TemporaryDirectory(prefix="miravox-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        microphone = folder / "microphone.wav"  # the page asks for none; Chromium wants one to start with
        write_microphone(microphone, np.zeros(SAMPLE_RATE, np.float32), 1.0)
        chromium = open_chromium(microphone, folder / "profile")
        try:
            with ServerProcess(talking_server(avatar, target), folder / "server.log") as server:
                chromium.get(server.address)
                chromium.find_element("css selector", START_BUTTON).click()
                wait_until(lambda: rendered(server) > 0, START_SECONDS, "page", "a page that views", server.tail)
                samples = watch(server, 60 * minutes)
        finally:
            chromium.quit()
    return figures_of(samples, minutes) | {"target": target, "samples": samples}


def rendered(server: ServerProcess) -> int:
    return int(stats_of(server)["frames"]["rendered"])


def watch(server: ServerProcess, seconds: float) -> list[dict[str, float]]:
    """What the server says of itself every few seconds."""
    samples, begun = [], time.monotonic()
    while (now := time.monotonic() - begun) < seconds:
        stats = stats_of(server)
        samples.append({
            "seconds": now, "rss_mb": memory_mb(server), "drift_ms": stats["shared"]["drift_ms"],
            **{name: stats["frames"][name] for name in ("rendered", "late", "dropped")},
        })  # fmt: skip
        time.sleep(LOOK_SECONDS)
    return samples


def figures_of(samples: list[dict[str, float]], minutes: float) -> Figures:
    """Slope of the memory by least squares, share of late or dropped frames, greatest drift; without the warm-up."""
    warm = min(WARM_UP_SECONDS, WARM_UP_SHARE * 60 * minutes)
    kept = [s for s in samples if s["seconds"] >= warm]
    hours = np.array([s["seconds"] for s in kept]) / 3600
    slope = np.polyfit(hours, [s["rss_mb"] for s in kept], 1)[0] if len(kept) > 1 else 0.0
    first, last = kept[0], kept[-1]
    made = last["rendered"] - first["rendered"] + last["dropped"] - first["dropped"]
    span = last["seconds"] - first["seconds"]
    return {
        "minutes": minutes,
        "rss_slope_mb_per_hour": float(slope),
        "rss_mb": last["rss_mb"],
        "late_share": (last["late"] - first["late"]) / max(1, made),
        "dropped_share": (last["dropped"] - first["dropped"]) / max(1, made),
        "fps": (last["rendered"] - first["rendered"]) / span if span else 0.0,
        "drift_ms": max(abs(s["drift_ms"]) for s in kept),
    }  # fmt: skip


def print_table(figures: Figures) -> None:
    print(
        f"{figures['minutes']:g} minutes, target {figures['target']}: {figures['fps']:.2f} frames a second, "
        f"{100 * figures['late_share']:.2f} % late, {100 * figures['dropped_share']:.2f} % dropped; "
        f"memory {figures['rss_mb']:.0f} MB, {figures['rss_slope_mb_per_hour']:+.2f} MB an hour; "
        f"drift at most {figures['drift_ms']:.1f} ms"
    )


def plot(figures: Figures, path: Path) -> None:
    """Memory against time."""
    samples = figures["samples"]
    with drawing(path, (8, 3)) as axes:
        axes.plot([s["seconds"] / 60 for s in samples], [s["rss_mb"] for s in samples], color="#3b6ea5")
        axes.set_xlabel("minutes")
        axes.set_ylabel("resident memory, MB")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("minutes", type=float)
    parser.add_argument("--target", choices=("baked", "onnx", "tensorrt"), default="baked")
    parser.add_argument("--png", type=Path, help="picture of the memory")


def run(o: argparse.Namespace) -> Figures:
    figures = soak(load_avatar(o.avatar), o.target, o.minutes)
    print_table(figures)
    if o.png:
        plot(figures, o.png)
    return figures
