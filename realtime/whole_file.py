"""Writing a file so that it is there as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a hidden path beside `path` to write to. On leaving, the file written there replaces `path` in one step. On
    leaving with an exception (an interruption included) it is deleted, and `path` stays as it was.

    So whoever reads `path` meanwhile, or after a crash, finds the old file or the new one, never a part of one. The
    hidden path has the same suffix, which some libraries take the format from. A link stays a link: the file that it
    points to is replaced.

    Raises OSError if the file system refuses, FileNotFoundError also if nothing was written.
    """
    target = path.resolve()
    partial = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
