"""Viewers that come, vanish, upload, switch, flood and lie, by a seeded script, while one honest page watches.

    python -m bench chaos MINUTES --json F [--seed N] [--target baked]

The server, headless Chromium with the honest page, and the script are processes of their own on this machine; the
script gives way to the other two, as if it ran on another machine. There are two places: one is the honest page's.
Before and after mean what the server holds when the honest page alone is there.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.browser import ROOT
from bench.honest_page import HonestPage, honest_page
from bench.startup import memory_mb
from bench.vitals import CountedServer, Vitals, slope_per_hour
from realtime.avatar import Avatar, load_avatar
from realtime.errors import MiravoxError

Figures = dict[str, Any]

PLACES = 2
ALONE_SECONDS = 5.0  # of the honest page before the others come
LOOK_SECONDS = 2.0  # between two looks at the memory
WARM_UP_SHARE, WARM_UP_SECONDS = 0.2, 300.0  # of memory, left out of its slope: the shorter of both
SETTLE_SECONDS = 40.0  # that a server may take to miss who left without a word, and to let go of what they held
TOLD_CALLS = 4  # the innermost of a traceback
TOLD_LINES = 30  # of the log
END_SECONDS = 60.0  # for the script's last deeds


def chaos(avatar: Avatar, target: str, minutes: float, seed: int) -> Figures:
    """Raises MiravoxError if the server does not live through it."""
    with tempfile.TemporaryDirectory(prefix="miravox-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        options = ("--avatar", str(avatar.folder.resolve()), "--target", target, "--max-sessions", str(PLACES))
        with CountedServer(folder, *options) as server, honest_page(server) as honest:
            time.sleep(ALONE_SECONDS)
            before = server.vitals()
            honest.begin()
            with hostile_script(server.port, 60 * minutes, seed, folder / "hostile.log") as script:
                looks = watch(server, honest, script, 60 * minutes)
                figures = honest.figures()
                told = report_of(script, folder / "hostile.log")
            after = settled(server, before)
        log = server.log.read_text(errors="replace")
    warm = min(WARM_UP_SECONDS, WARM_UP_SHARE * 60 * minutes)
    seconds, memory = np.array([look for look in looks if look[0] >= warm] or [(0.0, 0.0)]).T
    slope, interval = slope_per_hour(seconds, memory)
    return {
        "honest": figures,
        "hostile": {"kinds": len(told["inputs"]), "inputs": sum(told["inputs"].values())},
        "before": asdict(before),
        "after": asdict(after),
        "rss_slope_mb_per_hour": slope,
        "rss_slope_interval_mb_per_hour": [bound if np.isfinite(bound) else None for bound in interval],
        "frame_p99_ms": honest.frame_p99_ms,
        "minutes": minutes,
        "seed": seed,
        "target": target,
        "inputs": told["inputs"],
        "answers": told["answers"],
        "faults": [*told["faults"], *tracebacks(log)],
        "log": warnings(log),
        "rss_mb": [[round(at, 1), round(mb, 1)] for at, mb in looks],
    }


@contextlib.contextmanager
def hostile_script(port: int, seconds: float, seed: int, log: Path) -> Iterator[subprocess.Popen[str]]:
    """The script as a process, gone when the context is left."""
    command = [sys.executable, "-m", "bench.hostile", str(port), str(seconds), "--seed", str(seed)]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as script,
    ):
        try:
            yield script
        finally:
            script.kill()


def watch(
    server: CountedServer, honest: HonestPage, script: subprocess.Popen[str], seconds: float
) -> list[tuple[float, float]]:
    """Seconds and the server's memory in MB, every two seconds for so long, or until the script has ended."""
    looks, begun = [], time.monotonic()
    while (now := time.monotonic() - begun) < seconds and script.poll() is None:
        looks.append((now, memory_mb(server)))
        honest.take()
        time.sleep(LOOK_SECONDS)
    return looks


def report_of(script: subprocess.Popen[str], log: Path) -> Figures:
    """What the script says at its end. Raises MiravoxError if it failed."""
    try:
        out, _ = script.communicate(timeout=END_SECONDS)
        told: Figures = json.loads(out)
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise MiravoxError(
            "the hostile script",
            found=f"no report ({log.read_text(errors='replace')[-500:].strip()})",
            wanted="a script that ends by itself",
            remedy="Run `python -m bench.hostile` by hand.",
        ) from error
    return told


def settled(server: CountedServer, before: Vitals) -> Vitals:
    """What the server holds when it is back to where it was, or after long enough."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = server.vitals()
        back = now.places <= before.places and now.tasks <= before.tasks and now.fds <= before.fds
        if back or time.monotonic() > deadline:
            return now
        time.sleep(LOOK_SECONDS)


def tracebacks(log: str) -> list[str]:
    """How each traceback that the server printed ends and where it came from, once, with how often it came."""
    ends: Counter[str] = Counter()
    for part in log.split("Traceback (most recent call last):\n")[1:]:
        lines = list(itertools.takewhile(lambda line: line.startswith(" "), part.splitlines()))
        (end, *_) = [*part.splitlines()[len(lines) :], "cut off"]
        places = [found for line in lines if (found := re.match(r'  File "[^"]*?([^/"]+)", line (\d+), in (.+)', line))]
        way = " > ".join(f"{place[1]}:{place[2]} {place[3]}" for place in places[-TOLD_CALLS:])
        ends[f"{end[:200]} ({way})"] += 1
    return [f"{count} times in the log: {end}" for end, count in ends.items()]


def warnings(log: str) -> dict[str, int]:
    """The lines in which the server told something, and how often; numbers in them are left out. The most frequent."""
    lines = (re.sub(r"\d+", "N", line[:200]) for line in log.splitlines() if line.startswith("miravox: "))
    return dict(Counter(lines).most_common(TOLD_LINES))


def print_table(figures: Figures) -> None:
    honest, hostile, before, after = (figures[name] for name in ("honest", "hostile", "before", "after"))
    low, high = figures["rss_slope_interval_mb_per_hour"]
    interval = "no interval" if low is None else f"95 % {low:+.1f} to {high:+.1f}"
    print(
        f"{figures['minutes']:g} minutes, target {figures['target']}: "
        f"{hostile['inputs']} inputs of {hostile['kinds']} kinds"
    )
    print(
        f"honest page: {honest['fps']:.2f} frames a second, 99 % at most {honest['p99_ms']:.0f} ms late "
        f"(99 % made within {figures['frame_p99_ms']:.0f} ms), "
        f"{100 * honest['dropped_share']:.2f} % not shown, longest freeze {honest['longest_freeze_ms']:.0f} ms"
    )
    print(
        "before and after: "
        + ", ".join(f"{name} {before[name]:.0f} -> {after[name]:.0f}" for name in before)
        + f"; memory {figures['rss_slope_mb_per_hour']:+.1f} MB an hour ({interval})"
    )
    for line, count in figures["log"].items():
        print(f"{count:5} x {line}")
    for fault in figures["faults"]:
        print(f"fault: {fault}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=0, help="of what the hostile viewers do")
    parser.add_argument("--target", choices=("baked", "onnx", "tensorrt"), default="baked")


def run(o: argparse.Namespace) -> Figures:
    figures = chaos(load_avatar(o.avatar), o.target, o.minutes, o.seed)
    print_table(figures)
    return figures
