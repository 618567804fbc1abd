"""run_stream.py that tells how many tasks its event loop has, which nobody else can see.

    python -m bench.counted_server FILE -- RUN_STREAM_OPTIONS

At each SIGUSR1 it writes the number of asyncio's tasks that are not done into FILE.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import run_stream


def report_tasks(file: Path) -> None:
    """From now on. The handler runs on the main thread, where the event loop is."""

    def report(number: int, frame: FrameType | None) -> None:
        half = file.with_suffix(".half")
        half.write_text(str(len(asyncio.all_tasks())))
        os.replace(half, file)  # whoever waits for the file finds all of it

    signal.signal(signal.SIGUSR1, report)


def main() -> int:
    file, _, *options = sys.argv[1:]
    report_tasks(Path(file))
    return run_stream.main(options)


if __name__ == "__main__":
    sys.exit(main())
