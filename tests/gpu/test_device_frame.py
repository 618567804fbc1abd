"""A picture in memory becomes a frame of FFmpeg's without a copy, and is in use until its last consumer lets go."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from realtime.arrays import ByteArray
from realtime.gpu import device_frame
from realtime.gpu.device_frame import CPU, CUDA, DeviceFrame
from tests.conftest import ROOT
from tests.nv12_pictures import PITCH, SIZE, decoded, nv12, on_host


def noise(size: int = SIZE) -> ByteArray:
    return np.random.default_rng(3).integers(16, 236, (size * 3 // 2, PITCH)).astype(np.uint8)


def planes_of(frame: av.VideoFrame) -> tuple[ByteArray, ByteArray]:
    """Y [H, W] and UV [H / 2, W] of an nv12 frame."""
    flat = np.asarray(frame.to_ndarray(), np.uint8)
    return flat[: frame.height], flat[frame.height :]


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
    ("argument", "value"),
    [("pointer", 0), ("width", 159), ("height", 0), ("pitch", 158), ("pitch", 162), ("device", 1), ("device_type", 10)],
)
def test_pictures_that_nvenc_would_misread_are_refused(argument: str, value: int) -> None:
    right = {"pointer": 4096, "pitch": 192, "width": 160, "height": 160, "device": 0, "device_type": CPU}
    DeviceFrame(**right)
    with pytest.raises(AssertionError):
        DeviceFrame(**{**right, argument: value})


def test_python_may_end_while_frames_live() -> None:
    code = """
import sys
import numpy as np
from realtime.gpu.device_frame import CPU, DeviceFrame
memory = np.zeros((96, 64), np.uint8)
sys.ends_last = DeviceFrame(memory.ctypes.data, 64, 64, 64, 0, CPU, memory).to_video_frame()
"""
    poison = {**os.environ, "PYTHONMALLOC": "malloc", "MALLOC_PERTURB_": "165"}  # freed memory is overwritten
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=poison, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
