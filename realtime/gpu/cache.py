"""The user's cache: plans and kernels that were built for this machine before, each file whole or absent."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..errors import MiravoxError
from ..whole_file import replacing

PLAN_BYTES = 20e6  # about what the plan of the largest network needs


def cache_folder() -> Path:
    """The user's cache of Miravox: $XDG_CACHE_HOME/miravox, or ~/.cache/miravox."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "miravox"


def plan_folder() -> Path:
    return cache_folder() / "plans"


def kernel_folder() -> Path:
    return cache_folder() / "kernels"


def check_writable(folder: Path) -> None:
    """Makes the folder if it is missing. Raises MiravoxError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _not_writable(folder, error) from error


def kept(path: Path) -> bytes | None:
    """A file of the cache, or None if it is not there. Raises MiravoxError if it cannot be read."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MiravoxError(
            str(path),
            found=error.strerror or str(error),
            wanted="a file that can be read",
            remedy="Delete it: it will be made anew.",
        ) from error


def keep(path: Path, data: bytes) -> None:
    """Writes a file of the cache, the whole of it or nothing, and its folder if that is missing.

    Raises MiravoxError if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise _not_writable(path.parent, error) from error


def _not_writable(folder: Path, error: OSError) -> MiravoxError:
    return MiravoxError(
        str(folder),
        found=error.strerror or str(error),
        wanted=f"a folder that can be written, with room for {PLAN_BYTES / 1e6:.0f} MB a plan",
        remedy="Make room there, or name another folder in XDG_CACHE_HOME.",
    )
