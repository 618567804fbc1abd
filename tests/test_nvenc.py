"""H.264 by the GPU, tried without one: the probe, the way of a picture to the encoder, and when an encoder is opened
anew. libx264 takes the place of NVENC; where NVENC works, one test has it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.codec.context import CodecOption
from numpy.typing import NDArray

from networks.contract import SAMPLES_PER_FRAME
from realtime import device_frame, encoders
from realtime.device_frame import CPU, CUDA, DeviceFrame
from realtime.encoders import NVENC, START_BITRATE, Packet, VideoEncoder, probe_nvenc, video_context
from realtime.yuv import FrameConverter

SIZE, PITCH = 160, 192
NEAR, FAR = 1_150_000, 420_000  # of START_BITRATE, 1.6 million bits per second
ROOT = Path(__file__).resolve().parents[1]
ByteArray = NDArray[np.uint8]


def nv12(k: int, size: int = SIZE, pitch: int = PITCH) -> ByteArray:
    """uint8 [3 size / 2, pitch]: a smooth picture that moves, with rubbish beyond its width."""
    found = np.full((size * 3 // 2, pitch), 255, np.uint8)
    wave = np.sin((np.arange(size) + 3 * k) / 20)[None, :] * np.cos(np.arange(size) / 17)[:, None]
    found[:size, :size] = 126 + 90 * wave
    found[size:, :size] = 128 + 60 * wave[::2]
    return found


def on_host(picture: ByteArray, size: int = SIZE) -> DeviceFrame:
    return DeviceFrame(picture.ctypes.data, picture.shape[1], size, size, 0, CPU, owner=picture)


def noise(size: int = SIZE) -> ByteArray:
    return np.random.default_rng(3).integers(16, 236, (size * 3 // 2, PITCH)).astype(np.uint8)


def planes_of(frame: av.VideoFrame) -> tuple[ByteArray, ByteArray]:
    """Y [H, W] and UV [H / 2, W] of an nv12 frame."""
    flat = np.asarray(frame.to_ndarray(), np.uint8)
    return flat[: frame.height], flat[frame.height :]


def decoded(packets: list[Packet]) -> list[av.VideoFrame]:
    context = av.CodecContext.create("h264", "r")
    assert isinstance(context, av.VideoCodecContext)
    return [frame for packet in [*packets, None] for frame in context.decode(packet)]


def keyframes(packets: list[Packet]) -> list[int]:
    return [(p.pts or 0) // SAMPLES_PER_FRAME for p in packets if p.is_keyframe]


# The probe


def test_without_a_gpu_the_probe_says_why() -> None:
    code = "from realtime.encoders import *; e = VideoEncoder('H264', 160, True); print(e.hardware, probe_nvenc())"
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
        "preset=superfast", "tune=zerolatency", "zero-latency", "delay=-1",
    ]  # fmt: skip


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


# Pictures by DLPack


@pytest.mark.parametrize("pitch", [SIZE, PITCH])
def test_planes_are_views_of_the_picture(pitch: int) -> None:
    picture = nv12(1, pitch=pitch)
    frame = on_host(picture)
    luma: Any = frame.luma  # NumPy's stubs know no streams
    chroma: Any = frame.chroma
    y, uv = np.from_dlpack(luma), np.from_dlpack(chroma)
    assert np.array_equal(y, picture[:SIZE, :SIZE])
    assert np.array_equal(uv.reshape(SIZE // 2, SIZE), picture[SIZE:, :SIZE]) and uv.shape[2] == 2
    picture[5, 7] = 33
    assert y[5, 7] == 33, "no copy"


def test_a_lossless_encoder_returns_the_picture_exactly() -> None:
    picture = noise()
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width = context.height = SIZE
    context.pix_fmt, context.time_base = "nv12", Fraction(1, 25)
    context.options = {"qp": "0", "preset": "ultrafast", "tune": "zerolatency"}
    frame = on_host(picture).to_video_frame()
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    (shown,) = decoded(context.encode(frame))
    y, uv = planes_of(shown.reformat(format="nv12"))
    assert np.array_equal(y, picture[:SIZE, :SIZE]) and np.array_equal(uv, picture[SIZE:, :SIZE])


def test_a_frame_says_its_colours() -> None:
    frame = on_host(nv12(0)).to_video_frame()
    assert frame.format.name == "nv12" and [p.line_size for p in frame.planes] == [PITCH, PITCH]
    assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (1, 1, 1, 1)


def test_a_picture_is_in_use_until_its_last_consumer_lets_go() -> None:
    picture = on_host(nv12(0))
    first, second = picture.to_video_frame(), picture.to_video_frame()
    assert picture.in_use and not on_host(nv12(0)).in_use
    del first
    assert picture.in_use
    del second
    assert not picture.in_use


def test_memory_lives_as_long_as_a_frame_of_it() -> None:
    memory = nv12(4)
    wanted, alive = memory[:, :SIZE].copy(), weakref.ref(memory)
    frame = on_host(memory).to_video_frame()
    del memory
    assert alive() is not None and np.array_equal(np.concatenate(planes_of(frame)), wanted)
    del frame
    assert alive() is None


def test_an_encoder_that_holds_a_picture_has_it_in_use() -> None:
    """As NVENC holds one until it is encoded; here a packet is the frame itself. It ends on another thread."""
    picture, context = on_host(nv12(0)), av.CodecContext.create("wrapped_avframe", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width = context.height = SIZE
    context.pix_fmt, context.time_base = "nv12", Fraction(1, 25)
    held = [context.encode(picture.to_video_frame())]
    assert picture.in_use
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert not picture.in_use


def test_an_exception_passes_while_a_frame_ends() -> None:
    picture = on_host(nv12(0))

    nothing: dict[str, str] = {}
    with pytest.raises(KeyError, match="as it was"):
        print(picture.to_video_frame(), nothing["as it was"])
    assert not picture.in_use


def test_a_frame_that_is_refused_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After FFmpeg took the planes, and before."""
    picture = DeviceFrame(nv12(0).ctypes.data, PITCH, SIZE, SIZE)
    monkeypatch.setattr(device_frame, "_cuda_context", lambda device: "no context")
    with pytest.raises(TypeError, match="CudaContext"):
        picture.to_video_frame()
    assert not picture.in_use

    def refuse_all(*_: object, **__: object) -> None:
        raise ValueError("not even looked at")

    monkeypatch.setattr(device_frame, "av", SimpleNamespace(VideoFrame=SimpleNamespace(from_dlpack=refuse_all)))
    with pytest.raises(ValueError, match="not even"):
        picture.to_video_frame()
    assert not picture.in_use


def test_planes_on_a_gpu() -> None:
    frame = DeviceFrame(0x7F00_0000_0000, 512, 500, 300, device=1)
    for plane, pointer, shape, strides in (
        (frame.luma, 0x7F00_0000_0000, [300, 500], [512, 1]),
        (frame.chroma, 0x7F00_0000_0000 + 512 * 300, [150, 250, 2], [512, 2, 1]),
    ):
        assert plane.__dlpack_device__() == (CUDA, 1)
        capsule = plane.__dlpack__(stream=7)
        managed = device_frame._ManagedTensor.from_address(device_frame._pointer_of(capsule, b"dltensor"))
        tensor = managed.tensor
        assert (tensor.data, tensor.device_type, tensor.device_id, tensor.byte_offset) == (pointer, CUDA, 1, 0)
        assert (tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes) == (1, 8, 1)
        assert (tensor.shape[: tensor.ndim], tensor.strides[: tensor.ndim]) == (shape, strides)
        device_frame._discard(capsule)
    assert not frame.in_use


def test_ffmpeg_borrows_the_current_cuda_context() -> None:
    """The primary one that CUDA's runtime made has flags that FFmpeg refuses."""
    context = device_frame._cuda_context(1)
    assert (context.device_id, context.current_ctx, context.primary_ctx) == (1, True, False)
    assert device_frame._cuda_context(1) is context, "one for all frames"


@pytest.mark.parametrize(
    "wrong",
    [
        {"pointer": 0}, {"width": 159}, {"height": 0}, {"pitch": 158}, {"pitch": 162}, {"device": 1},
        {"device_type": 10},
    ],
)  # fmt: skip
def test_pictures_that_nvenc_would_misread_are_refused(wrong: dict[str, int]) -> None:
    right = {"pointer": 4096, "pitch": 192, "width": 160, "height": 160, "device": 0, "device_type": CPU}
    DeviceFrame(**right)
    with pytest.raises(AssertionError):
        DeviceFrame(**{**right, **wrong})


def test_python_may_end_while_frames_live() -> None:
    code = """
import sys
import numpy as np
from realtime.device_frame import CPU, DeviceFrame
memory = np.zeros((96, 64), np.uint8)
sys.ends_last = DeviceFrame(memory.ctypes.data, 64, 64, 64, 0, CPU, memory).to_video_frame()
"""
    poison = {**os.environ, "PYTHONMALLOC": "malloc", "MALLOC_PERTURB_": "165"}  # freed memory is overwritten
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=poison, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
