"""A recording of any kind -> 16 kHz mono float32 speech, whole or not at all.

`read_speech` holds all of it. `open_speech` reads a long one piece by piece, again and again, in memory that does not
grow with it; it has been listened to from beginning to end before the first piece is given out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
import numpy as np

from ..arrays import FloatArray
from ..contract import SAMPLE_RATE
from ..errors import MiravoxError
from .block import Block
from .decoding_bounds import Bounds
from .file_part import CutOff
from .joined_files import parts_of
from .sound_decoder import WANTED, Piece, SoundSource, cut_off, decoded
from .sound_plan import SoundPlan, SpeechOfPieces, choose_track, survey

log = logging.getLogger("miravox")

HELD_SECONDS = 300.0  # a longer recording is read anew each time it is said


@dataclass(frozen=True)
class Speech:
    """A whole recording."""

    samples: FloatArray  # [n], n >= 1, in [-1, 1], 16 kHz mono
    bad_samples: int  # NaN or infinite values of the source that became silence
    repairs: tuple[str, ...] = ()  # what was wrong with the source, and what was done about it, one line each

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def read_speech(path: Path, max_seconds: float | None = None, cancelled: Callable[[], bool] | None = None) -> Speech:
    """Decodes any recording that FFmpeg reads to 16 kHz mono; all of it lies in memory then.

    Of several tracks the one with speech is taken, and of several channels their mean, unless one is empty, upside
    down, or has no voice. NaN and infinity become silence. What can be repaired is, and is told.

    Args:
        max_seconds: that it may last.
        cancelled: is asked again and again; once it says so, reading ends.

    Raises MiravoxError if the file is missing, unreadable, empty, cut off, damaged, no recording, has no sound, takes
    too long to decode, lasts longer than `max_seconds`, or if reading was called off.
    """
    with SpeechFile(path, max_seconds, cancelled, held_seconds=float("inf")) as file:
        return Speech(file.samples(), file.bad_samples, file.repairs)


def open_speech(
    path: Path, max_seconds: float | None = None, cancelled: Callable[[], bool] | None = None
) -> SpeechFile:
    """As `read_speech`, in bounded memory; what was repaired is logged. The file is held open, and may be removed."""
    file = SpeechFile(path, max_seconds, cancelled)
    for repair in file.repairs:
        log.warning("%s: %s", path.name, repair)
    return file


def speech_of_samples(samples: FloatArray, rate: int) -> Speech:
    """A recording that is in memory, float32 mono [n], n >= 1, at `rate` Hz."""
    to_speech, piece = SpeechOfPieces(SoundPlan(0)), Piece(np.ascontiguousarray(samples[None]), rate, 0)
    pieces = [*to_speech(piece), *to_speech.rest()]
    return Speech(np.concatenate(list(_exactly(pieces, max(1, round(piece.seconds * SAMPLE_RATE))))), 0)


def blocks(speech: FloatArray, samples_per_block: int) -> Iterator[Block]:
    """A recording as consecutive blocks, the last one as long as what is left."""
    for start in range(0, len(speech), samples_per_block):
        yield Block(start, speech[start : start + samples_per_block])


class SpeechFile:
    """A recording on disk, after it was listened to from beginning to end. `len` is how many samples it has at 16 kHz.

    Attributes:
        repairs: what was wrong with it, and what was done about it, one line each.
        bad_samples: NaN or infinite values that become silence.
    """

    def __init__(
        self,
        path: Path,
        max_seconds: float | None = None,
        cancelled: Callable[[], bool] | None = None,
        held_seconds: float | None = None,
    ) -> None:
        """Raises as `read_speech` does. A recording of up to `held_seconds` (five minutes) is held in memory."""
        self.path, self.bad_samples = path, 0
        self.repairs: tuple[str, ...] = ()
        self._held_samples = SAMPLE_RATE * (HELD_SECONDS if held_seconds is None else held_seconds)  # at most
        self._recordings: list[tuple[SoundSource, SoundPlan]] = []
        self._held: list[FloatArray] | None = []  # None: there is too much of it
        self._length = 0
        self._file = _open(path)
        try:
            self._listen(Bounds(path, max_seconds, cancelled))
        except BaseException as error:
            self.close()
            if isinstance(error, CutOff):
                raise cut_off(path, str(error)) from error
            if isinstance(error, av.error.FFmpegError):
                raise _no_recording(path, error) from error
            if isinstance(error, OSError):
                raise _unreadable(path, error) from error
            raise

    def _listen(self, bounds: Bounds) -> None:
        parts, repairs = parts_of(self._file, self.path)
        told = dict.fromkeys(repairs)  # each once, in order
        for part in parts:
            bounds.check()
            source = SoundSource(self.path, self._file, part)
            plan, is_simple = choose_track(source, bounds)
            if is_simple:  # heard and held in one go
                plan, kept = self._hear(source, plan, bounds)
            else:
                plan = survey(source, plan, bounds)
                self._hold_no_more_than(plan.samples)
                again = Bounds(self.path, cancelled=bounds.cancelled)
                kept = [] if self._held is None else list(_speech(source, plan, again))
            if self._held is not None:
                self._held += _exactly(kept, plan.samples)
            self._recordings.append((source, plan))
            self._length += plan.samples
            self.bad_samples += plan.bad
            told |= dict.fromkeys(plan.repairs)
        self.repairs = tuple(told)
        if bounds.seconds == 0:
            raise MiravoxError(
                str(self.path),
                found="a sound track without a sample",
                wanted=WANTED,
                remedy="Record or export it again.",
            )
        if self._length == 0:  # a single sample at a high rate
            self._length, self._held = 1, [np.zeros(1, np.float32)]
        if self._held is not None:
            self.close()

    def _hear(self, source: SoundSource, plan: SoundPlan, bounds: Bounds) -> tuple[SoundPlan, list[FloatArray]]:
        """Counts what there is, and keeps it as long as there is little."""
        to_speech, kept = SpeechOfPieces(plan), list[FloatArray]()
        seconds, bad = 0.0, 0
        for piece in decoded(source, plan.track, bounds):
            seconds += piece.seconds
            bad += piece.bad
            self._hold_no_more_than(round(seconds * SAMPLE_RATE))
            if self._held is None:
                kept = []
            else:
                kept += to_speech(piece)
        if self._held is not None:
            kept += to_speech.rest()
        return replace(plan, seconds=seconds, bad=bad), kept

    def _hold_no_more_than(self, samples: int) -> None:
        """Gives up holding the recording if these samples are too many."""
        if self._length + samples > self._held_samples:
            self._held = None

    def __len__(self) -> int:
        return self._length

    @property
    def seconds(self) -> float:
        return self._length / SAMPLE_RATE

    @property
    def is_held(self) -> bool:
        """Whether all of it is in memory."""
        return self._held is not None

    def samples(self) -> FloatArray:
        """All of it, float32 [len] in [-1, 1]."""
        held = list(self.pieces())
        return np.concatenate(held) if len(held) != 1 else held[0]

    def pieces(self) -> Iterator[FloatArray]:
        """All of it from the beginning, float32 [n] in [-1, 1], `len` samples in all; one iteration at a time.

        Raises MiravoxError if the file was changed since it was opened.
        """
        if self._held is not None:
            yield from self._held
            return
        try:
            for source, plan in self._recordings:
                yield from _exactly(_speech(source, plan), plan.samples)
        except av.error.FFmpegError as error:
            raise _no_recording(self.path, error) from error

    def close(self) -> None:
        """Closes the file. May be called again."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _speech(source: SoundSource, plan: SoundPlan, bounds: Bounds | None = None) -> Iterator[FloatArray]:
    """One recording that was surveyed, decoded again."""
    to_speech = SpeechOfPieces(plan)
    for piece in decoded(source, plan.track, bounds, whole=False):
        yield from to_speech(piece)
    yield from to_speech.rest()


def _exactly(pieces: Iterable[FloatArray], samples: int) -> Iterator[FloatArray]:
    """Pieces as long as the source in all: the resampler may withhold a few samples, or give a few more."""
    left = samples
    for piece in pieces:
        if left:
            yield piece[:left]
            left -= min(left, len(piece))
    if left:
        yield np.zeros(left, np.float32)


def _open(path: Path) -> BinaryIO:
    """Raises MiravoxError if there is no such file, it is empty, or can't be read."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "something other than a file" if path.exists() else "no such file"
        raise MiravoxError(str(path), found=found, wanted=WANTED, remedy="Check the path.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    if file.seek(0, 2) == 0:
        file.close()
        raise MiravoxError(str(path), found="an empty file", wanted=WANTED, remedy="Record or export it again.")
    return file


def _unreadable(path: Path, error: OSError) -> MiravoxError:
    return MiravoxError(
        str(path),
        found=f"a file that cannot be read ({error.strerror})",
        wanted=WANTED,
        remedy="Check its permissions.",
    )


def _no_recording(path: Path, error: av.error.FFmpegError) -> MiravoxError:
    return MiravoxError(
        str(path),
        found=f"something that is no recording, or was cut off ({error.strerror})",
        wanted=WANTED,
        remedy="Choose another file, or copy or record it again.",
    )
