"""How much of a recording may be decoded, for how long, and for whom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import MiravoxError

CPU_SECONDS, CPU_SHARE = 20.0, 1 / 60  # of this machine: at least, and for each second of sound


@dataclass
class Bounds:
    """How much may be decoded in one go. Each is asked after every piece."""

    path: Path
    max_seconds: float | None = None
    cancelled: Callable[[], bool] | None = None
    seconds: float = 0.0  # of sound so far
    _cpu_began: float = field(default_factory=time.thread_time)

    def check(self) -> None:
        """Raises MiravoxError if it is enough. On the thread that decodes, as all is."""
        if self.cancelled is not None and self.cancelled():
            raise MiravoxError(
                str(self.path),
                found="reading that was called off",
                wanted="somebody who waits",
                remedy="Send it again.",
            )
        if self.max_seconds is not None and self.seconds > self.max_seconds:
            raise MiravoxError(
                str(self.path),
                found=f"more than {self.max_seconds:.0f} s of sound",
                wanted=f"{self.max_seconds:.0f} s at most",
                remedy="Choose a part of it, or render it with --offline.",
            )
        spent = time.thread_time() - self._cpu_began
        if spent > CPU_SECONDS + CPU_SHARE * self.seconds:
            raise MiravoxError(
                str(self.path),
                found=f"sound that took {spent:.0f} s of computing for {self.seconds:.0f} s of it",
                wanted=f"{1 / CPU_SHARE:.0f} times as fast as it is heard",
                remedy="Export it with one channel and 48,000 samples a second.",
            )
