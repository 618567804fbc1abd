"""Files that were joined end to end, with their headers -> the recordings in them, each to be decoded on its own.

Programs that speak sentence by sentence save them so. A decoder stops at the second header, or takes it for damage.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import MiravoxError
from .file_part import MAX_PARTS, CutOff, FilePart, places, read_at, size_of
from .wav_header import RIFF_KINDS, W64_RIFF, wav_parts

MAX_BOXES = 100_000  # of an MP4: two for each second of hours
OGG_PAGE_BYTES = 27 + 255 + 255 * 255  # at most
OGG_FIRST_PAGE = re.compile(rb"OggS\x00\x02")
FLAC_HEADER = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
AIFF_HEADER = re.compile(rb"(?s)FORM....AIF[FC][A-Z]{4}")
AU_HEADER = re.compile(rb"(?s)\.snd\x00\x00[\x00-\x0f].")
EBML = b"\x1a\x45\xdf\xa3"
MAX_PADDING = 4096  # zeros behind an ID3 tag
XING_AT = (36, 21, 13)  # where an mp3 frame has "Xing" or "Info": MPEG-1 stereo, mono or MPEG-2 stereo, MPEG-2 mono


def parts_of(file: BinaryIO, path: Path) -> tuple[list[FilePart], tuple[str, ...]]:
    """The recordings in a file, in order, and what had to be repaired to find them.

    Raises MiravoxError if there are too many of them, and CutOff if a WAV or Ogg file was cut off.
    """
    size = size_of(file)
    first = read_at(file, 0, 16)
    if first[:4] in RIFF_KINDS or first == W64_RIFF:
        parts, repairs = wav_parts(file, size)
        _check_count(len(parts), path)
        return parts, tuple(repairs)
    if first[:4] == b"OggS":
        _check_last_page(file, size)
        begins = _ogg(file, size)
    elif first[:4] == b"fLaC":
        begins = places(file, FLAC_HEADER, 8, 4, size)
    elif first[:4] == b"FORM":
        begins = places(file, AIFF_HEADER, 16, 4, size)
    elif first[:4] == b".snd":
        begins = places(file, AU_HEADER, 8, 4, size)
    elif first[:4] == EBML:
        begins = _matroska(file, size)
    elif first[4:8] == b"ftyp":
        begins = _mp4(file, size)
    elif first[:3] == b"ID3" or (first[:1] == b"\xff" and len(first) > 1 and first[1] & 0xE6 == 0xE2):
        begins = _mp3(file, size)
    else:
        begins = iter(())
    starts = [0]
    for at in begins:
        starts.append(at)
        _check_count(len(starts), path)
    parts = [FilePart(a, b) for a, b in zip(starts, [*starts[1:], size], strict=True)]
    if len(parts) == 1:
        return parts, ()
    return parts, (f"{len(parts)} recordings are joined, each with its own header: all of them are read",)


def _check_count(count: int, path: Path) -> None:
    if count > MAX_PARTS:
        raise MiravoxError(
            str(path),
            found=f"more than {MAX_PARTS} recordings in one file",
            wanted=f"{MAX_PARTS} at most",
            remedy="Export it as one recording.",
        )


def _ogg(file: BinaryIO, size: int) -> Iterator[int]:
    """First pages that don't follow another first page: those of one recording, one a stream, lie together."""
    expected = 0
    for at in places(file, OGG_FIRST_PAGE, 6, 0, size):
        if at != expected:
            yield at
        page = read_at(file, at, 27 + 255)
        segments = page[26] if len(page) > 26 else 0
        expected = at + 27 + segments + sum(page[27 : 27 + segments])


def _check_last_page(file: BinaryIO, size: int) -> None:
    """Raises CutOff if the last page is longer by its own header. FFmpeg takes such a file for a shorter recording."""
    start = max(0, size - OGG_PAGE_BYTES)
    tail = read_at(file, start, OGG_PAGE_BYTES)
    page = tail.rfind(b"OggS")
    if page < 0:
        return
    segments = tail[page + 26] if page + 26 < len(tail) else 0
    end = start + page + 27 + segments + sum(tail[page + 27 : page + 27 + segments])
    if end > size:
        raise CutOff(f"{size} bytes, {end - size} fewer than its header promises")


def _matroska(file: BinaryIO, size: int) -> Iterator[int]:
    for at in places(file, re.compile(re.escape(EBML)), 4, 4, size):
        header = read_at(file, at, 64)
        if b"\x42\x82" in header and (b"webm" in header or b"matroska" in header):
            yield at


def _mp4(file: BinaryIO, size: int) -> Iterator[int]:
    at, has_index = 0, False
    for _ in range(MAX_BOXES):
        box = read_at(file, at, 16)
        if len(box) < 8:
            return
        count, kind = struct.unpack(">I4s", box[:8])
        if count == 1 and len(box) == 16:
            count = struct.unpack(">Q", box[8:])[0]
        if kind == b"ftyp" and has_index:
            yield at
            has_index = False
        has_index |= kind == b"moov"
        if count < 8 or at + count > size:  # to the end of the file, or damaged
            return
        at += count


def _mp3(file: BinaryIO, size: int) -> Iterator[int]:
    """ID3 tags before a frame, and frames that tell how many follow, but for the first of each."""
    first_frame = _tag_end(file, 0, size)
    if first_frame == 0 and read_at(file, 0, 3) == b"ID3":
        return  # no frame behind the first tag: nothing here is what it should be
    tags = (at for at in places(file, re.compile(b"ID3"), 3, 3, size) if _tag_end(file, at, size) > at)
    covered = first_frame
    for at in sorted({*tags, *_table_frames(file, first_frame, size)}):
        if at <= covered:  # the frame that a tag stands before
            continue
        yield at
        covered = max(at, _tag_end(file, at, size))


def _table_frames(file: BinaryIO, start: int, size: int) -> Iterator[int]:
    for at in places(file, re.compile(b"Xing|Info"), 4, start, size):
        before = read_at(file, max(0, at - 36), 36)
        for distance in XING_AT:
            frame = before[len(before) - distance :]
            if len(frame) == distance and frame[0] == 0xFF and frame[1] & 0xE6 == 0xE2 and not any(frame[6:]):
                yield at - distance
                break


def _tag_end(file: BinaryIO, at: int, size: int) -> int:
    """Where the frame behind an ID3 tag begins; `at` itself if there is no tag, or no frame behind it."""
    tag = read_at(file, at, 10)
    if len(tag) < 10 or tag[:3] != b"ID3" or not 2 <= tag[3] <= 4 or tag[5] & 0x0F or max(tag[6:]) > 0x7F:
        return at
    end = at + 10 + sum(digit << shift for digit, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    behind = read_at(file, end, MAX_PADDING)
    frame = behind.lstrip(b"\0")
    if end < size and len(frame) > 1 and frame[0] == 0xFF and frame[1] & 0xE0 == 0xE0:
        return end + len(behind) - len(frame)
    return at
