"""RecordingFile: the file of a recording, which holds whole fragments of MP4 only, whatever happens."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path

from ..errors import MiravoxError
from ..whole_file import replacing

SYNC_SECONDS = 1.0  # how much a disk that is pulled out, or a power cut, may take
BINARY = getattr(os, "O_BINARY", 0)  # Windows would change line ends
WANTED = "a place where an MP4 file can be written"


class RecordingFile:
    """What an MP4 muxer writes to. `commit` puts what it wrote so far on the disk, in one piece; a piece that did not
    fit is taken away again, so that the file ends where the last whole one does.

    The file appears with the first piece. Until then an earlier file that may be replaced stays what it was.
    """

    def __init__(self, path: Path, force: bool = False) -> None:
        """`force`: a file that is there already may be replaced.

        Raises MiravoxError if there is one and it may not, or if no file can be written there.
        """
        self.path, self.force = path, force
        self.target = path.resolve()  # a link is not replaced, but what it points to
        self.committed_bytes = 0
        self._pending = bytearray()
        self._descriptor: int | None = None
        self._synced = time.monotonic()
        check_place(path, force)
        try:
            if self.target.exists():
                os.close(os.open(self.target, os.O_WRONLY))
            else:  # it is a trial: the file comes with the first piece
                os.close(self._create())
                self.target.unlink()
        except FileExistsError as error:
            raise exists_already(path) from error
        except OSError as error:
            found = f"a place that cannot be written ({error.strerror})"
            remedy = "Make the folder, or choose another one."
            raise MiravoxError(str(path), found=found, wanted=WANTED, remedy=remedy) from error

    def _create(self) -> int:
        return os.open(self.target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | BINARY, 0o666)

    def write(self, data: bytes) -> int:
        """Called by the muxer."""
        self._pending += data
        return len(data)

    def commit(self) -> None:
        """What was written is a whole piece. Raises MiravoxError if it cannot be kept; those before it are."""
        piece, self._pending = bytes(self._pending), bytearray()
        if not piece:
            return
        try:
            if self._descriptor is None and self.force and self.target.exists():
                with replacing(self.target) as partial:  # so it stays if the disk is full
                    partial.write_bytes(piece)
                self._descriptor = os.open(self.target, os.O_WRONLY | os.O_APPEND | BINARY)
                self.committed_bytes = len(piece)
                return
            if self._descriptor is None:
                self._descriptor = self._create()
            self._append(self._descriptor, piece)
        except FileExistsError as error:
            raise exists_already(self.path) from error
        except OSError as error:
            self._drop_part()
            raise MiravoxError(
                str(self.path),
                found=f"a disk that takes no more ({error.strerror})",
                wanted=WANTED,
                remedy="Free some space, or choose another folder.",
            ) from error

    def _append(self, descriptor: int, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        self.committed_bytes += len(piece)
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(descriptor)
            self._synced = time.monotonic()

    def _drop_part(self) -> None:
        """The file ends with the last whole piece again."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a disk that is gone cannot do that either
                os.ftruncate(self._descriptor, self.committed_bytes)

    def close(self) -> None:
        """What was written after the last `commit` is dropped. May be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with contextlib.suppress(OSError):  # what is kept was committed; there is no more to be done about the rest
            os.close(descriptor)
        if self.committed_bytes == 0:
            with contextlib.suppress(OSError):
                self.target.unlink()


def check_place(path: Path, force: bool) -> None:
    """Raises MiravoxError if something is there already which a recording must not replace. Opens nothing."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # nothing, or nothing that could be looked at: opening it says why
    if not stat.S_ISREG(mode):
        found = "a folder" if stat.S_ISDIR(mode) else "something other than a file"
        raise MiravoxError(str(path), found=found, wanted=WANTED, remedy="Name a file.")
    if not force:
        raise exists_already(path)


def exists_already(path: Path) -> MiravoxError:
    return MiravoxError(
        str(path),
        found="a file that is there already",
        wanted="a name that is free",
        remedy="Name another file, or replace this one with --force.",
    )


def free_name(path: Path) -> Path:
    """`path`, or if something is there already the next of NAME-2, NAME-3 ... beside it that is free."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free
