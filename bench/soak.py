"""Hours of speech to one browser: does memory grow, do picture and sound drift, do frames come late?

    python -m bench soak 60 --json F [--png F] [--target baked]

Server and headless Chromium on this machine; the avatar says its sample recording again and again. Drift is how much
later, or sooner, the page shows and plays things at the end than in the beginning, by its own figures.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.browser import START_BUTTON, START_SECONDS, ServerProcess, wait_until, write_microphone
from bench.chromium import open_chromium
from bench.picture import drawing
from bench.startup import memory_mb, stats_of, talking_server
from realtime.avatar import Avatar, load_avatar
from realtime.contract import SAMPLE_RATE

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Figures = dict[str, Any]
FloatArray = NDArray[np.floating[Any]]

LOOK_SECONDS = 5.0
WARM_UP_SHARE, WARM_UP_SECONDS = 0.2, 300.0  # left out of all figures, the shorter of both
COMPARED_SHARE = 0.2  # of what is left, at either end: what drift is told from
# What the page shows: latency, and how much later the sound is heard than the lips are seen.
SHOWN = """
document.querySelector('#details').open = true;
const facts = [...document.querySelectorAll('#facts > div')];
const fact = facts.find((row) => row.textContent.startsWith('Sound after lips'));
return [document.querySelector('#latency').textContent, fact ? fact.lastChild.textContent : ''];
"""


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
                samples = watch(server, chromium, 60 * minutes)
        finally:
            chromium.quit()
    return figures_of(samples, minutes) | {"target": target, "samples": samples}


def rendered(server: ServerProcess) -> int:
    return int(stats_of(server)["frames"]["rendered"])


def watch(server: ServerProcess, chromium: Chrome, seconds: float) -> list[dict[str, float]]:
    """What the server and the page say of themselves every few seconds; NaN is what the page does not know."""
    samples, begun = [], time.monotonic()
    while (now := time.monotonic() - begun) < seconds:
        stats = stats_of(server)
        latency, skew = (number_in(text) for text in chromium.execute_script(SHOWN))
        samples.append(
            {
                "seconds": now,
                "rss_mb": memory_mb(server),
                "latency_ms": latency,
                "skew_ms": skew,
                **{name: stats["frames"][name] for name in ("rendered", "late", "dropped")},
            }
        )
        time.sleep(LOOK_SECONDS)
    return samples


def number_in(text: str) -> float:
    """The number that a text begins with, or NaN."""
    found = re.match(r"[-−]?\d+(\.\d+)?", text)
    return float(found[0].replace("−", "-")) if found else float("nan")


def drift(values: FloatArray) -> float:
    """Median of the last of the values less that of the first; NaN where all are."""
    known = values[np.isfinite(values)]
    count = max(1, round(COMPARED_SHARE * len(known)))
    return float(np.median(known[-count:]) - np.median(known[:count])) if len(known) else float("nan")


def figures_of(samples: list[dict[str, float]], minutes: float) -> Figures:
    """Slope of the memory by least squares, share of late or dropped frames, the greater drift; without the warm-up."""
    warm = min(WARM_UP_SECONDS, WARM_UP_SHARE * 60 * minutes)
    kept = [s for s in samples if s["seconds"] >= warm]
    hours = np.array([s["seconds"] for s in kept]) / 3600
    slope = np.polyfit(hours, [s["rss_mb"] for s in kept], 1)[0] if len(kept) > 1 else 0.0
    first, last = kept[0], kept[-1]
    made = last["rendered"] - first["rendered"] + last["dropped"] - first["dropped"]
    span = last["seconds"] - first["seconds"]
    drifts = {name: drift(np.array([s[name] for s in kept])) for name in ("latency_ms", "skew_ms")}
    return {
        "minutes": minutes,
        "rss_slope_mb_per_hour": float(slope),
        "rss_mb": last["rss_mb"],
        "late_share": (last["late"] - first["late"]) / max(1, made),
        "dropped_share": (last["dropped"] - first["dropped"]) / max(1, made),
        "fps": (last["rendered"] - first["rendered"]) / span if span else 0.0,
        "drift_ms": max(drifts.values(), key=abs),
        "drifts_ms": drifts,
        "page_ms": {name: float(np.nanmedian([s[name] for s in kept])) for name in drifts},
    }


def print_table(figures: Figures) -> None:
    print(
        f"{figures['minutes']:g} minutes, target {figures['target']}: {figures['fps']:.2f} frames a second, "
        f"{100 * figures['late_share']:.2f} % late, {100 * figures['dropped_share']:.2f} % dropped; "
        f"memory {figures['rss_mb']:.0f} MB, {figures['rss_slope_mb_per_hour']:+.2f} MB an hour; "
        f"page: latency {figures['page_ms']['latency_ms']:.0f} ms and {figures['drifts_ms']['latency_ms']:+.1f} from "
        f"beginning to end, sound after lips {figures['page_ms']['skew_ms']:.0f} ms and "
        f"{figures['drifts_ms']['skew_ms']:+.1f}"
    )


def plot(figures: Figures, path: Path) -> None:
    """Memory, latency and sound after lips against time."""
    samples = figures["samples"]
    minutes = [s["seconds"] / 60 for s in samples]
    with drawing(path, (8, 5), 2, 1, sharex=True) as (memory, page):
        memory.plot(minutes, [s["rss_mb"] for s in samples], color="#3b6ea5")
        memory.set(ylabel="resident memory, MB")
        page.plot(minutes, [s["latency_ms"] for s in samples], color="#3b6ea5", label="latency")
        page.plot(minutes, [s["skew_ms"] for s in samples], color="#b5651d", label="sound after lips")
        page.set(xlabel="minutes", ylabel="ms, as the page says")
        page.legend()


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
