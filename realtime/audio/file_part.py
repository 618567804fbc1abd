"""One recording within a file: the bytes that a decoder should see, and the search for where recordings begin."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

SEARCH_BYTES = 2**20  # looked through at once
MAX_PARTS = 4096  # recordings in one file
MAX_PLACES = 65_536  # a file that was made to have more is not searched to its end


class CutOff(Exception):
    """The file ends before its header says. The argument says by how much."""


@dataclass(frozen=True)
class FilePart:
    """Bytes `start` .. `end` - 1 of a file, and what stands before them instead of the file's own header."""

    start: int
    end: int
    header: bytes = b""


class PartReader:
    """A part as a file of its own, which FFmpeg reads. What lies beyond it can't be reached.

    The file stays open as long as its owner keeps it, so that it may be removed meanwhile. Readers of one file take
    turns on one thread.
    """

    def __init__(self, file: BinaryIO, part: FilePart) -> None:
        self.name = file.name  # its ending helps FFmpeg where the contents could be of several formats
        self._file, self._part = file, part
        self._size = len(part.header) + part.end - part.start
        self._at = 0

    def read(self, count: int) -> bytes:
        """At most `count` bytes, none at the end."""
        header = self._part.header
        if self._at < len(header):
            data = header[self._at : self._at + count]
        else:
            self._file.seek(self._part.start + self._at - len(header))
            data = self._file.read(max(0, min(count, self._size - self._at)))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def read_at(file: BinaryIO, at: int, count: int) -> bytes:
    """At most `count` bytes from `at` on."""
    file.seek(at)
    return file.read(count)


def places(file: BinaryIO, pattern: re.Pattern[bytes], length: int, start: int, end: int) -> Iterator[int]:
    """Where a pattern of `length` bytes stands between `start` and `end`, in order; the first 65,536 places at most."""
    at = start
    found = 0
    while at < end and found < MAX_PLACES:
        data = read_at(file, at, min(SEARCH_BYTES, end - at))
        if len(data) < length:
            return
        for match in pattern.finditer(data):
            yield at + match.start()
            found += 1
        at += len(data) - length + 1
