"""Sound of any format, decoded piece by piece (PyAV), within bounds: only sound, at rates and for as long as can be.

Nothing but decoders of sound is ever opened: pictures in a file cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from ..arrays import FloatArray
from ..errors import MiravoxError
from .decoding_bounds import Bounds
from .file_part import FilePart, PartReader
from .pcm import MAX_RATE, MIN_RATE

WANTED = "an audio or video file with sound that FFmpeg reads (wav, mp3, flac, m4a, ogg, mp4, ...)"
# FFmpeg's formats for recordings. Left out: playlists, which name other files and addresses, and text drawn as video.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,dv,eac3,flac,flv,gsm,loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,"
    "ogg,rm,sox,tak,tta,voc,w64,wav,wv"
)
# Those whose header states how long the recording is, containers their longest stream. For others FFmpeg guesses.
SOUNDS_WITH_DURATION = {"aiff", "au", "flac"}
CONTAINERS_WITH_DURATION = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}
CUT_OFF_SECONDS = 0.25  # a stated duration may be this much longer than the sound: encoders round it up
MAX_CHANNELS = 32
MAX_FRAME_SAMPLES = "1048576"  # of a decoded frame: no format has a quarter of that
PIECE_SECONDS = 1.0  # decoded frames are handed on together


@dataclass(frozen=True)
class Piece:
    """About a second of decoded sound."""

    values: FloatArray  # [channels, n]; full scale is 1, louder is not clipped; finite
    rate: int  # Hz
    bad: int  # values that were NaN or infinite: zeros now

    @property
    def seconds(self) -> float:
        return int(self.values.shape[1]) / self.rate


@cache
def sound_codecs() -> str:
    """The names of FFmpeg's decoders of sound."""
    names = sorted(av.codec.codecs_available)
    return ",".join(name for name in names if _decodes_sound(name))


def _decodes_sound(name: str) -> bool:
    try:
        return av.codec.Codec(name, "r").type == "audio"
    except ValueError:  # it only encodes
        return False


@dataclass(frozen=True)
class SoundSource:
    """One recording in an open file."""

    path: Path  # what it is called
    file: BinaryIO
    part: FilePart

    def open(self) -> av.container.InputContainer:
        """Opens it, and nothing that it may refer to."""
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "none", "codec_whitelist": sound_codecs()}
        reader = PartReader(self.file, self.part)
        return av.open(reader, "r", options=options, metadata_errors="replace")

    def mp3_states_duration(self) -> bool:
        """Whether an mp3 opens with a Xing or Info header that has the number of frames."""
        reader = PartReader(self.file, self.part)
        tag = reader.read(10)
        if tag[:3] == b"ID3" and len(tag) == 10:  # its length is in four digits of seven bits
            reader.seek(10 + sum(digit << shift for digit, shift in zip(tag[6:], (21, 14, 7, 0), strict=True)))
        else:
            reader.seek(0)
        first = reader.read(64)
        at = max(first.find(b"Xing"), first.find(b"Info"))
        return at > 0 and first[0] == 0xFF and len(first) >= at + 8 and bool(first[at + 7] & 1)


def decodable(container: av.container.InputContainer) -> list[int]:
    """Which of the sound tracks FFmpeg has a decoder for."""
    return [i for i, s in enumerate(container.streams.audio) if getattr(s, "codec_context", None) is not None]


def decoded(source: SoundSource, track: int, bounds: Bounds | None = None, whole: bool = True) -> Iterator[Piece]:
    """The sound of one track, in pieces of about a second.

    Args:
        bounds: are checked after every piece.
        whole: read the file to its end, and see to it that it is as long as it says.

    Raises MiravoxError if it is damaged, cut off, or out of bounds; av.error.FFmpegError if it can't be opened.
    """
    path, gathered = source.path, _Gathered()
    seconds = reached = 0.0  # of this track; of every stream, since the longest one makes the duration
    with source.open() as container:
        sound = container.streams.audio[track]
        sound.codec_context.options = {"max_samples": MAX_FRAME_SAMPLES}
        try:
            for packet in container.demux() if whole else container.demux(sound):
                if packet.pts is not None and packet.duration and packet.time_base:
                    reached = max(reached, float((packet.pts + packet.duration) * packet.time_base))
                if packet.stream.index != sound.index:  # the last packet of each stream has no index itself
                    continue
                for frame in packet.decode():
                    assert isinstance(frame, av.AudioFrame)
                    seconds += frame.samples / _checked_rate(frame, path)
                    for piece in gathered.add(frame):
                        _count(piece, bounds)
                        yield piece
        except av.error.FFmpegError as error:
            raise MiravoxError(
                str(path),
                found=f"sound that breaks off or is damaged after {seconds:.2f} s ({error.strerror})",
                wanted=WANTED,
                remedy="Record, copy or export it again.",
            ) from error
        for piece in gathered.rest():
            _count(piece, bounds)
            yield piece
        if whole and seconds:
            if container.format.name in SOUNDS_WITH_DURATION or source.mp3_states_duration():
                _check_duration(container, seconds, path)
            elif container.format.name in CONTAINERS_WITH_DURATION:
                _check_duration(container, reached, path)


def _count(piece: Piece, bounds: Bounds | None) -> None:
    if bounds is not None:
        bounds.seconds += piece.seconds
        bounds.check()


class _Gathered:
    """Frames that wait until they are a second together."""

    def __init__(self) -> None:
        self._frames: list[FloatArray] = []
        self._rate = self._samples = self._bad = 0

    def add(self, frame: av.AudioFrame) -> Iterator[Piece]:
        values, bad = channels(frame)
        if self._frames and (frame.sample_rate != self._rate or len(values) != len(self._frames[0])):
            yield from self.rest()
        self._frames.append(values)
        self._rate = frame.sample_rate
        self._samples += values.shape[1]
        self._bad += bad
        if self._samples >= PIECE_SECONDS * self._rate:
            yield from self.rest()

    def rest(self) -> Iterator[Piece]:
        if self._frames:
            piece = Piece(np.concatenate(self._frames, axis=1), self._rate, self._bad)
            self._frames, self._samples, self._bad = [], 0, 0
            yield piece


def channels(frame: av.AudioFrame) -> tuple[FloatArray, int]:
    """A frame as float32 [channels, n], full scale is 1; and how many values were NaN or infinite: zeros now.

    By hand, since FFmpeg's resampler refuses channel layouts that have no name, and would smear a NaN over its
    neighbours.
    """
    values: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype == np.uint8:
        return np.asarray((values.astype(np.float32) - 128) / np.float32(128), np.float32), 0
    if np.issubdtype(values.dtype, np.integer):
        return values.astype(np.float32) / np.float32(2 ** (8 * values.itemsize - 1)), 0
    good = np.isfinite(values)
    bad = int(values.size - np.count_nonzero(good))
    if bad:
        values = np.where(good, values, 0)
    if values.dtype == np.float64:  # what is beyond float32 would become infinite
        values = np.clip(values, -3e38, 3e38)
    return np.asarray(values, np.float32), bad


def _checked_rate(frame: av.AudioFrame, path: Path) -> int:
    rate, count = frame.sample_rate, frame.layout.nb_channels
    if MIN_RATE <= rate <= MAX_RATE and count <= MAX_CHANNELS:
        return rate
    raise MiravoxError(
        str(path),
        found=f"{rate} samples a second of {count} channels",
        wanted=f"{MIN_RATE} to {MAX_RATE} samples a second of at most {MAX_CHANNELS} channels",
        remedy="Export it with one channel and 48,000 samples a second.",
    )


def _check_duration(container: av.container.InputContainer, seconds: float, path: Path) -> None:
    """Raises MiravoxError if the header states more than `seconds`."""
    if container.duration is None:
        return
    stated = (container.duration + min(0, container.start_time or 0)) / av.time_base
    if seconds < stated - CUT_OFF_SECONDS:
        raise cut_off(path, f"{seconds:.2f} s, but its header promises {stated:.2f} s")


def cut_off(path: Path, found: str) -> MiravoxError:
    """The error of a file that ends before it says."""
    return MiravoxError(
        str(path),
        found=f"a file that was cut off or damaged ({found})",
        wanted="a whole recording",
        remedy="Copy or record it again.",
    )
