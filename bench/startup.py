"""From the start of the process to the first frame, and what memory a session takes.

    python -m bench startup --json F [--target baked] [--seconds 10]

The server itself, a process of its own, says the sample recording into a file, so that it renders from the first
moment without a browser; its own /stats tell when a frame is there. Beside it a program of three lines imports Miravox
and renders one frame of that recording.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.browser import ROOT, START_SECONDS, ServerProcess, wait_until
from realtime.avatar import Avatar, load_avatar
from realtime.errors import MiravoxError

Figures = dict[str, Any]

LOOK_SECONDS = 0.02  # between two looks at /stats
IMPORTING_PROGRAM = """
import sys
from realtime import load
frame = next(load(sys.argv[1], target=sys.argv[2]).render(sys.argv[3]))
print(frame.index, flush=True)
"""


def talking_server(avatar: Avatar, target: str, *more: str) -> list[str]:
    """The command of a server whose avatar says its sample recording again and again, in one session."""
    return [
        sys.executable,
        str(ROOT / "run_stream.py"),
        "--avatar",
        str(avatar.folder.resolve()),
        "--target",
        target,
        "--source",
        str(avatar.sample.resolve()),
        "--loop",
        *more,
    ]


def stats_of(server: ServerProcess) -> Figures:
    with urllib.request.urlopen(f"{server.address}stats", timeout=5) as answer:
        found: Figures = json.load(answer)
    return found


def memory_mb(server: ServerProcess) -> float:
    """Resident memory of the server, 10^6 bytes."""
    import psutil

    return float(psutil.Process(server.process.pid).memory_info().rss / 1e6)


def startup(avatar: Avatar, target: str, seconds: float) -> Figures:
    """Seconds until the server answers and until it has rendered a frame; memory after `seconds` of rendering."""
    with tempfile.TemporaryDirectory(prefix="miravox-bench-") as name:
        folder = Path(name)
        started = time.monotonic()
        record = ("--record", str(folder / "talk.mp4"))
        with ServerProcess(talking_server(avatar, target, *record), folder / "server.log") as server:
            rendered: Figures = {}

            def first_frame() -> bool:
                rendered.update(stats_of(server)["frames"])
                return bool(rendered["rendered"])

            wait_until(first_frame, START_SECONDS, "server", "a rendered frame", server.tail, LOOK_SECONDS)
            first = time.monotonic() - started
            time.sleep(seconds)
            return {
                "target": target,
                "server_s": server.start_s,
                "first_frame_s": first,
                "rss_mb": memory_mb(server),
                "frames": stats_of(server)["frames"],
            }


def import_startup(avatar: Avatar, target: str) -> float:
    """Seconds from the start of a program that imports Miravox until it has the first frame of a recording."""
    paths = [str(avatar.folder.resolve()), target, str(avatar.sample.resolve())]
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTING_PROGRAM, *paths], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        said = program.stdout.readline()
        seconds = time.monotonic() - started
    if said != "0\n":
        raise MiravoxError(
            "a program that imports Miravox",
            found=f"exit code {program.returncode}",
            wanted="a frame",
            remedy="See its error above.",
        )
    return seconds


def print_table(figures: Figures) -> None:
    print(
        f"target {figures['target']}: the server answers {figures['server_s']:.2f} s after its start, the first frame "
        f"is there after {figures['first_frame_s']:.2f} s, resident memory {figures['rss_mb']:.0f} MB "
        f"after {figures['frames']['rendered']} frames"
    )
    print(f"a program that imports Miravox has its first frame {figures['import_first_frame_s']:.2f} s after its start")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=10.0, help="of rendering before memory is read")
    parser.add_argument("--target", choices=("baked", "onnx", "tensorrt"), default="baked")


def run(o: argparse.Namespace) -> Figures:
    avatar = load_avatar(o.avatar)
    figures = startup(avatar, o.target, o.seconds) | {"import_first_frame_s": import_startup(avatar, o.target)}
    print_table(figures)
    return figures
