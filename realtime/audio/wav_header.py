"""WAV as the world writes it (RIFF, RF64, BW64, W64) -> the sound that is there, whatever its header says.

Speech servers state a length before they know it; tools join files without taking out their headers; some leave out the
padding of an odd chunk, or put the format behind the sound. Where the header can't be right, what is there is read, and
a line says so. A file that was cut off is still told from those: its header is whole, and plausible.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from .file_part import MAX_PARTS, CutOff, FilePart, places, read_at

INNER_HEADER = re.compile(rb"(?s)(?:RIFF|RF64|BW64)....WAVE[0-9A-Za-z][ -~]{3}")
RIFF_KINDS = (b"RIFF", b"RF64", b"BW64")
W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"  # of the names of its chunks
UNKNOWN_BYTES = 0x7FFF_0000  # programs that don't know the length state this much or more
ROUND_BYTES = 10_000_000  # ... or a round number: a multiple of this
LONGEST_SECONDS, SMALL_SHARE = 6 * 3600.0, 0.5  # ... or hours, of which the file has less than half
MAX_FORMAT_BYTES = 4096
MAX_CHUNKS = 200  # of one header
TAIL_BYTES = 65_536  # a chunk of text behind sound of unknown length lies within so much of the end


@dataclass
class _Header:
    """What one header says."""

    at: int  # where it begins
    form: bytes  # the format chunk's contents
    start: int  # of the sound
    promised: int  # bytes of sound
    whole: int  # bytes of all, as the outermost length says
    unusual: bool  # FFmpeg would not find its way through the chunks


def wav_parts(file: BinaryIO, size: int) -> tuple[list[FilePart], list[str]]:
    """The recordings in a WAV file, none if there is no sound behind its header; and what had to be repaired.

    Raises CutOff if the file was cut off.
    """
    begins = _header_places(file, size)
    if len(begins) > MAX_PARTS:
        return [FilePart(at, size) for at in begins], []  # too many; none of them is looked at
    ends = [*begins[1:], size]
    headers = [h for at, end in zip(begins, ends, strict=True) if (h := _header(file, at, end)) is not None]
    if not headers or headers[0].at != 0:
        return [FilePart(0, size)], []  # FFmpeg says what is wrong with it
    parts, repairs = [], []
    inner = 0
    for number, header in enumerate(headers):
        last = number == len(headers) - 1
        limit = size if last else headers[number + 1].at
        end, repair = _sound_end(file, header, limit, last, size)
        if repair:
            repairs.append(repair)
        if end > header.start:
            parts.append(FilePart(header.start, end, _new_header(header.form, end - header.start)))
        else:
            inner += not last
    if len(headers) == 1 and parts and not repairs and not headers[0].unusual:
        return [FilePart(0, size)], []
    if len(parts) > 1:
        repairs.insert(0, f"{len(parts)} recordings are joined, each with its own header: all of them are read")
    elif inner:
        repairs.insert(0, "its sound begins with a second header: left out")
    return parts, repairs


def _header_places(file: BinaryIO, size: int) -> list[int]:
    """Where headers begin: the file's own, and those within the sound."""
    if read_at(file, 0, 16) == W64_RIFF:
        return [0, *places(file, re.compile(re.escape(W64_RIFF)), 16, 16, size)]
    return [0, *places(file, INNER_HEADER, 16, 12, size)]


def _header(file: BinaryIO, at: int, limit: int) -> _Header | None:
    """What is said between `at` and `limit`. None if there is no sound or no format in it."""
    w64 = read_at(file, at, 16) == W64_RIFF
    outer = read_at(file, at, 40 if w64 else 12)
    if len(outer) < (40 if w64 else 12):
        return None
    whole = struct.unpack("<Q", outer[16:24])[0] if w64 else struct.unpack("<I", outer[4:8])[0] + 8
    form, start, promised, unusual = b"", 0, 0, False
    sizes64: tuple[int, int] | None = None
    next_chunk = at + len(outer)
    for _ in range(MAX_CHUNKS):
        if (chunk := _chunk(file, next_chunk, w64)) is None:
            break
        name, count, body = chunk
        if name == b"fmt " and not form:
            form = read_at(file, body, min(count, MAX_FORMAT_BYTES))
            unusual |= bool(start)
        elif name == b"ds64" and count >= 16:
            sizes64 = struct.unpack("<QQ", read_at(file, body, 16).ljust(16, b"\0"))
        elif name == b"data" and not start:
            start, promised = body, count
            if sizes64 is not None and count == 0xFFFFFFFF:
                whole, promised = sizes64[0] + 8, sizes64[1]
        if form and start:
            break
        end = body + count
        padded = end + (-(end - at) % 8 if w64 else count % 2)
        next_chunk = padded
        if not w64 and padded != end and not _is_name(read_at(file, padded, 4)) and _is_name(read_at(file, end, 4)):
            next_chunk, unusual = end, True
        if next_chunk >= limit:
            break
    if len(form) < 14 or not start:
        return None
    return _Header(at, form, start, promised, whole, unusual)


def _chunk(file: BinaryIO, at: int, w64: bool) -> tuple[bytes, int, int] | None:
    """Name, length of the contents, and where they begin. None: there is none."""
    header = read_at(file, at, 24 if w64 else 8)
    if not w64:
        return (header[:4], struct.unpack("<I", header[4:])[0], at + 8) if len(header) == 8 else None
    if len(header) < 24:
        return None
    name = header[:4] if header[4:16] == W64_TAIL else b""
    return name, max(0, struct.unpack("<Q", header[16:])[0] - 24), at + 24


def _sound_end(file: BinaryIO, header: _Header, limit: int, last: bool, size: int) -> tuple[int, str]:
    """Where the sound of one header ends, and what was repaired. Raises CutOff."""
    there = limit - header.start
    end = header.start + header.promised
    lie = f"its header promises {header.promised} bytes of sound where {there} are: they are read"
    if header.promised <= there and (header.promised or not there):
        if _only_chunks(file, end, limit):
            return end, ""
        return limit, lie
    if not header.promised:
        return (
            (header.start, "") if _only_chunks(file, header.start, limit) else (_without_tail(file, header, limit), lie)
        )
    if not last:
        return limit, ""  # another header lies in what this one promises: they were joined
    frame = struct.unpack("<H", header.form[12:14])[0]
    if end - limit < max(2, frame) and end - limit < frame:  # a part of one sample
        return limit, lie
    if header.whole in (size, size + 1) or _is_placeholder(header, there):
        return _without_tail(file, header, limit), lie
    raise CutOff(f"{size} bytes, {end - size} fewer than its header promises")


def _is_placeholder(header: _Header, there: int) -> bool:
    """Whether a length was stated before it was known."""
    for stated in (header.promised, header.whole, header.whole - 8):
        if stated <= 0 or stated >= UNKNOWN_BYTES or stated % ROUND_BYTES == 0:
            return True
    second = max(1, struct.unpack("<I", header.form[8:12])[0])  # bytes
    return header.promised > LONGEST_SECONDS * second and there < SMALL_SHARE * header.promised


def _only_chunks(file: BinaryIO, at: int, limit: int) -> bool:
    """Whether nothing but further chunks follow, or a few bytes of padding."""
    for _ in range(MAX_CHUNKS):
        if limit - at <= 8:
            break
        at += at % 2 if not _is_name(read_at(file, at, 4)) else 0
        header = read_at(file, at, 8)
        if len(header) < 8 or not _is_name(header[:4]):
            return not any(read_at(file, at, limit - at)) if limit - at <= TAIL_BYTES else False
        at += 8 + int(struct.unpack("<I", header[4:])[0])
        if at > limit + 1:
            return False
    return not any(read_at(file, at, max(0, limit - at)))


def _without_tail(file: BinaryIO, header: _Header, limit: int) -> int:
    """Where sound of unknown length ends: before a chunk of text that reaches to the very end, if there is one."""
    for name in (b"LIST", b"id3 "):
        for at in places(file, re.compile(name), 4, max(header.start, limit - TAIL_BYTES), limit - 4):
            count = int(struct.unpack("<I", read_at(file, at + 4, 4))[0])
            if at + 8 + count in (limit, limit - 1) or at + 8 + count + count % 2 == limit:
                return at
    return limit


def _is_name(name: bytes) -> bool:
    """Whether four bytes can be the name of a chunk."""
    return len(name) == 4 and name.isascii() and name.decode("latin1").isprintable() and name[:1].isalnum()


def _new_header(form: bytes, sound_bytes: int) -> bytes:
    """A header that says what is there; FFmpeg takes a length of zero for all that follows."""
    known = sound_bytes if sound_bytes < UNKNOWN_BYTES else 0
    padded = form + b"\0" * (len(form) % 2)
    chunks = struct.pack("<4sI", b"fmt ", len(form)) + padded + struct.pack("<4sI", b"data", known)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks) + known, b"WAVE") + chunks
