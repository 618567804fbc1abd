"""Which TensorRT is installed, what it complains of, and the GPUs that it runs on.

TensorRT 10, 11 and TensorRT-RTX (`tensorrt_rtx`, for GeForce and RTX cards) will do; only names that all three have are
used. Whoever needs one is given the module, as the argument `trt`.
"""

from __future__ import annotations

import importlib
from collections import deque
from functools import cache
from types import ModuleType
from typing import Any

from ..errors import MiravoxError

RTX = "tensorrt_rtx"
NAMES = ("tensorrt", RTX)
INSTALL = (
    "Install it from the clone: `pip install -e .[tensorrt] --extra-index-url https://pypi.nvidia.com`, or for GeForce "
    "and RTX cards `pip install -e .[rtx]`; or choose another --target."
)
NEWEST_RTX = 121  # the compute capability up to which TensorRT-RTX names those that it builds for
KEPT_MESSAGES = 200


def load_tensorrt() -> ModuleType:
    """The module `tensorrt`, or else `tensorrt_rtx`.

    Raises MiravoxError if neither is here.
    """
    reasons = []
    for name in NAMES:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:  # OSError: a library that the module opens is missing
            reasons.append(str(error))
    raise MiravoxError("TensorRT", found="; ".join(reasons), wanted=f"the module {' or '.join(NAMES)}", remedy=INSTALL)


@cache
def logger(trt: Any) -> Any:
    """The logger of this process; its `messages` are the latest errors and warnings, as (severity, text).

    TensorRT ignores every logger but the first for as long as anything made with that one lives, and uses it on: all
    must share this one.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: deque[tuple[int, str]] = deque(maxlen=KEPT_MESSAGES)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.WARNING):  # what it did well fills pages
                self.messages.append((int(severity), message))

    return Log()


def complaints(trt: Any) -> str:
    """The errors among the logger's messages, the warnings if there is none, or words that say so."""
    messages = list(logger(trt).messages)
    for severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.WARNING):
        if texts := [text for level, text in messages if level <= int(severity)]:
            return "; ".join(dict.fromkeys(texts))
    return "no reason given"


def refusal(trt: Any, thing: str, found: str, wanted: str, remedy: str) -> MiravoxError:
    """What TensorRT refused, with its own words: it reports most failures by returning False or None."""
    return MiravoxError(thing, found=f"{found} ({complaints(trt)})", wanted=wanted, remedy=remedy)


def rtx_target(trt: Any, compute_capability: int) -> Any:
    """What TensorRT-RTX calls a GPU of this compute capability (89 for 8.9); None for one that is newer than its names,
    and with TensorRT itself, which looks at the GPU.

    Raises MiravoxError for a GPU that it does not run on, such as an H100.
    """
    if trt.__name__ != RTX:
        return None
    kinds: Any = getattr(trt, "ComputeCapability", None)
    target = getattr(kinds, f"SM{compute_capability}", None)
    if target is None and compute_capability < NEWEST_RTX:
        raise MiravoxError(
            "TensorRT-RTX",
            found=f"a GPU of compute capability {compute_capability / 10}",
            wanted="a GeForce or RTX card",
            remedy=f"Install TensorRT itself instead. {INSTALL}",
        )
    return target
