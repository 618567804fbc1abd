"""H.264 by the GPU, tried without one: the probe, the way of a picture to the encoder, and when an encoder is opened
anew. libx264 takes the place of NVENC; where NVENC works, one test has it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.context import CodecOption

from realtime.contract import SAMPLES_PER_FRAME
from realtime.face.yuv import FrameConverter
from realtime.stream import encoders
from realtime.stream.encoders import NVENC, Packet, VideoEncoder, probe_nvenc, video_context
from realtime.stream.rate_control import START_BITRATE
from tests.nv12_pictures import SIZE, decoded, nv12, on_host

NEAR, FAR = 1_150_000, 420_000  # of START_BITRATE, 1.6 million bits per second
ROOT = Path(__file__).resolve().parents[2]


def keyframes(packets: list[Packet]) -> list[int]:
    return [(p.pts or 0) // SAMPLES_PER_FRAME for p in packets if p.is_keyframe]


# The probe


def test_without_a_gpu_the_probe_says_why() -> None:
    code = "from realtime.stream.encoders import *; print(VideoEncoder('H264', 160, True).hardware, probe_nvenc())"
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=hidden, check=True, capture_output=True, text=True
    )
    hardware, reason = found.stdout.strip().split(" ", 1)
    assert hardware == "False" and len(reason) > 10
    assert "avcodec_open2" not in reason, "FFmpeg's message, not only that it failed"
    assert found.stderr == "", "messages are collected"


def test_the_probe_leaves_ffmpeg_silent() -> None:
    before = av.logging.get_level()
    probe_nvenc.cache_clear()
    probe_nvenc()
    assert av.logging.get_level() == before


def test_a_build_of_ffmpeg_without_nvenc_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "NVENC", "h264_of_nobody")
    assert "h264_of_nobody" in str(encoders._probe([]))


def test_an_encoder_that_keeps_its_first_frame_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> av.VideoCodecContext:
        context = video_context("libx264", encoders.PROBE_SIZE, "nv12", START_BITRATE)
        context.options = {"preset": "medium"}  # it looks ahead
        return context

    monkeypatch.setattr(encoders, "video_context", slow)
    assert "at once" in str(encoders._probe([]))


def test_nvenc_encodes_where_it_works_and_libx264_elsewhere() -> None:
    encoder, convert, packets = VideoEncoder("H264", 256, hardware=True), FrameConverter(), []
    rgb = np.zeros((256, 256, 3), np.uint8)
    rgb[64:192, 32:100] = 200, 80, 40
    for k in range(60):
        if k == 30:
            encoder.request_keyframe()
        packets += encoder.encode(convert(rgb), k, START_BITRATE)
    assert encoder.hardware == (probe_nvenc() is None)
    assert [p.pts for p in packets] == [SAMPLES_PER_FRAME * k for k in range(60)]
    assert keyframes(packets)[:2] == [0, 30]
    shown = decoded(packets)
    assert len(shown) == 60 and (shown[0].colorspace, shown[0].color_range) == (1, 1)
    seen = np.asarray(shown[-1].reformat(format="rgb24", src_colorspace="itu709").to_ndarray(), float)
    assert np.abs(seen - rgb).mean() < 4


# Options


def misfits(options: dict[str, str], known: tuple[CodecOption, ...]) -> list[str]:
    """Options that the encoder does not have, or not with this value."""
    by_name, found = {option.name: option for option in known}, []
    for name, value in options.items():
        option = by_name.get(name)
        if option is None:
            found.append(name)
        elif value not in [choice.name for choice in option.choices] and not (
            value.lstrip("-").isdigit() and not option.choices and option.min <= float(value) <= option.max
        ):
            found.append(f"{name}={value}")
    return found


@pytest.mark.parametrize("size", [512, 1024])
def test_nvenc_knows_its_options(size: int) -> None:
    context = video_context(NVENC, size, "cuda", START_BITRATE)
    supported = context.supported_options
    known = supported.generic + supported.private
    assert misfits({**context.options, "gpu": "0"}, known) == ["gpu=0"], "an index among named choices; the rest fits"
    assert misfits({"preset": "superfast", "tune": "zerolatency", "zero-latency": "1", "delay": "-1"}, known) == [
        "preset=superfast",
        "tune=zerolatency",
        "zero-latency",
        "delay=-1",
    ]


def test_profile_level_and_buffer_of_nvenc() -> None:
    small, large = (video_context(NVENC, size, "cuda", 800_000) for size in (960, 976))
    assert (small.options["level"], large.options["level"]) == ("3.1", "auto")
    assert small.options["profile"] == "baseline" and small.options["bufsize"] == "200000"
    assert (small.gop_size, small.bit_rate, int(small.framerate)) == (50, 800_000, 25)
    assert (small.colorspace, small.color_primaries, small.color_trc, small.color_range) == (1, 1, 1, 1)


# A stand-in for NVENC


class Obedient:
    """An encoder that takes another bitrate while it is open, with a keyframe, as FFmpeg does with NVENC."""

    def __init__(self, context: av.VideoCodecContext) -> None:
        self._context, self._bitrate = context, context.bit_rate
        self.pix_fmt, self.bit_rate = context.pix_fmt, context.bit_rate

    def encode(self, frame: av.VideoFrame) -> list[Packet]:
        if self.bit_rate != self._bitrate:
            self._bitrate = self.bit_rate
            frame.pict_type = av.video.frame.PictureType.I
        return self._context.encode(frame)


class StandIn:
    """Makes libx264 contexts when NVENC is wanted, and takes note of what is opened."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str, int]] = []  # encoder, pixel format, bitrate
        self.kind: Callable[[av.VideoCodecContext], Any] = Obedient

    def __call__(self, encoder: str, size: int, pix_fmt: str, bitrate: int) -> Any:
        self.opened.append((encoder, pix_fmt, bitrate))
        if encoder != NVENC:
            return video_context(encoder, size, pix_fmt, bitrate)
        return self.kind(video_context("libx264", size, pix_fmt, bitrate))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn()
    monkeypatch.setattr(encoders, "video_context", made)
    monkeypatch.setattr(encoders, "probe_nvenc", lambda: None)
    return made


def run(encoder: VideoEncoder, bitrates: list[int], requests: tuple[int, ...] = ()) -> list[Packet]:
    """One frame at each bitrate."""
    packets = []
    for k, bitrate in enumerate(bitrates):
        if k in requests:
            encoder.request_keyframe()
        packets += encoder.encode(on_host(nv12(k)).to_video_frame(), k, bitrate)
    return packets


def test_nvenc_takes_the_picture_as_it_is(stand_in: StandIn) -> None:
    packets = run(VideoEncoder("H264", SIZE, hardware=True), [START_BITRATE] * 10)
    assert stand_in.opened == [(NVENC, "nv12", START_BITRATE)]
    assert [p.pts for p in packets] == [SAMPLES_PER_FRAME * k for k in range(10)]
    for k, frame in enumerate(decoded(packets)):
        y, u, v = (np.asarray(p, float) for p in np.split(frame.to_ndarray().ravel(), [SIZE**2, SIZE**2 * 5 // 4]))
        wanted = nv12(k)[:, :SIZE].astype(float)
        uv = np.stack([u, v], -1).reshape(SIZE // 2, SIZE)
        assert np.abs(y.reshape(SIZE, SIZE) - wanted[:SIZE]).mean() < 2 and np.abs(uv - wanted[SIZE:]).mean() < 2


def test_vp8_and_unwanted_hardware_stay_on_the_processor(stand_in: StandIn) -> None:
    vp8, h264 = VideoEncoder("VP8", SIZE, hardware=True), VideoEncoder("H264", SIZE)
    assert len(run(vp8, [START_BITRATE] * 3)) == 3 and len(run(h264, [START_BITRATE] * 3)) == 3
    assert [name for name, _, _ in stand_in.opened] == ["libvpx", "libx264"]
    assert not vp8.hardware and not h264.hardware


def test_software_encodes_nv12_as_it_does_the_same_in_three_planes() -> None:
    from_nv12, from_planes = VideoEncoder("H264", SIZE), VideoEncoder("H264", SIZE)
    for k in range(5):
        if k == 3:
            from_nv12.request_keyframe()
            from_planes.request_keyframe()
        picture = nv12(k)[:, :SIZE]
        flat = np.concatenate([picture[:SIZE].ravel(), picture[SIZE:, ::2].ravel(), picture[SIZE:, 1::2].ravel()])
        three = av.VideoFrame.from_ndarray(flat.reshape(SIZE * 3 // 2, SIZE), format="yuv420p")
        taken = from_nv12.encode(on_host(nv12(k)).to_video_frame(), k, START_BITRATE)
        assert [bytes(p) for p in taken] == [bytes(p) for p in from_planes.encode(three, k, START_BITRATE)]


def test_keyframes_of_nvenc_come_on_request_and_in_time(stand_in: StandIn) -> None:
    packets = run(VideoEncoder("H264", SIZE, hardware=True), [START_BITRATE] * 90, requests=(20, 21, 25))
    assert keyframes(packets) == [0, 20, 32, 82] and len(stand_in.opened) == 1


def test_a_near_bitrate_is_given_to_the_open_encoder(stand_in: StandIn) -> None:
    encoder = VideoEncoder("H264", SIZE, hardware=True)
    packets = run(encoder, [START_BITRATE] * 10 + [NEAR] * 20 + [START_BITRATE] * 5)
    assert keyframes(packets) == [0, 10, 30] and encoder.bitrate == START_BITRATE
    assert stand_in.opened == [(NVENC, "nv12", START_BITRATE)]


def test_the_keyframe_of_a_new_bitrate_answers_a_request(stand_in: StandIn) -> None:
    packets = run(VideoEncoder("H264", SIZE, hardware=True), [START_BITRATE] * 30 + [NEAR] * 15, requests=(30,))
    assert keyframes(packets) == [0, 30]


def test_a_far_bitrate_opens_the_encoder_anew(stand_in: StandIn) -> None:
    """And what is near to it then is given to the open one."""
    packets = run(VideoEncoder("H264", SIZE, hardware=True), [START_BITRATE] * 10 + [FAR] * 10 + [590_000] * 5)
    assert keyframes(packets) == [0, 10, 20]
    assert [bitrate for _, _, bitrate in stand_in.opened] == [START_BITRATE, FAR]


def test_steps_away_from_the_first_bitrate_add_up(stand_in: StandIn) -> None:
    """The buffer is that of the bitrate it was opened with."""
    run(VideoEncoder("H264", SIZE, hardware=True), [START_BITRATE] * 5 + [NEAR] * 5 + [820_000] * 5)
    assert [bitrate for _, _, bitrate in stand_in.opened] == [START_BITRATE, 820_000]


def test_an_encoder_that_keeps_its_bitrate_is_opened_anew(stand_in: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    """A bitrate that is not taken brings no keyframe."""
    caplog.set_level(logging.INFO)
    stand_in.kind = lambda context: context
    encoder = VideoEncoder("H264", SIZE, hardware=True)
    packets = run(encoder, [START_BITRATE] * 10 + [NEAR] * 10 + [START_BITRATE] * 10)
    assert keyframes(packets) == [0, 11, 20], "seen by the next frame, known from then on"
    assert [bitrate for _, _, bitrate in stand_in.opened] == [START_BITRATE, NEAR, START_BITRATE]
    assert [r.message for r in caplog.records] == [
        "NVENC keeps its bitrate while it is open: it is opened anew for every change"
    ]


def test_a_keyframe_that_is_due_proves_no_bitrate(stand_in: StandIn) -> None:
    stand_in.kind = lambda context: context
    packets = run(VideoEncoder("H264", SIZE, hardware=True), [START_BITRATE] * 50 + [NEAR] * 5)
    assert keyframes(packets) == [0, 50]
    assert [bitrate for _, _, bitrate in stand_in.opened] == [START_BITRATE, NEAR]


def test_a_keyframe_on_request_proves_no_bitrate(stand_in: StandIn) -> None:
    stand_in.kind = lambda context: context
    packets = run(VideoEncoder("H264", SIZE, hardware=True), [START_BITRATE] * 30 + [NEAR] * 15, requests=(30,))
    assert keyframes(packets) == [0, 31] and len(stand_in.opened) == 2


def test_pictures_of_another_kind_open_the_encoder_anew(stand_in: StandIn) -> None:
    encoder, convert = VideoEncoder("H264", SIZE, hardware=True), FrameConverter()
    packets = run(encoder, [START_BITRATE] * 3)
    packets += encoder.encode(convert(np.zeros((SIZE, SIZE, 3), np.uint8)), 3, START_BITRATE)
    assert [pix_fmt for _, pix_fmt, _ in stand_in.opened] == ["nv12", "yuv420p"] and keyframes(packets) == [0, 3]


def refuse(context: av.VideoCodecContext) -> av.VideoCodecContext:
    """As a GPU whose encoders are all taken: nothing opens."""
    context.options = {"preset": "none such"}
    return context


@pytest.mark.parametrize("pix_fmt", ["nv12", "yuv420p"])
def test_libx264_goes_on_where_nvenc_cannot_be_opened(
    stand_in: StandIn, caplog: pytest.LogCaptureFixture, pix_fmt: str
) -> None:
    stand_in.kind = refuse
    encoder, packets = VideoEncoder("H264", SIZE, hardware=True), []
    for k in range(3):
        packets += encoder.encode(on_host(nv12(k)).to_video_frame().reformat(format=pix_fmt), k, START_BITRATE)
    assert [name for name, _, _ in stand_in.opened] == [NVENC, "libx264"] and not encoder.hardware
    assert [p.pts for p in packets] == [0, SAMPLES_PER_FRAME, 2 * SAMPLES_PER_FRAME] and keyframes(packets) == [0]
    assert [r.levelname for r in caplog.records] == ["WARNING"] and "NVENC failed" in caplog.text


def test_what_libx264_refuses_is_raised(stand_in: StandIn) -> None:
    encoder = VideoEncoder("H264", SIZE)
    encoder._context = refuse(video_context("libx264", SIZE, "yuv420p", START_BITRATE))
    encoder.bitrate = START_BITRATE
    with pytest.raises(av.FFmpegError):
        run(encoder, [START_BITRATE])


def test_a_closed_encoder_begins_anew(stand_in: StandIn) -> None:
    encoder = VideoEncoder("H264", SIZE, hardware=True)
    packets = run(encoder, [START_BITRATE] * 2)
    encoder.close()
    packets += encoder.encode(on_host(nv12(2)).to_video_frame(), 2, START_BITRATE)
    assert keyframes(packets) == [0, 2] and len(stand_in.opened) == 2
