"""Any recording that FFmpeg reads -> takes: upright 8-bit frames at 25 a second, and the speech that they show.

A recording's clock begins with its first picture. Frame k of a take shows the picture that is nearest to 40 k ms on it,
and the speech of the same take has 640 samples for each frame, whenever the sound itself begins and ends. Pictures are
upright (rotated and mirrored as the file says), have square pixels and are sRGB; HDR is mapped down by swscale.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from numpy.typing import NDArray

from networks.contract import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from realtime.resampler import mono

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]

WANTED = "a video file that FFmpeg reads (mp4, mov, mkv, webm, avi, mpg, mts, ...)"
FRAME_PIXELS = 512  # side of the frames that an avatar is trained on
# Containers of videos. Left out: playlists, which name other files and addresses.
FORMATS = "asf,avi,dv,flv,gif,h264,hevc,ivf,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,nut,ogg,rm,yuv4mpegpipe"
UNKNOWN_MATRIX = (0, 2)  # of RGB, and unspecified
SEEKABLE = ("mov", "matroska")  # formats with an index, where seeking is exact
HD_LINES = 720  # a picture of fewer lines is BT.601 where the file does not say, else BT.709
HDR_TRANSFERS = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ, HLG
GAP_SECONDS = 0.06  # sound that lies so far from where the last packet ended is put where it belongs
CUT_OFF_SECONDS = 0.5  # pictures may end so long before the file says


@dataclass(frozen=True)
class Crop:
    """A square of the upright picture, resampled to size x size pixels. What lies outside is the nearest pixel's."""

    left: int  # pixels of the upright picture
    top: int
    side: int
    size: int = FRAME_PIXELS

    def __call__(self, frame: ByteArray) -> ByteArray:
        height, width = frame.shape[:2]
        right, bottom = self.left + self.side, self.top + self.side
        piece = frame[max(0, self.top) : min(height, bottom), max(0, self.left) : min(width, right)]
        margins = (max(0, -self.top), max(0, bottom - height), max(0, -self.left), max(0, right - width))
        if any(margins):
            piece = np.asarray(cv2.copyMakeBorder(piece, *margins, cv2.BORDER_REPLICATE), np.uint8)
        if self.side == self.size:
            return np.ascontiguousarray(piece)
        method = cv2.INTER_AREA if self.side > self.size else cv2.INTER_LANCZOS4
        return np.asarray(cv2.resize(piece, (self.size, self.size), interpolation=method), np.uint8)

    def to_crop(self, points: FloatArray) -> FloatArray:
        """Points [..., 2] of the upright picture -> of the cropped frame."""
        return np.asarray((points - (self.left, self.top)) * (self.size / self.side), np.float32)

    def from_crop(self, points: FloatArray) -> FloatArray:
        """Points [..., 2] of the cropped frame -> of the upright picture."""
        return np.asarray(points * (self.side / self.size) + (self.left, self.top), np.float32)


@dataclass(frozen=True)
class Recording:
    """What a file says of itself."""

    path: Path
    width: int  # pixels of the upright picture with square pixels
    height: int
    seconds: float  # of pictures
    frame_rate: float  # pictures a second, on average
    variable: bool  # whether their distances differ
    bits: int  # a colour channel
    hdr: bool
    interlaced: bool
    codec: str
    kilobits: int  # a second, of the whole file
    sound: str  # codec and rate; empty: no sound
    start: float  # seconds: when the first picture is shown, in the file's own time


@dataclass(frozen=True)
class Frames:
    """Frames of a recording, decoded anew each time they are iterated over: uint8 [H, W, 3] sRGB."""

    recording: Recording
    first: int  # on the recording's clock, 25 a second
    end: int
    crop: Crop | None

    def __len__(self) -> int:
        return self.end - self.first

    def __iter__(self) -> Iterator[ByteArray]:
        for picture in _nearest(self.recording, self.first, self.end):
            yield picture if self.crop is None else self.crop(picture)


@dataclass(frozen=True)
class Take:
    """An uninterrupted piece of a recording."""

    name: str
    recording: Recording
    first: int  # frames first .. end - 1 of the recording's clock
    end: int
    speech: FloatArray  # [640 * frame_count] 16 kHz mono, of the same moments; zeros where there is no sound
    crop: Crop | None = None

    @property
    def frames(self) -> Frames:
        """Iterable again and again; each pass decodes."""
        return Frames(self.recording, self.first, self.end, self.crop)

    @property
    def frame_count(self) -> int:
        return self.end - self.first

    @property
    def width(self) -> int:
        return self.recording.width if self.crop is None else self.crop.size

    @property
    def height(self) -> int:
        return self.recording.height if self.crop is None else self.crop.size

    def piece(self, name: str, first: int, end: int) -> Take:
        """Frames first .. end - 1 of this take as a take of its own."""
        speech = self.speech[first * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME]
        return dataclasses.replace(self, name=name, first=self.first + first, end=self.first + end, speech=speech)

    def cropped(self, crop: Crop) -> Take:
        return dataclasses.replace(self, crop=crop)

    def shifted(self, seconds: float) -> Take:
        """The same pictures with a sound that comes `seconds` later (negative: sooner); silence where none is left."""
        samples = round(seconds * SAMPLE_RATE)
        speech = np.zeros_like(self.speech)
        if samples >= 0:
            speech[samples:] = self.speech[: len(speech) - samples]
        else:
            speech[:samples] = self.speech[-samples:]
        return dataclasses.replace(self, speech=speech)


def open_take(path: Path, name: str = "") -> Take:
    """A recording as one take, uncropped: its packets are read, its sound is decoded, its pictures not yet.

    Raises MiravoxError if the file is missing, unreadable, cut off, or shows no moving pictures.
    """
    recording = probe(path)
    end = max(1, math.floor(recording.seconds * FRAME_RATE + 0.01))
    return Take(name or path.stem, recording, 0, end, _speech(recording, end * SAMPLES_PER_FRAME))


def probe(path: Path) -> Recording:
    """Reads every packet of a file, but decodes only its first picture."""
    if not path.is_file() or path.stat().st_size == 0:
        found = "a folder" if path.is_dir() else "an empty file" if path.is_file() else "no such file"
        raise MiravoxError(str(path), found=found, wanted=WANTED, remedy="Check the path.")
    try:
        with _open(path) as container:
            if not container.streams.video or _is_picture(container.streams.video[0]):
                kinds = " and ".join(sorted({s.type for s in container.streams})) or "no"
                found = f"{kinds} streams only" if not container.streams.video else "a single picture"
                raise MiravoxError(str(path), found=found, wanted=WANTED, remedy="Choose a video that shows the face.")
            times = _picture_times(container, path)
        with _open(path) as container:
            return _describe(container, path, times)
    except av.error.FFmpegError as error:
        raise MiravoxError(
            str(path), found=f"something that is no video, or is damaged ({error.strerror})", wanted=WANTED,
            remedy="Choose another file, or copy or export it again.",
        ) from error  # fmt: skip


def _open(path: Path) -> av.container.InputContainer:
    return av.open(f"file:{path}", options={"format_whitelist": FORMATS, "protocol_whitelist": "file"})


def _is_picture(stream: av.VideoStream) -> bool:
    """Whether it is a cover picture of a sound file."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _picture_times(container: av.container.InputContainer, path: Path) -> list[float]:
    """When each picture is shown (seconds, sorted), and as last value when the last one ends."""
    stream = container.streams.video[0]
    times, last = [], 0.0
    for packet in container.demux(stream):
        if packet.pts is None or packet.is_discard or packet.time_base is None:
            continue
        begin = float(packet.pts * packet.time_base)
        times.append(begin)
        last = max(last, begin + float((packet.duration or 0) * packet.time_base))
    if len(times) < 2:
        raise MiravoxError(
            str(path), found=f"{len(times)} pictures", wanted=WANTED, remedy="Choose a video that shows the face."
        )
    times.sort()
    if container.duration is not None and "matroska" in container.format.name:  # its header says how long it is
        stated = container.duration / av.time_base - CUT_OFF_SECONDS
        reached = max(last, *_sound_ends(path))
        if reached - min(0.0, times[0]) < stated:
            raise _cut_off(path, reached, stated + CUT_OFF_SECONDS)
    return [*times, max(last, times[-1] + (times[-1] - times[0]) / (len(times) - 1))]


def _sound_ends(path: Path) -> list[float]:
    """When the last packet of each sound stream ends, seconds."""
    ends = [0.0]
    with _open(path) as container:
        for packet in container.demux(*container.streams.audio) if container.streams.audio else ():
            if packet.pts is not None and packet.time_base is not None:
                ends.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return ends


def _cut_off(path: Path, found: float, wanted: float) -> MiravoxError:
    return MiravoxError(
        str(path), found=f"a file that was cut off or is damaged ({found:.2f} s)", wanted=f"the {wanted:.2f} s that it "
        "promises", remedy="Copy or export it again.",
    )  # fmt: skip


def _describe(container: av.container.InputContainer, path: Path, times: list[float]) -> Recording:
    stream = container.streams.video[0]
    sound = container.streams.audio[0] if container.streams.audio else None
    first = next(container.decode(stream), None)
    if first is None:
        raise MiravoxError(
            str(path), found="no picture that can be decoded", wanted=WANTED, remedy="Copy or export it again."
        )
    height, width = _upright(np.zeros((first.height, first.width), np.uint8), first, _aspect(stream)).shape
    distances = np.diff(times[:-1])
    usual = float(np.median(distances))
    return Recording(
        path=path, width=width, height=height, seconds=times[-1] - times[0],
        frame_rate=round((len(times) - 1) / (times[-1] - times[0]), 3),
        variable=bool(np.mean(np.abs(distances - usual) > 0.25 * usual) > 0.02),
        bits=max(c.bits for c in first.format.components), hdr=first.color_trc in HDR_TRANSFERS,
        interlaced=first.interlaced_frame, codec=stream.codec_context.name,
        kilobits=round((container.bit_rate or 0) / 1000),
        sound=f"{sound.codec_context.name} {sound.sample_rate} Hz" if sound is not None else "", start=times[0],
    )  # fmt: skip


def _aspect(stream: av.VideoStream) -> float:
    """Width of a pixel over its height."""
    return float(stream.sample_aspect_ratio or 1) or 1.0


def _nearest(recording: Recording, first: int, end: int) -> Iterator[ByteArray]:
    """Upright pictures, each the one nearest to 40 k ms on the recording's clock, k = first .. end - 1.

    Raises MiravoxError if the pictures end long before.
    """
    k, before, time_before = first, None, 0.0
    reformatter = VideoReformatter()
    try:
        with _open(recording.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"err_detect": "explode"}  # damage is told, not painted over
            aspect = _aspect(stream)
            seekable = any(name in container.format.name for name in SEEKABLE)
            if seekable and first > 2 * FRAME_RATE and stream.time_base is not None:
                start = recording.start + first / FRAME_RATE - 1
                container.seek(int(start / stream.time_base), stream=stream, backward=True)
            for picture in _progressive(container, stream, recording.interlaced):
                if picture.pts is None or picture.time_base is None:
                    continue
                time = float(picture.pts * picture.time_base) - recording.start
                if before is not None:
                    shown = None
                    while k < end and k / FRAME_RATE <= (time_before + time) / 2:
                        shown = _rgb(before, aspect, reformatter) if shown is None else shown
                        yield shown
                        k += 1
                if k >= end:
                    return
                before, time_before = picture, time
    except av.error.FFmpegError as error:
        raise MiravoxError(
            str(recording.path), found=f"pictures that are damaged after {time_before:.2f} s ({error.strerror})",
            wanted=WANTED, remedy="Copy or export it again.",
        ) from error  # fmt: skip
    if before is None or (end - 1) / FRAME_RATE - time_before > CUT_OFF_SECONDS:
        raise _cut_off(recording.path, time_before, recording.seconds)
    last = _rgb(before, aspect, reformatter)
    for _ in range(k, end):
        yield last


def _progressive(
    container: av.container.InputContainer, stream: av.VideoStream, interlaced: bool
) -> Iterator[av.VideoFrame]:
    """Decoded pictures; interlaced ones whole."""
    if not interlaced:
        yield from container.decode(stream)
        return
    graph = av.filter.Graph()
    bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    graph.link_nodes(graph.add_buffer(template=stream), bwdif, graph.add("buffersink")).configure()
    for picture in container.decode(stream):
        graph.vpush(picture)
        yield from _pulled(graph)
    graph.vpush(None)
    yield from _pulled(graph)


def _pulled(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _rgb(picture: av.VideoFrame, aspect: float, reformatter: VideoReformatter) -> ByteArray:
    """uint8 [H, W, 3] sRGB, upright. `reformatter` is the same for all pictures: its tables for HDR take seconds."""
    matrix = picture.colorspace
    if matrix in UNKNOWN_MATRIX:
        matrix = Colorspace.ITU601 if picture.height < HD_LINES else Colorspace.ITU709
    whole_range = picture.format.is_rgb or picture.format.name.startswith("yuvj")
    more = (
        {"dst_color_trc": ColorTrc.IEC61966_2_1, "dst_color_primaries": ColorPrimaries.BT709}
        if picture.color_trc in HDR_TRANSFERS
        else {}
    )
    converted = reformatter.reformat(
        picture, format="rgb24", src_colorspace=matrix, dst_color_range=ColorRange.JPEG,
        src_color_range=ColorRange.JPEG if whole_range else picture.color_range or ColorRange.MPEG, **more,
    )  # fmt: skip
    return _upright(np.asarray(converted.to_ndarray(), np.uint8), picture, aspect)


def _upright(image: ByteArray, picture: av.VideoFrame, aspect: float) -> ByteArray:
    """Square pixels, then turned and mirrored as the picture's display matrix says."""
    if not math.isclose(aspect, 1):
        size = (max(1, round(image.shape[1] * aspect)), image.shape[0])
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    side_data = cast(SideDataContainer, picture.side_data)  # PyAV's stub describes it as something else
    if SideDataType.DISPLAYMATRIX not in side_data:
        return image
    matrix = bytes(side_data[SideDataType.DISPLAYMATRIX])
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5] / 65536.0  # x' = a x + c y; y' = b x + d y
    across, down = (a, d) if abs(a) > abs(c) else (c, b)
    if abs(a) <= abs(c):
        image = image.swapaxes(0, 1)
    return np.ascontiguousarray(image[:: 1 if down > 0 else -1, :: 1 if across > 0 else -1])


def _speech(recording: Recording, samples: int) -> FloatArray:
    """The sound [samples] at 16 kHz, mono, from the recording's first picture on; zeros where there is none."""
    speech = np.zeros(samples, np.float32)
    if not recording.sound:
        return speech
    pieces: list[FloatArray] = []
    begin, rate, count = 0.0, 0, 0

    def put() -> None:
        if pieces:
            _mix(speech, _resampled(np.concatenate(pieces), rate), round((begin - recording.start) * SAMPLE_RATE))

    try:
        with _open(recording.path) as container:
            for frame in container.decode(container.streams.audio[0]):
                if frame.pts is None or frame.time_base is None:
                    continue
                time = float(frame.pts * frame.time_base)
                if frame.sample_rate != rate or abs(begin + count / rate - time) > GAP_SECONDS:
                    put()
                    pieces, begin, rate, count = [], time, frame.sample_rate, 0
                values, _ = mono(frame)
                pieces.append(values)
                count += len(values)
            put()
    except av.error.FFmpegError as error:
        reached = begin + count / rate if rate else 0.0
        raise MiravoxError(
            str(recording.path), found=f"sound that is damaged after {reached:.2f} s ({error.strerror})",
            wanted=WANTED, remedy="Copy or export it again.",
        ) from error  # fmt: skip
    return speech


def _resampled(values: FloatArray, rate: int) -> FloatArray:
    """Mono at `rate` Hz -> at 16 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    carrier = av.AudioFrame.from_ndarray(np.ascontiguousarray(values[None]), format="flt", layout="mono")
    carrier.sample_rate = rate
    out = [*resampler.resample(carrier), *resampler.resample(None)]
    return np.asarray(np.clip(np.concatenate([f.to_ndarray()[0] for f in out]), -1, 1), np.float32)


def _mix(speech: FloatArray, piece: FloatArray, start: int) -> None:
    """Puts a piece where it belongs; what lies before the first or after the last sample is left out."""
    first, end = max(0, start), min(len(speech), start + len(piece))
    if first < end:
        speech[first:end] = piece[first - start : end - start]
