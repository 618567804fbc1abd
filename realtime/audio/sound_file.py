"""A recording of any kind -> 16 kHz mono float32 speech, whole or not at all."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np

from ..arrays import FloatArray
from ..contract import SAMPLE_RATE
from ..errors import MiravoxError
from .block import Block
from .resampler import mono

WANTED = "an audio or video file with sound that FFmpeg reads (wav, mp3, flac, m4a, ogg, mp4, ...)"
# FFmpeg's formats for recordings. Left out: playlists, which name other files and addresses, and text drawn as video.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,"
    "ogg,rm,sox,tak,tta,voc,w64,wav,wv"
)
# Those whose header states how long the recording is, containers their longest stream. For others FFmpeg guesses.
SOUNDS_WITH_DURATION = {"aiff", "au", "flac"}
CONTAINERS_WITH_DURATION = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"}
CUT_OFF_SECONDS = 0.25  # a stated duration may be this much longer than the sound: encoders round it up
UNKNOWN_WAV_BYTES = 0x7FFF_0000  # programs that write wav into a pipe state this much or more, not knowing the length
OGG_PAGE_BYTES = 27 + 255 + 255 * 255  # at most


@dataclass(frozen=True)
class Speech:
    """A whole recording."""

    samples: FloatArray  # [n], n >= 1, in [-1, 1], 16 kHz mono
    bad_samples: int  # NaN or infinite values of the source that became silence

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def read_speech(path: Path, max_seconds: float | None = None) -> Speech:
    """Decodes any recording that FFmpeg reads to 16 kHz mono: resampled, channels averaged, NaN and infinity silenced.

    Raises MiravoxError if the file is missing, unreadable, empty, cut off, damaged, no recording, has no sound, or
    lasts longer than `max_seconds`.
    """
    try:
        _check_whole(path)
        with av.open(f"file:{path}", options={"format_whitelist": FORMATS, "protocol_whitelist": "file"}) as container:
            return _decode(container, path, max_seconds)
    except av.error.FFmpegError as error:
        raise MiravoxError(
            str(path),
            found=f"something that is no recording, or was cut off ({error.strerror})",
            wanted=WANTED,
            remedy="Choose another file, or copy or record it again.",
        ) from error
    except OSError as error:
        raise MiravoxError(
            str(path),
            found=f"a file that cannot be read ({error.strerror})",
            wanted=WANTED,
            remedy="Check its permissions.",
        ) from error


def speech_of_samples(samples: FloatArray, rate: int) -> Speech:
    """A recording that is in memory, float32 mono [n], n >= 1, at `rate` Hz."""
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
    frame.sample_rate = rate
    mixer = _Mixer()
    mixer.add(frame)
    return mixer.speech()


def blocks(speech: FloatArray, samples_per_block: int) -> Iterator[Block]:
    """A recording as consecutive blocks, the last one as long as what is left."""
    for start in range(0, len(speech), samples_per_block):
        yield Block(start, speech[start : start + samples_per_block])


def _check_whole(path: Path) -> None:
    """Raises MiravoxError if there is no such file, it is empty, or is a wav or ogg shorter than its headers say.

    FFmpeg itself takes one that was cut off for a shorter recording.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "something other than a file" if path.exists() else "no such file"
        raise MiravoxError(str(path), found=found, wanted=WANTED, remedy="Check the path.")
    size = path.stat().st_size
    if size == 0:
        raise MiravoxError(str(path), found="an empty file", wanted=WANTED, remedy="Record or export it again.")
    with path.open("rb") as f:
        kind = f.read(4)
        if kind == b"RIFF":
            end = _wav_end(f)
        else:
            end = _ogg_end(f, size) if kind == b"OggS" else 0
    if end > size:
        raise _cut_off(path, f"{size} bytes, {end - size} fewer than its header promises")


def _wav_end(f: BinaryIO) -> int:
    """Where the data chunk ends by its own header; 0 if there is none or it states no length."""
    f.seek(12)
    while len(header := f.read(8)) == 8:
        kind, size = struct.unpack("<4sI", header)
        if kind == b"data":
            start: int = f.tell()
            return start + size if size < UNKNOWN_WAV_BYTES else 0
        f.seek(size + size % 2, 1)
    return 0


def _ogg_end(f: BinaryIO, size: int) -> int:
    """Where the last page ends by its own header."""
    start = f.seek(max(0, size - OGG_PAGE_BYTES))
    tail = f.read()
    page = tail.rfind(b"OggS")
    if page < 0:
        return 0
    segments = tail[page + 26] if page + 26 < len(tail) else 0
    body = sum(tail[page + 27 : page + 27 + segments])
    return start + page + 27 + segments + body


def _mp3_states_duration(path: Path) -> bool:
    """Whether an mp3 opens with a Xing or Info header that has the number of frames."""
    with path.open("rb") as f:
        tag = f.read(10)
        if tag[:3] == b"ID3" and len(tag) == 10:  # its length is in four digits of seven bits
            f.seek(10 + sum(digit << shift for digit, shift in zip(tag[6:], (21, 14, 7, 0), strict=True)))
        else:
            f.seek(0)
        first = f.read(64)
    at = max(first.find(b"Xing"), first.find(b"Info"))
    return at > 0 and first[0] == 0xFF and len(first) >= at + 8 and bool(first[at + 7] & 1)


def _decode(container: av.container.InputContainer, path: Path, max_seconds: float | None) -> Speech:
    if not container.streams.audio:
        kinds = " and ".join(sorted({s.type for s in container.streams})) or "no"
        raise MiravoxError(
            str(path),
            found=f"{kinds} streams only",
            wanted=WANTED,
            remedy="Choose a file with a sound track; if it should have one, the file was cut off.",
        )
    sound = container.streams.audio[0]
    mixer = _Mixer()
    reached = 0.0  # seconds; of every stream, since the longest one makes the duration
    try:
        for packet in container.demux():
            if packet.pts is not None and packet.duration and packet.time_base:
                reached = max(reached, float((packet.pts + packet.duration) * packet.time_base))
            if packet.stream_index == sound.index:
                for frame in packet.decode():
                    assert isinstance(frame, av.AudioFrame)
                    mixer.add(frame)
                if max_seconds is not None and mixer.seconds > max_seconds:
                    raise MiravoxError(
                        str(path),
                        found=f"more than {max_seconds:.0f} s of sound",
                        wanted=f"{max_seconds:.0f} s at most",
                        remedy="Choose a part of it, or render it with --offline.",
                    )
    except av.error.FFmpegError as error:
        raise MiravoxError(
            str(path),
            found=f"sound that breaks off or is damaged after {mixer.seconds:.2f} s ({error.strerror})",
            wanted=WANTED,
            remedy="Record, copy or export it again.",
        ) from error
    if mixer.seconds == 0:
        raise MiravoxError(
            str(path), found="a sound track without a sample", wanted=WANTED, remedy="Record or export it again."
        )
    if container.format.name in SOUNDS_WITH_DURATION or _mp3_states_duration(path):
        _check_duration(container, mixer.seconds, path)
    elif container.format.name in CONTAINERS_WITH_DURATION:
        _check_duration(container, reached, path)
    return mixer.speech()


def _check_duration(container: av.container.InputContainer, seconds: float, path: Path) -> None:
    """Raises MiravoxError if the header states more than `seconds`."""
    if container.duration is None:
        return
    stated = (container.duration + min(0, container.start_time or 0)) / av.time_base
    if seconds < stated - CUT_OFF_SECONDS:
        raise _cut_off(path, f"{seconds:.2f} s, but its header promises {stated:.2f} s")


def _cut_off(path: Path, found: str) -> MiravoxError:
    return MiravoxError(
        str(path),
        found=f"a file that was cut off or damaged ({found})",
        wanted="a whole recording",
        remedy="Copy or record it again.",
    )


class _Mixer:
    """Decoded frames of any kind -> one recording, 16 kHz mono."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.bad_samples = 0
        self._rate = 0  # Hz, of the frames
        self._resampler: av.AudioResampler | None = None
        self._pieces: list[FloatArray] = []

    def add(self, frame: av.AudioFrame) -> None:
        if frame.sample_rate != self._rate:  # the first frame; then only where recordings were joined
            self._flush()
            self._rate = frame.sample_rate
            self._resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        values, bad = mono(frame)
        self.bad_samples += bad
        self.seconds += len(values) / self._rate
        carrier = av.AudioFrame.from_ndarray(values[None], format="flt", layout="mono")
        carrier.sample_rate = self._rate
        self._resample(carrier)

    def _resample(self, carrier: av.AudioFrame | None) -> None:
        assert self._resampler is not None
        self._pieces += [np.asarray(out.to_ndarray()[0], np.float32) for out in self._resampler.resample(carrier)]

    def _flush(self) -> None:
        if self._resampler is not None:
            self._resample(None)

    def speech(self) -> Speech:
        """All that was added, as long as the source: the resampler may withhold a few samples of a short one."""
        self._flush()
        samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.float32)
        length = max(1, round(self.seconds * SAMPLE_RATE))
        samples = np.pad(samples[:length], (0, max(0, length - len(samples))))
        return Speech(np.clip(samples, -1, 1), self.bad_samples)
