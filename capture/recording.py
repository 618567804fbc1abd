"""What a video file says of itself: its packets are read, its pictures but the first are not decoded yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorTrc

from realtime.arrays import ByteArray
from realtime.audio.file_part import FilePart
from realtime.audio.sound_decoder import SoundSource
from realtime.audio.sound_plan import SoundPlan, choose_track, survey
from realtime.errors import MiravoxError

WANTED = "a video file that FFmpeg reads (mp4, mov, mkv, webm, avi, mpg, mts, ...)"
# Containers of videos. Left out: playlists, which name other files and addresses.
FORMATS = "asf,avi,dv,flv,gif,h264,hevc,ivf,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,nut,ogg,rm,yuv4mpegpipe"
HDR_TRANSFERS = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ, HLG
SAME_SHAPE = 0.03  # small sizes are rounded
CUT_OFF_SECONDS = 0.5  # pictures may end so long before the file says


@dataclass(frozen=True, kw_only=True)
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
    sound: str  # codec and rate of the track with the speech; empty: no sound
    start: float  # seconds: when the first picture is shown, in the file's own time
    plan: SoundPlan | None = None  # how the sound becomes speech; None: no sound
    repairs: tuple[str, ...] = ()  # what is wrong with the file, and what is done about it, one line each


def probe(path: Path) -> Recording:
    """Reads every packet of a file and its sound, but decodes only its first picture and some others."""
    if not path.is_file() or path.stat().st_size == 0:
        found = "a folder" if path.is_dir() else "an empty file" if path.is_file() else "no such file"
        raise MiravoxError(str(path), found=found, wanted=WANTED, remedy="Check the path.")
    try:
        with open_container(path) as container:
            if not container.streams.video or _is_picture(container.streams.video[0]):
                kinds = " and ".join(sorted({s.type for s in container.streams})) or "no"
                found = f"{kinds} streams only" if not container.streams.video else "a single picture"
                raise MiravoxError(str(path), found=found, wanted=WANTED, remedy="Choose a video that shows the face.")
            times, keyframes = _picture_times(container, path)
        shapes = _shapes(path) if keyframes < len(times) - 1 else []
        with open_container(path) as container:
            return _describe(container, path, times, shapes)
    except av.error.FFmpegError as error:
        raise MiravoxError(
            str(path),
            found=f"something that is no video, or is damaged ({error.strerror})",
            wanted=WANTED,
            remedy="Choose another file, or copy or export it again.",
        ) from error


def open_container(path: Path) -> av.container.InputContainer:
    """Opens a video file, and nothing that it may refer to."""
    return av.open(f"file:{path}", options={"format_whitelist": FORMATS, "protocol_whitelist": "file"})


def _is_picture(stream: av.VideoStream) -> bool:
    """Whether it is a cover picture of a sound file."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _picture_times(container: av.container.InputContainer, path: Path) -> tuple[list[float], int]:
    """When each picture is shown (seconds, sorted), and as last value when the last one ends; and how many of them can
    be decoded without others.
    """
    stream = container.streams.video[0]
    times, last, keyframes = [], 0.0, 0
    for packet in container.demux(stream):
        if packet.pts is None or packet.is_discard or packet.time_base is None:
            continue
        begin = float(packet.pts * packet.time_base)
        times.append(begin)
        keyframes += packet.is_keyframe
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
            raise cut_off(path, reached, stated + CUT_OFF_SECONDS)
    return [*times, max(last, times[-1] + (times[-1] - times[0]) / (len(times) - 1))], keyframes


def _shapes(path: Path) -> list[tuple[int, int]]:
    """Width and height of the upright pictures, in order, each that differs from the one before.

    Seen in those that can be decoded without others: there an encoder begins with another size.
    """
    shapes: list[tuple[int, int]] = []
    with open_container(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONKEY"
        aspect = pixel_aspect(stream)
        for picture in container.decode(stream):
            height, width = upright(np.zeros((picture.height, picture.width), np.uint8), picture, aspect).shape
            if not shapes or shapes[-1] != (width, height):
                shapes.append((width, height))
    return shapes


def _sound_plan(container: av.container.InputContainer, path: Path) -> tuple[SoundPlan | None, tuple[str, ...]]:
    """How the sound becomes speech, None if there is none; and what had to be repaired."""
    if not container.streams.audio:
        return None, ()
    with path.open("rb") as file:
        source = SoundSource(path, file, FilePart(0, path.stat().st_size))
        try:
            track, _ = choose_track(source)
        except MiravoxError as error:  # a film that nobody can hear is still one
            return None, (f"without sound: {error.found}",)
        plan = survey(source, track, whole=False)
    return (plan, plan.repairs) if plan.seconds else (None, ("without sound: its track is empty",))


def _sound_ends(path: Path) -> list[float]:
    """When the last packet of each sound stream ends, seconds."""
    ends = [0.0]
    with open_container(path) as container:
        for packet in container.demux(*container.streams.audio) if container.streams.audio else ():
            if packet.pts is not None and packet.time_base is not None:
                ends.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return ends


def cut_off(path: Path, found: float, wanted: float) -> MiravoxError:
    """The error of a file that ends before it says; both in seconds."""
    return MiravoxError(
        str(path),
        found=f"a file that was cut off or is damaged ({found:.2f} s)",
        wanted=f"the {wanted:.2f} s that it promises",
        remedy="Copy or export it again.",
    )


def _describe(
    container: av.container.InputContainer, path: Path, times: list[float], shapes: list[tuple[int, int]]
) -> Recording:
    stream = container.streams.video[0]
    plan, repairs = _sound_plan(container, path)
    sound = container.streams.audio[plan.track] if plan is not None else None
    first = next(container.decode(stream), None)
    if first is None:
        raise MiravoxError(
            str(path), found="no picture that can be decoded", wanted=WANTED, remedy="Copy or export it again."
        )
    height, width = upright(np.zeros((first.height, first.width), np.uint8), first, pixel_aspect(stream)).shape
    alike = [shape for shape in shapes if same_shape(shape, (width, height))]
    if len(set(alike)) > 1:
        width, height = max(alike)
        listed = ", then ".join(f"{w} x {h}" for w, h in alike[:4]) + (" ..." if len(alike) > 4 else "")
        repairs = (*repairs, f"its picture changes its size ({listed}): all of it is shown at {width} x {height}")
    distances = np.diff(times[:-1])
    usual = float(np.median(distances))
    return Recording(
        path=path,
        width=width,
        height=height,
        seconds=times[-1] - times[0],
        frame_rate=round((len(times) - 1) / (times[-1] - times[0]), 3),
        variable=bool(np.mean(np.abs(distances - usual) > 0.25 * usual) > 0.02),
        bits=max(c.bits for c in first.format.components),
        hdr=first.color_trc in HDR_TRANSFERS,
        interlaced=first.interlaced_frame,
        codec=stream.codec_context.name,
        kilobits=round((container.bit_rate or 0) / 1000),
        sound=f"{sound.codec_context.name} {sound.sample_rate} Hz" if sound is not None else "",
        start=times[0],
        plan=plan,
        repairs=repairs,
    )


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes differ by a scale alone. Width and height, pixels."""
    return abs(one[0] * other[1] - one[1] * other[0]) < SAME_SHAPE * one[0] * other[1]


def pixel_aspect(stream: av.VideoStream) -> float:
    """Width of a pixel over its height."""
    return float(stream.sample_aspect_ratio or 1) or 1.0


def upright(image: ByteArray, picture: av.VideoFrame, aspect: float) -> ByteArray:
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
