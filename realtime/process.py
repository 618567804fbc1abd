"""What a process that renders sets for all of itself, once, where it starts: never in a constructor."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

import numpy  # noqa: F401  its BLAS can only be limited once it is loaded
from threadpoolctl import threadpool_limits

M_ARENA_MAX = -8  # of the C library's mallopt: into how many heaps threads divide their memory
SWITCH_INTERVAL_SECONDS = 0.0005  # of Python's lock: a busy thread must not hold up the event loop


def prepare_process() -> None:
    """Suits this process to frames that are made on few cores; call it before anything is drawn.

    OpenGL, ONNX Runtime, the codecs and numpy share the cores: helper threads in all of them get in each other's way.
    So Mesa's software renderer draws on the calling thread (unless LP_NUM_THREADS is set), and numpy multiplies there.
    """
    os.environ.setdefault("LP_NUM_THREADS", "0")
    threadpool_limits(1, user_api="blas")
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    # Each session has threads of its own. A heap for each would keep what the session gave back for the next one there.
    with contextlib.suppress(AttributeError):  # glibc has it
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
