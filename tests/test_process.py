"""What a process that renders sets for itself, where it starts and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.conftest import ROOT

PROBE = """
import json, os, sys
{before}
import numpy as np
from threadpoolctl import threadpool_info
threads = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
print(json.dumps([threads, os.environ.get("LP_NUM_THREADS"), sys.getswitchinterval()]))
"""
AS_THE_COMMAND_DOES = "from realtime.process import prepare_process; prepare_process()"  # before numpy is imported
AS_A_LIBRARY = "import realtime; realtime.load('ada')"


def told(before: str) -> tuple[list[int], str | None, float]:
    """Threads of each BLAS, LP_NUM_THREADS and Python's switch interval of a process that did that first."""
    code = PROBE.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    threads, drawing, interval = json.loads(done.stdout)
    return threads, drawing, interval


def test_one_thread_draws_and_multiplies_once_a_process_is_prepared() -> None:
    """A second thread of BLAS spins on a core of its own: a whole core for nothing."""
    threads, drawing, interval = told(AS_THE_COMMAND_DOES)
    assert threads and set(threads) == {1}
    assert drawing == "0" and interval < 0.001


def test_a_library_user_keeps_the_process_as_it_was() -> None:
    assert told(AS_A_LIBRARY) == told("")
