"""The whole frame loop of the target tensorrt without a GPU: CUDA is a state machine, kernels are their C++ twins,
plans run in ONNX Runtime, OpenGL is the software renderer's.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realtime.audio.block import Block
from realtime.audio.ring import AudioRing
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import SAMPLE_RATE
from realtime.errors import MiravoxError
from realtime.face.pipeline import FacePipeline
from realtime.face.yuv import planes
from realtime.frames import FULL_QUALITY, Frame, Pipeline, Quality
from realtime.gpu import pipeline as gpu_pipeline
from realtime.gpu.cuda_error import CudaError
from realtime.gpu.pipeline import GpuPipeline
from tests.fake_gpu import FakeGpu, small_networks

SIZE = 128  # pixels: small, since networks for each pixel run on the CPU here
FRAMES = (3, 40, 41)
TOLERANCE = 2  # of 255
FaceT = TypeVar("FaceT")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """Leaks are looked for when the test ends."""
    machine = FakeGpu()
    machine.cuda.guard_gl(monkeypatch)
    yield machine
    machine.cuda.check_leaks()


@pytest.fixture(scope="module")
def avatar(ada: Path) -> Avatar:
    """Ada with a loop of a few frames: masks of all frames are looked at when a pipeline opens."""
    whole = load_avatar(ada)
    return replace(
        whole, source_pose=whole.source_pose[:60], source_box=whole.source_box[:60], source_mask=whole.source_mask[:60]
    )


@pytest.fixture(scope="module")
def speech(ada: Path) -> np.ndarray:
    return read_speech(ada / "sample.flac").samples[: 4 * SAMPLE_RATE]


def ring_of(speech: np.ndarray) -> AudioRing:
    ring = AudioRing(len(speech) + SAMPLE_RATE)
    ring.write(Block(0, speech))
    return ring


@pytest.fixture(scope="module")
def wanted(avatar: Avatar, speech: np.ndarray) -> dict[int, list[np.ndarray]]:
    """Planes of the target onnx."""
    with FacePipeline(avatar, ring_of(speech), "onnx", SIZE) as pipeline:
        return {k: [plane.copy() for plane in planes(pipeline.render(k))] for k in FRAMES}


def largest_difference(found: list[np.ndarray], wanted: list[np.ndarray]) -> int:
    return max(int(np.abs(f.astype(int) - w).max()) for f, w in zip(found, wanted, strict=True))


def test_frames_are_those_of_target_onnx(
    gpu: FakeGpu, avatar: Avatar, speech: np.ndarray, wanted: dict[int, list[np.ndarray]]
) -> None:
    with GpuPipeline(avatar, ring_of(speech), SIZE, gpu=gpu.open()) as pipeline:
        assert pipeline.without_interop is None
        for k in FRAMES:
            assert largest_difference(list(planes(pipeline.render(k))), wanted[k]) <= TOLERANCE
        unmasked = [plane.copy() for plane in planes(pipeline.source.frame(FRAMES[-1]))]
    moved = largest_difference(wanted[FRAMES[-1]], unmasked)
    assert moved > 10 * TOLERANCE  # something was painted
    assert gpu.cuda.calls["cudaGraphLaunch"] == len(FRAMES)


def test_frames_are_the_same_through_the_host(
    gpu: FakeGpu, avatar: Avatar, speech: np.ndarray, wanted: dict[int, list[np.ndarray]]
) -> None:
    """As in WSL2, where OpenGL and CUDA share no memory."""
    gpu.cuda.fail("cudaGraphicsGLRegisterImage", 304)
    with GpuPipeline(avatar, ring_of(speech), SIZE, gpu=gpu.open()) as pipeline:
        assert pipeline.without_interop is not None and "304" in pipeline.without_interop
        for k in FRAMES:
            assert largest_difference(list(planes(pipeline.render(k))), wanted[k]) <= TOLERANCE


def test_a_colour_network_of_deformed_points(gpu: FakeGpu, avatar: Avatar, speech: np.ndarray) -> None:
    """Both of the mesh's buffers are CUDA's then: what is drawn and what is interpolated."""
    deformed = replace(avatar, color_input="deformed")
    with FacePipeline(deformed, ring_of(speech), "onnx", SIZE) as reference:
        expected = [plane.copy() for plane in planes(reference.render(FRAMES[1]))]
    for broken in (False, True):
        if broken:
            gpu.cuda.fail("cudaGraphicsMapResources", 304)
        with GpuPipeline(deformed, ring_of(speech), SIZE, gpu=gpu.open()) as pipeline:
            assert (pipeline.without_interop is not None) == broken
            assert largest_difference(list(planes(pipeline.render(FRAMES[1]))), expected) <= TOLERANCE


def test_frames_left_on_the_device_stay_as_they_are(
    gpu: FakeGpu, avatar: Avatar, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a copy of its own until nobody holds it; then its memory is used again."""
    taken: list[SimpleNamespace] = []

    def video_frame(frame: object) -> object:
        taken.append(SimpleNamespace(frame=frame))
        return taken[-1]

    monkeypatch.setattr(gpu_pipeline.DeviceFrame, "to_video_frame", video_frame)
    with GpuPipeline(avatar, ring_of(speech), SIZE, gpu=gpu.open(), keep_on_device=True) as pipeline:
        first, second = pipeline.paint(FRAMES[0]), pipeline.paint(FRAMES[1])
        for rendered, k in ((first, FRAMES[0]), (second, FRAMES[1])):
            frame = rendered.on_device.frame  # type: ignore[union-attr]
            kept = gpu.cuda.view(frame.pointer, SIZE * SIZE * 3 // 2).reshape(-1, SIZE)
            y, u, v = planes(rendered.picture)
            assert (kept[:SIZE] == y).all() and (kept[SIZE:, 0::2] == u).all() and (kept[SIZE:, 1::2] == v).all(), k
        held = {t.frame.pointer for t in taken}
        assert len(held) == 2
        del first, second, rendered, frame
        taken.clear()
        third = pipeline.paint(FRAMES[2])
        assert third.on_device.frame.pointer in held  # type: ignore[union-attr]
        taken.clear()
        del third


def test_the_speech_of_skipped_frames_is_embedded(
    gpu: FakeGpu, avatar: Avatar, speech: np.ndarray, wanted: dict[int, list[np.ndarray]]
) -> None:
    with GpuPipeline(avatar, ring_of(speech), SIZE, gpu=gpu.open()) as pipeline:
        for k in range(FRAMES[1]):
            pipeline.skip(k)
        assert largest_difference(list(planes(pipeline.render(FRAMES[1]))), wanted[FRAMES[1]]) <= TOLERANCE


# The contract of pipelines (realtime/frames.py).


def finished(pipeline: Pipeline[FaceT], k: int, quality: Quality) -> Frame:
    """Frame k, as a session makes it of any pipeline. mypy sees here what the contract promises."""
    face: FaceT = pipeline.paint(k, quality)
    return pipeline.finish(k, face, quality)


def test_both_pipelines_are_used_in_the_same_way(
    gpu: FakeGpu, avatar: Avatar, speech: np.ndarray, wanted: dict[int, list[np.ndarray]]
) -> None:
    on_gpu: Pipeline[Any] = GpuPipeline(avatar, ring_of(speech), SIZE, gpu=gpu.open())
    on_cpu: Pipeline[Any] = FacePipeline(avatar, ring_of(speech), "onnx", SIZE)
    for pipeline in (on_gpu, on_cpu):
        pipeline.warm_up()
        for k in range(FRAMES[1]):
            pipeline.skip(k)
        for k in FRAMES[1:]:
            pipeline.read_ahead()
            frame = finished(pipeline, k, pipeline.qualities[0])
            assert frame.index == k and frame.on_device is None
            assert largest_difference(list(planes(frame.picture)), wanted[k]) <= TOLERANCE
        pipeline.close()


@pytest.mark.parametrize("kind", [GpuPipeline, FacePipeline])
def test_a_pipeline_has_what_the_contract_names(kind: type) -> None:
    """Methods by the same names, with the same parameters and defaults; and the best quality first."""
    members = {name: member for name, member in vars(Pipeline).items() if not name.startswith("_")}
    assert {"qualities", "paint", "finish", "read_ahead", "skip", "warm_up", "close"} <= set(members)
    for name, member in members.items():
        if isinstance(member, property):
            assert getattr(kind, name)[0] == FULL_QUALITY
            continue
        parameters = [inspect.signature(method).parameters.values() for method in (getattr(kind, name), member)]
        found, promised = ([(p.name, p.kind, p.default) for p in of_method] for of_method in parameters)
        assert found == promised, name


def test_a_gpu_has_one_quality(gpu: FakeGpu, avatar: Avatar, speech: np.ndarray) -> None:
    """What other pipelines give up while frames come late, it cannot: it draws in full whatever it is asked for."""
    assert GpuPipeline.qualities == (FULL_QUALITY,)
    with GpuPipeline(avatar, ring_of(speech), SIZE, gpu=gpu.open()) as pipeline:
        full = finished(pipeline, 3, FULL_QUALITY)
        less = finished(pipeline, 3, Quality(refined=False, halved=True))
        assert largest_difference(list(planes(less.picture)), list(planes(full.picture))) == 0


def test_the_source_is_read_ahead_once(
    gpu: FakeGpu, avatar: Avatar, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the GPU paints a frame the next picture is decoded: then there is nothing left to read ahead."""
    with GpuPipeline(avatar, ring_of(speech), SIZE, gpu=gpu.open()) as pipeline:
        decoded: list[int] = []
        decode = pipeline.source._decode

        def counted(index: int) -> Any:
            decoded.append(index)
            return decode(index)

        monkeypatch.setattr(pipeline.source, "_decode", counted)
        pipeline.read_ahead()
        assert decoded == [0]
        pipeline.paint(0)
        assert decoded == [0, 1]
        pipeline.read_ahead()
        pipeline.paint(1)
        assert decoded == [0, 1, 2]


def test_nothing_is_allocated_for_a_frame(gpu: FakeGpu, avatar: Avatar, speech: np.ndarray) -> None:
    with GpuPipeline(avatar, ring_of(speech), SIZE, gpu=gpu.open()) as pipeline:
        pipeline.render(0)
        before = {name: gpu.cuda.calls[name] for name in ("cudaMalloc", "cudaHostAlloc", "cudaStreamSynchronize")}
        pipeline.render(1)
        after = {name: gpu.cuda.calls[name] for name in before}
    assert after["cudaMalloc"] == before["cudaMalloc"] and after["cudaHostAlloc"] == before["cudaHostAlloc"]
    assert (
        after["cudaStreamSynchronize"] == before["cudaStreamSynchronize"] + 3
    )  # two networks of speech, and the frame


# What goes wrong. Small networks, which make many runs possible.


@pytest.fixture(scope="module")
def files(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return small_networks(avatar, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def uneven(avatar: Avatar) -> Avatar:
    """Masks of which every second one is smaller: at 256 pixels the frames need two buckets."""
    masks = avatar.source_mask.copy()
    masks[1::2, : masks.shape[1] // 2] = 0
    return replace(avatar, source_mask=masks)


OPENING = (
    "cudaMalloc",
    "cudaHostAlloc",
    "cudaStreamCreateWithFlags",
    "cudaMemsetAsync",
    "cudaStreamBeginCapture",
    "cudaStreamEndCapture",
    "cudaGraphInstantiate",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cudaGraphicsGLRegisterBuffer",
    "cudaGraphicsGLRegisterImage",
)
STEADY = (  # called for every frame
    "cudaMemcpyAsync",
    "cudaGraphicsMapResources",
    "cudaGraphicsUnmapResources",
    "cudaMemcpy2DFromArrayAsync",
    "cudaGraphicsSubResourceGetMappedArray",
    "cudaGraphicsResourceGetMappedPointer",
    "cudaGraphLaunch",
    "cudaStreamSynchronize",
    "cuLaunchKernel",
)
CODES = (2, 35, 219, 304, 999)  # out of memory, no driver, a lost OpenGL context, no interop, anything
MANY = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def test_two_buckets(gpu: FakeGpu, uneven: Avatar, speech: np.ndarray, files: dict[str, Path]) -> None:
    """Each frame's points go through the smallest bucket, and through it they look the same as through a larger one."""
    gpu.files = files
    with GpuPipeline(uneven, ring_of(speech), 256, gpu=gpu.open()) as pipeline:
        assert pipeline.bucket_of_frame[:4] == [6144, 4096, 6144, 4096] and len(pipeline.graphs) == 2
        found = [plane.copy() for plane in planes(pipeline.render(1))]
        pipeline.bucket_of_frame[1] = 6144
        assert largest_difference(list(planes(pipeline.render(1))), found) == 0


@MANY
@given(st.data())
def test_whatever_happens_everything_is_given_back(
    gpu: FakeGpu, uneven: Avatar, speech: np.ndarray, files: dict[str, Path], data: st.DataObject
) -> None:
    """Frames of both buckets, other sizes, and an error of CUDA anywhere: the error is told with its code, all that was
    made is given back, and the machine goes on. Where interop alone fails at the start, frames go through the host.
    """
    gpu.files = files
    name, code = data.draw(st.sampled_from(OPENING + STEADY)), data.draw(st.sampled_from(CODES))
    after = data.draw(st.integers(0, 30))
    size = data.draw(st.sampled_from([128, 256, 272]))
    frames = data.draw(st.lists(st.integers(0, 59), min_size=1, max_size=4))
    gpu.cuda.fail(name, code, after)
    told: CudaError | None = None
    try:
        with GpuPipeline(uneven, ring_of(speech), size, gpu=gpu.open()) as pipeline:
            for k in frames:
                pipeline.render(k)
            through_host = pipeline.without_interop is not None
    except CudaError as error:
        told = error
    happened = name not in gpu.cuda.failures
    gpu.cuda.failures.clear()
    if told is not None:
        assert happened and (told.call, told.code) == (name, code)
        assert str(code) in str(told)
    else:
        assert happened == through_host
    gpu.cuda.check_leaks()
    with GpuPipeline(uneven, ring_of(speech), 128, gpu=gpu.open()) as pipeline:
        pipeline.render(0)


@pytest.mark.parametrize("name", STEADY)
def test_a_lost_device(gpu: FakeGpu, uneven: Avatar, speech: np.ndarray, files: dict[str, Path], name: str) -> None:
    """After such an error every call fails, giving back too: the first error is told, and nothing is held on to."""
    gpu.files = files
    pipeline = GpuPipeline(uneven, ring_of(speech), 128, gpu=gpu.open())
    pipeline.render(0)
    gpu.cuda.lose(name, 999)
    with pytest.raises(CudaError) as told, pipeline:
        pipeline.render(1)
    assert (told.value.call, told.value.code) == (name, 999)
    gpu.cuda.forget()


def test_a_plan_that_fails(gpu: FakeGpu, uneven: Avatar, speech: np.ndarray, files: dict[str, Path]) -> None:
    """TensorRT says False instead of raising: each is an error, and everything is given back."""
    gpu.files = files
    for call in (
        "deserialize_cuda_engine",
        "create_execution_context",
        "set_input_shape",
        "set_tensor_address",
        "execute_async_v3",
    ):
        gpu.trt.fail(call)
        with pytest.raises(MiravoxError), GpuPipeline(uneven, ring_of(speech), 128, gpu=gpu.open()):
            pass
        gpu.cuda.check_leaks()


def test_another_thread_is_refused(gpu: FakeGpu, uneven: Avatar, speech: np.ndarray, files: dict[str, Path]) -> None:
    gpu.files = files
    faults: list[Exception] = []

    def elsewhere() -> None:
        try:
            pipeline.render(1)
        except MiravoxError as error:
            faults.append(error)

    with GpuPipeline(uneven, ring_of(speech), 128, gpu=gpu.open()) as pipeline:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(faults) == 1 and "wrong thread" in str(faults[0])
        pipeline.render(1)
