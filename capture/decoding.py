"""Pictures and sound of a recording on one clock, which begins with its first picture.

Pictures are upright (rotated and mirrored as the file says), have square pixels and are sRGB; HDR is mapped down by
swscale.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from capture.recording import (
    CUT_OFF_SECONDS,
    HDR_TRANSFERS,
    WANTED,
    Recording,
    cut_off,
    open_container,
    pixel_aspect,
    same_shape,
    upright,
)
from realtime.arrays import ByteArray, FloatArray
from realtime.audio.sound_decoder import channels
from realtime.contract import FRAME_RATE, SAMPLE_RATE
from realtime.errors import MiravoxError

UNKNOWN_MATRIX = (0, 2)  # of RGB, and unspecified
SEEKABLE = ("mov", "matroska")  # formats with an index, where seeking is exact
HD_LINES = 720  # a picture of fewer lines is BT.601 where the file does not say, else BT.709
GAP_SECONDS = 0.06  # sound that lies so far from where the last packet ended is put where it belongs


def pictures(recording: Recording, first: int, end: int) -> Iterator[ByteArray]:
    """Upright pictures, each the one nearest to 40 k ms on the recording's clock, k = first .. end - 1. Those that are
    smaller or larger than the recording's are brought to its size.

    Raises MiravoxError if the pictures end long before, or change their shape.
    """
    k, before, time_before = first, None, 0.0
    reformatter = VideoReformatter()
    try:
        with open_container(recording.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.options = {"err_detect": "explode"}  # damage is told, not painted over
            aspect = pixel_aspect(stream)
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
                        shown = _shown(before, aspect, reformatter, recording) if shown is None else shown
                        yield shown
                        k += 1
                if k >= end:
                    return
                before, time_before = picture, time
    except av.error.FFmpegError as error:
        raise MiravoxError(
            str(recording.path),
            found=f"pictures that are damaged after {time_before:.2f} s ({error.strerror})",
            wanted=WANTED,
            remedy="Copy or export it again.",
        ) from error
    if before is None or (end - 1) / FRAME_RATE - time_before > CUT_OFF_SECONDS:
        raise cut_off(recording.path, time_before, recording.seconds)
    last = _shown(before, aspect, reformatter, recording)
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


def _shown(picture: av.VideoFrame, aspect: float, reformatter: VideoReformatter, recording: Recording) -> ByteArray:
    """A picture at the recording's size. Raises MiravoxError if it has another shape, as when a phone was turned."""
    image = _rgb(picture, aspect, reformatter)
    wanted, found = (recording.width, recording.height), (image.shape[1], image.shape[0])
    if found == wanted:
        return image
    if not same_shape(found, wanted):
        time = float((picture.pts or 0) * (picture.time_base or 0)) - recording.start
        sizes = [f"{width} x {height}" for width, height in (found, wanted)]
        raise MiravoxError(
            str(recording.path),
            found=f"a picture of {sizes[0]} pixels at {time:.2f} s, where others have {sizes[1]}",
            wanted="one shape and one way up from beginning to end",
            remedy="Cut it there, and give each part as a video of its own.",
        )
    method = cv2.INTER_AREA if found[0] > wanted[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, wanted, interpolation=method), np.uint8)


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
        picture,
        format="rgb24",
        src_colorspace=matrix,
        dst_color_range=ColorRange.JPEG,
        src_color_range=ColorRange.JPEG if whole_range else picture.color_range or ColorRange.MPEG,
        **more,
    )
    return upright(np.asarray(converted.to_ndarray(), np.uint8), picture, aspect)


def speech(recording: Recording, samples: int) -> FloatArray:
    """The sound [samples] at 16 kHz, mono, from the recording's first picture on; zeros where there is none."""
    sound, plan = np.zeros(samples, np.float32), recording.plan
    if plan is None:
        return sound
    pieces: list[FloatArray] = []
    begin, rate, count = 0.0, 0, 0

    def put() -> None:
        if pieces:
            _mix(sound, _resampled(np.concatenate(pieces), rate), round((begin - recording.start) * SAMPLE_RATE))

    try:
        with open_container(recording.path) as container:
            for frame in container.decode(container.streams.audio[plan.track]):
                if frame.pts is None or frame.time_base is None:
                    continue
                time = float(frame.pts * frame.time_base)
                if frame.sample_rate != rate or abs(begin + count / rate - time) > GAP_SECONDS:
                    put()
                    pieces, begin, rate, count = [], time, frame.sample_rate, 0
                values, _ = channels(frame)
                pieces.append(plan.mono(values))
                count += values.shape[1]
            put()
    except av.error.FFmpegError as error:
        reached = begin + count / rate if rate else 0.0
        raise MiravoxError(
            str(recording.path),
            found=f"sound that is damaged after {reached:.2f} s ({error.strerror})",
            wanted=WANTED,
            remedy="Copy or export it again.",
        ) from error
    return sound


def _resampled(values: FloatArray, rate: int) -> FloatArray:
    """Mono at `rate` Hz -> at 16 kHz."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    carrier = av.AudioFrame.from_ndarray(np.ascontiguousarray(values[None]), format="flt", layout="mono")
    carrier.sample_rate = rate
    out = [*resampler.resample(carrier), *resampler.resample(None)]
    return np.asarray(np.clip(np.concatenate([f.to_ndarray()[0] for f in out]), -1, 1), np.float32)


def _mix(sound: FloatArray, piece: FloatArray, start: int) -> None:
    """Puts a piece where it belongs; what lies before the first or after the last sample is left out."""
    first, end = max(0, start), min(len(sound), start + len(piece))
    if first < end:
        sound[first:end] = piece[first - start : end - start]
