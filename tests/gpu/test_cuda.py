"""CUDA's wrapper on a fake CUDA and a real OpenGL; what the fake forbids; what the user is told."""

from __future__ import annotations

import ast
import ctypes
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import moderngl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.errors import MiravoxError
from realtime.face.gl import create_context
from realtime.gpu.cuda import Cuda, load
from realtime.gpu.cuda_error import CudaError
from tests.conftest import ROOT
from tests.fake_cuda import POISON, FakeCuda, Violation

SIGNATURES = {"add": (ctypes.c_void_p, ctypes.c_int, ctypes.c_float), "overrun": (ctypes.c_void_p,)}
LINE = (1, 1, 1), (64, 1, 1)


def launch(name: str, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any]) -> None:
    """Kernels for tests: `add` adds a number to n float32 values, `overrun` writes beyond 256 bytes."""
    if name == "add":
        pointer, count, number = (argument.value for argument in arguments)
        values = (ctypes.c_float * count).from_address(pointer)
        values[:] = [value + number for value in values]
    else:
        ctypes.memset(arguments[0].value, 0, 257)


@pytest.fixture
def fake() -> FakeCuda:
    return FakeCuda(launch, SIGNATURES)


@pytest.fixture
def cuda(fake: FakeCuda) -> Cuda:
    return Cuda(0, fake.runtime, fake.driver)


@pytest.fixture
def stream(cuda: Cuda) -> int:
    return cuda.create_stream()


def floats(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, np.float32)


def add(cuda: Cuda, stream: int, pointer: int, count: int, number: float) -> None:
    kernel = cuda.kernel(cuda.load_module(b"image"), "add")
    cuda.launch(kernel, *LINE, [ctypes.c_void_p(pointer), ctypes.c_int(count), ctypes.c_float(number)], stream)


# Memory.


def test_properties(fake: FakeCuda, cuda: Cuda) -> None:
    assert (cuda.name, cuda.compute_capability, cuda.memory) == ("Fake GPU", 89, 8 << 30)
    assert (cuda.driver_version, cuda.runtime_version) == (13010, 13000)
    cuda.allocate(1 << 20)
    assert cuda.memory_used() == 1 << 20


def test_memory_goes_to_the_device_and_back(fake: FakeCuda, cuda: Cuda, stream: int) -> None:
    source, target = cuda.pinned(16), cuda.pinned(16)
    assert not source.any()
    source.view(np.float32)[:] = 1, 2, 3, 4
    a, b = cuda.allocate(16), cuda.allocate(16)
    cuda.upload(a, source, stream)
    cuda.copy(b, a, 12, stream)
    cuda.clear(b + 4, 4, stream)
    cuda.upload(b + 12, floats(9), stream)  # pageable, and gone before the stream comes to it
    cuda.download(target, b, stream)
    assert (target == POISON).all(), "what is read before synchronisation must not look right"
    cuda.synchronize(stream)
    assert list(target.view(np.float32)) == [1, 0, 3, 9]
    pageable = np.empty(4, np.float32)
    cuda.download(pageable, a, stream)  # waits by itself
    assert list(pageable) == [1, 2, 3, 4]
    for array in (source, target):
        cuda.free_pinned(array)
    cuda.free(a)
    cuda.free(b)
    cuda.destroy_stream(stream)
    cuda.close()
    fake.check_leaks()


def test_pinned_memory_may_go_on_to_the_device_in_one_stream(cuda: Cuda, stream: int) -> None:
    a, b = cuda.allocate(4), cuda.allocate(4)
    host = cuda.pinned(4)
    cuda.upload(a, floats(7), stream)
    cuda.download(host, a, stream)
    cuda.upload(b, host, stream)
    cuda.free(a)  # does what is pending, as the host cannot see
    assert (host == POISON).all() or host.view(np.float32)[0] == 7
    result = np.empty(1, np.float32)
    cuda.download(result, b, stream)
    assert result[0] == 7


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (lambda cuda, s, p: cuda.clear(p, 257, s), "out of bounds, 257 bytes where 256 are"),
        (lambda cuda, s, p: cuda.clear(p + 250, 8, s), "out of bounds, 8 bytes where 6 are"),
        (lambda cuda, s, p: cuda.clear(p - 8, 8, s), "no memory of CUDA"),
        (lambda cuda, s, p: cuda.clear(p, 8, 0), "default stream"),
        (lambda cuda, s, p: cuda.clear(p, 8, s + 1), "a stream that is not there"),
        (lambda cuda, s, p: (cuda.free(p), cuda.clear(p, 8, s)), "after it was given back"),
        (lambda cuda, s, p: cuda.upload(cuda.pinned(8).ctypes.data, floats(1), s), "is page-locked memory"),
        (lambda cuda, s, p: cuda.copy(p, p + 4, 8, s), "onto itself"),
        (
            lambda cuda, s, p: cuda.download(cuda.pinned(8)[4:], p, s) or cuda.download(cuda.pinned(4), p + 256, s),
            "no memory of CUDA",
        ),
        (lambda cuda, s, p: (cuda.clear(p, 8, s), cuda.destroy_stream(s)), "has work to do"),
    ],
)
def test_misuse_of_memory_is_caught(cuda: Cuda, stream: int, misuse: Callable[..., Any], words: str) -> None:
    with pytest.raises(Violation, match=words):
        misuse(cuda, stream, cuda.allocate(256))


def test_a_source_that_changes_under_an_upload_is_caught(cuda: Cuda, stream: int) -> None:
    source = cuda.pinned(4)
    cuda.upload(cuda.allocate(4), source, stream)
    source[0] = 1
    with pytest.raises(Violation, match="changed before the upload"):
        cuda.synchronize(stream)


def test_pinned_memory_that_is_freed_too_early_is_caught(cuda: Cuda, stream: int) -> None:
    target = cuda.pinned(4)
    cuda.download(target, cuda.allocate(4), stream)
    with pytest.raises(Violation, match="a stream is going to use"):
        cuda.free_pinned(target)


def test_streams_have_no_order(cuda: Cuda, stream: int) -> None:
    """Two streams may read the same, but not what the other one is writing."""
    other, pointer = cuda.create_stream(), cuda.allocate(8)
    target = cuda.pinned(8)
    cuda.clear(pointer, 8, stream)
    with pytest.raises(Violation, match="a download on one stream, unordered with a memset on another"):
        cuda.download(target, pointer, other)
    cuda.synchronize(stream)
    cuda.download(target[:4], pointer, other)
    cuda.download(target[4:], pointer, stream)
    with pytest.raises(Violation, match="unordered with a download"):
        cuda.clear(pointer, 8, stream)


@pytest.mark.parametrize("nbytes", [0, -1])
def test_no_memory_is_refused(cuda: Cuda, nbytes: int) -> None:
    for allocate in (cuda.allocate, cuda.pinned):
        with pytest.raises(ValueError, match="bytes"):
            allocate(nbytes)


def test_arrays_must_lie_in_one_piece(cuda: Cuda, stream: int) -> None:
    pointer, array = cuda.allocate(64), np.zeros((4, 4), np.float32)
    with pytest.raises(ValueError, match="not C-contiguous"):
        cuda.upload(pointer, array[:, 1:], stream)
    with pytest.raises(ValueError, match="not C-contiguous"):
        cuda.download(array.T, pointer, stream)
    array.setflags(write=False)
    with pytest.raises(ValueError, match="must not be written"):
        cuda.download(array, pointer, stream)


def test_nothing_is_given_back_twice(cuda: Cuda, stream: int) -> None:
    pointer, array = cuda.allocate(4), cuda.pinned(4)
    cuda.free(pointer)
    cuda.free_pinned(array)
    cuda.destroy_stream(stream)
    with pytest.raises(ValueError, match="no device memory that is held"):
        cuda.free(pointer)
    with pytest.raises(ValueError, match="no pinned memory that is held"):
        cuda.free_pinned(array)
    with pytest.raises(ValueError, match="no stream that is held"):
        cuda.destroy_stream(stream)


PLACES = st.integers(0, 6)  # of the first of two floats among eight
STEPS = st.one_of(
    st.tuples(st.sampled_from(["upload", "add"]), PLACES, st.integers(1, 9)),
    st.tuples(st.just("copy"), PLACES, PLACES),
    st.tuples(st.sampled_from(["clear", "download"]), PLACES, st.just(0)),
)
Step = tuple[str, int, int]


class Modelled:
    """Eight floats on the device, and a model of them where every step is done at once."""

    def __init__(self) -> None:
        self.fake = FakeCuda(launch, SIGNATURES)
        self.cuda = Cuda(0, self.fake.runtime, self.fake.driver)
        self.stream, self.pointer = self.cuda.create_stream(), self.cuda.allocate(32)
        self.kernel = self.cuda.kernel(self.cuda.load_module(b"image"), "add")
        self.cuda.clear(self.pointer, 32, self.stream)
        self.model = np.zeros(8, np.float32)

    def put(self, step: Step, host: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        """Puts a step into the stream; `host` is its page-locked memory."""
        what, at, value = step
        address = self.pointer + 4 * at
        if what == "upload":
            host[:] = value
            self.cuda.upload(address, host, self.stream)
        elif what == "add":
            arguments = [ctypes.c_void_p(address), ctypes.c_int(2), ctypes.c_float(value)]
            self.cuda.launch(self.kernel, *LINE, arguments, self.stream)
        elif what == "copy" and abs(at - value) >= 2:
            self.cuda.copy(address, self.pointer + 4 * value, 8, self.stream)
        elif what == "clear":
            self.cuda.clear(address, 8, self.stream)
        elif what == "download":
            self.cuda.download(host, address, self.stream)

    def follow(self, step: Step) -> np.ndarray[Any, np.dtype[np.float32]] | None:
        """Does a step to the model; what a download gives."""
        what, at, value = step
        part = self.model[at : at + 2]
        if what in ("upload", "clear"):
            part[:] = value
        elif what == "add":
            part += value
        elif what == "copy" and abs(at - value) >= 2:
            part[:] = self.model[value : value + 2]
        return part.copy() if what == "download" else None


@settings(max_examples=60, deadline=None, database=None)
@given(st.lists(STEPS), st.lists(STEPS), st.integers(1, 3))
def test_any_work_gives_what_it_gives_in_order(direct: list[Step], recorded: list[Step], launches: int) -> None:
    """Some steps in a stream, then some in a graph that is launched several times."""
    run = Modelled()
    hosts = [run.cuda.pinned(8).view(np.float32) for _ in (*direct, *recorded)]
    wanted = []
    for step, host in zip(direct, hosts, strict=False):
        run.put(step, host)
        wanted.append(run.follow(step))
    run.cuda.begin_capture(run.stream)
    for step, host in zip(recorded, hosts[len(direct) :], strict=True):
        run.put(step, host)
    graph = run.cuda.end_capture(run.stream)
    for _ in range(launches):
        run.cuda.launch_graph(graph, run.stream)
        last = [run.follow(step) for step in recorded]
    result = run.cuda.pinned(32).view(np.float32)
    run.cuda.download(result, run.pointer, run.stream)
    run.cuda.synchronize(run.stream)
    assert np.array_equal(result, run.model)
    for host, values in zip(hosts, [*wanted, *last], strict=True):
        assert values is None or np.array_equal(host, values)
    run.cuda.close(complain=False)
    run.fake.check_leaks()


# Kernels.


def test_a_kernel_takes_copies_of_its_arguments(cuda: Cuda, stream: int) -> None:
    pointer, result = cuda.allocate(12), np.empty(3, np.float32)
    cuda.upload(pointer, floats(1, 2, 3), stream)
    arguments: list[Any] = [ctypes.c_void_p(pointer), ctypes.c_int(2), ctypes.c_float(0.5)]
    kernel = cuda.kernel(cuda.load_module(b"image"), "add")
    cuda.launch(kernel, *LINE, arguments, stream)
    arguments[2].value = 100
    cuda.download(result, pointer, stream)
    assert list(result) == [1.5, 2.5, 3]


def test_misuse_of_kernels_is_caught(cuda: Cuda, stream: int) -> None:
    module, pointer = cuda.load_module(b"image"), cuda.allocate(256)
    kernel = cuda.kernel(module, "add")
    good = [ctypes.c_void_p(pointer), ctypes.c_int(1), ctypes.c_float(1)]
    for arguments in (good[:2], [*good, ctypes.c_int(1)]):
        with pytest.raises(Violation, match="3 parameters, and another number of arguments"):
            cuda.launch(kernel, *LINE, arguments, stream)
    with pytest.raises(Violation, match="no memory of CUDA"):
        cuda.launch(kernel, *LINE, [ctypes.c_void_p(0), *good[1:]], stream)
    with pytest.raises(Violation, match="page-locked"):
        cuda.launch(kernel, *LINE, [ctypes.c_void_p(cuda.pinned(8).ctypes.data), *good[1:]], stream)
    with pytest.raises(CudaError, match="cuLaunchKernel.*error 1, CUDA_ERROR_INVALID_VALUE"):
        cuda.launch(kernel, (1, 1, 1), (1025, 1, 1), good, stream)
    with pytest.raises(CudaError, match="cuModuleGetFunction.*error 500"):
        cuda.kernel(module, "subtract")
    cuda.launch(cuda.kernel(module, "overrun"), *LINE, good[:1], stream)
    with pytest.raises(Violation, match="overrun wrote beyond device memory of 256 bytes"):
        cuda.synchronize(stream)
    cuda.unload_module(module)
    with pytest.raises(Violation, match="after its module was unloaded"):
        cuda.launch(kernel, *LINE, good, stream)


# Graphs.


def captured(cuda: Cuda, stream: int, work: Callable[[], None]) -> int:
    cuda.begin_capture(stream)
    work()
    return cuda.end_capture(stream)


def test_a_graph_does_its_work_each_time_it_is_launched(fake: FakeCuda, cuda: Cuda, stream: int) -> None:
    pointer, source, target = cuda.allocate(8), cuda.pinned(8), cuda.pinned(8)
    kernel = cuda.kernel(module := cuda.load_module(b"image"), "add")

    def work() -> None:
        cuda.upload(pointer, source, stream)
        cuda.launch(kernel, *LINE, [ctypes.c_void_p(pointer), ctypes.c_int(2), ctypes.c_float(1)], stream)
        cuda.download(target, pointer, stream)

    graph = captured(cuda, stream, work)
    cuda.synchronize(stream)
    assert not target.any(), "nothing is done by a capture"
    for value in (1.0, 5.0):
        source.view(np.float32)[:] = value
        cuda.launch_graph(graph, stream)
        assert (target == POISON).all()
        cuda.synchronize(stream)
        assert list(target.view(np.float32)) == [value + 1] * 2
    cuda.destroy_graph(graph)
    with pytest.raises(Violation, match="no graph"):
        cuda.launch_graph(graph, stream)
    cuda.unload_module(module)
    cuda.free(pointer)
    for array in (source, target):
        cuda.free_pinned(array)
    cuda.destroy_stream(stream)
    fake.check_leaks()


def test_a_graph_must_not_outlive_its_memory(cuda: Cuda, stream: int) -> None:
    pointer = cuda.allocate(8)
    graph = captured(cuda, stream, lambda: cuda.clear(pointer, 8, stream))
    cuda.free(pointer)
    cuda.allocate(8)
    with pytest.raises(Violation, match="after it was given back"):
        cuda.launch_graph(graph, stream)


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda cuda, s, p: cuda.allocate(8),
        lambda cuda, s, p: cuda.pinned(8),
        lambda cuda, s, p: cuda.free(p),
        lambda cuda, s, p: cuda.synchronize(s),
        lambda cuda, s, p: cuda.map([1], s),
        lambda cuda, s, p: cuda.upload(p, floats(1), s),
        lambda cuda, s, p: cuda.download(floats(1), p, s),
        lambda cuda, s, p: cuda.begin_capture(s),
        lambda cuda, s, p: cuda.load_module(b"image"),
    ],
)
def test_what_a_capture_forbids_is_caught(
    fake: FakeCuda, cuda: Cuda, stream: int, forbidden: Callable[..., Any]
) -> None:
    pointer = cuda.allocate(8)
    cuda.begin_capture(stream)
    with pytest.raises(Violation, match="capture"):
        forbidden(cuda, stream, pointer)
    cuda.abort_capture(stream)
    cuda.synchronize(stream)


def test_an_aborted_capture_leaves_nothing_behind(fake: FakeCuda, cuda: Cuda, stream: int) -> None:
    pointer = cuda.allocate(8)
    cuda.begin_capture(stream)
    cuda.clear(pointer, 8, stream)
    cuda.abort_capture(stream)
    cuda.abort_capture(stream)  # outside a capture: nothing
    cuda.clear(pointer, 4, stream)
    cuda.synchronize(stream)
    cuda.free(pointer)
    cuda.destroy_stream(stream)
    fake.check_leaks()


@pytest.mark.parametrize(("name", "code"), [("cudaStreamEndCapture", 901), ("cudaGraphInstantiate", 2)])
def test_a_capture_that_fails_leaves_nothing_behind(
    fake: FakeCuda, cuda: Cuda, stream: int, name: str, code: int
) -> None:
    cuda.begin_capture(stream)
    fake.fail(name, code)
    with pytest.raises(CudaError) as error:
        cuda.end_capture(stream)
    assert (error.value.call, error.value.code) == (name, code)
    cuda.abort_capture(stream)
    cuda.destroy_stream(stream)
    fake.check_leaks()


# OpenGL.


def test_a_texture_is_read_and_a_buffer_is_written(
    fake: FakeCuda, cuda: Cuda, stream: int, guarded: moderngl.Context
) -> None:
    pixels = np.arange(6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4)
    texture, buffer = guarded.texture((5, 6), 4, dtype="f4"), guarded.buffer(reserve=8)
    resources = [cuda.register_texture(texture.glo), cuda.register_buffer(buffer.glo)]
    part, result = cuda.allocate(2 * 64), np.empty((2, 64), np.uint8)
    arrays = []
    for shift in (0, 1000):
        texture.write(pixels + shift)
        cuda.map(resources, stream)
        arrays.append(cuda.mapped_array(resources[0]))
        cuda.copy_from_array(part, 64, arrays[-1], 3 * 16, 2, stream)
        pointer, nbytes = cuda.mapped_buffer(resources[1])
        assert nbytes == 8
        cuda.upload(pointer, floats(shift, 2), stream)
        cuda.unmap(resources, stream)
        cuda.download(result, part, stream)
        assert np.array_equal(result[:, :48].copy().view(np.float32), pixels[:2, :3].reshape(2, 12) + shift)
        assert buffer.read() == floats(shift, 2).tobytes()
    assert arrays[0] != arrays[1], "an array that is kept from one frame to the next must show"
    for resource in resources:
        cuda.unregister(resource)
    cuda.free(part)
    cuda.destroy_stream(stream)
    fake.check_leaks()
    texture.release()
    buffer.release()


def test_a_download_is_not_done_by_unmapping(cuda: Cuda, stream: int, guarded: moderngl.Context) -> None:
    buffer, pointer, target = guarded.buffer(reserve=8), cuda.allocate(8), cuda.pinned(8)
    resource = cuda.register_buffer(buffer.glo)
    cuda.clear(pointer, 8, stream)
    cuda.download(target, pointer, stream)
    cuda.map([resource], stream)
    cuda.copy(cuda.mapped_buffer(resource)[0], pointer, 8, stream)
    cuda.unmap([resource], stream)
    assert buffer.read() == bytes(8)
    assert (target == POISON).all()
    cuda.synchronize(stream)
    assert not target.any()
    cuda.unregister(resource)
    buffer.release()


class Shared:
    """A texture of 4 x 4 float32 RGBA, a buffer of 64 bytes, both registered, and memory for either."""

    def __init__(self, gl: moderngl.Context, fake: FakeCuda, cuda: Cuda, stream: int) -> None:
        self.gl, self.fake, self.cuda, self.stream = gl, fake, cuda, stream
        self.texture, self.buffer = gl.texture((4, 4), 4, dtype="f4"), gl.buffer(reserve=64)
        self.read, self.written = cuda.register_texture(self.texture.glo), cuda.register_buffer(self.buffer.glo)
        self.memory = cuda.allocate(256)

    def map(self) -> Shared:
        self.cuda.map([self.read, self.written], self.stream)
        return self

    def unmap(self) -> Shared:
        self.cuda.unmap([self.read, self.written], self.stream)
        return self

    def stale_copy(self) -> None:
        array = self.map().cuda.mapped_array(self.read)
        self.unmap().cuda.copy_from_array(self.memory, 64, array, 64, 4, self.stream)

    def stale_pointer(self) -> None:
        pointer, _ = self.map().cuda.mapped_buffer(self.written)
        self.unmap().cuda.clear(pointer, 64, self.stream)

    def graph_of_mapped(self) -> None:
        pointer, _ = self.map().cuda.mapped_buffer(self.written)
        graph = captured(self.cuda, self.stream, lambda: self.cuda.clear(pointer, 64, self.stream))
        self.unmap().map().cuda.launch_graph(graph, self.stream)

    def unordered_unmap(self) -> None:
        pointer, _ = self.map().cuda.mapped_buffer(self.written)
        self.cuda.clear(pointer, 64, self.cuda.create_stream())
        self.unmap()

    def elsewhere(self) -> None:
        other = create_context()
        try:
            with other:
                self.map()
        finally:
            other.release()
            self.gl.__enter__()

    def draw(self) -> None:
        program = self.gl.program(
            "#version 330\nin vec4 p; void main() { gl_Position = p; }",
            "#version 330\nout vec4 c; void main() { c = vec4(1.0); }",
        )
        self.gl.vertex_array(program, [(self.buffer, "4f", "p")]).render(vertices=3)


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (lambda s: s.cuda.register_texture(s.texture.glo), "registered already"),
        (lambda s: s.cuda.register_buffer(s.buffer.glo), "registered already"),
        (lambda s: s.cuda.register_texture(s.texture.glo + 100), "is not there"),
        (lambda s: s.cuda.mapped_array(s.read), "not mapped"),
        (lambda s: s.cuda.mapped_buffer(s.written), "not mapped"),
        (lambda s: s.map().cuda.mapped_array(s.written), "not mapped"),
        (lambda s: s.unmap(), "which is not mapped"),
        (lambda s: s.map().map(), "which is mapped"),
        (lambda s: s.cuda.map([s.read, s.read], s.stream), "twice"),
        (lambda s: s.cuda.map([s.read], 0), "default stream"),
        (lambda s: s.map().cuda.unregister(s.read), "while it is mapped"),
        (lambda s: s.map().draw(), "VertexArray.render while CUDA has"),
        (lambda s: s.map().buffer.write(bytes(64)), "Buffer.write while CUDA has"),
        (lambda s: s.map().texture.read(), "Texture.read while CUDA has"),
        (lambda s: s.texture.release(), "released while it is registered"),
        (lambda s: s.buffer.release(), "released while it is registered"),
        (lambda s: (s.cuda.unregister(s.read), s.map()), "is not registered"),
        (Shared.stale_copy, "a copy from a texture that is not mapped"),
        (Shared.stale_pointer, "a mapped buffer is used after it was given back"),
        (Shared.graph_of_mapped, "a mapped buffer is used after it was given back"),
        (Shared.unordered_unmap, "another stream is going to use"),
        (Shared.elsewhere, "another OpenGL context is current"),
        (
            lambda s: s.map().cuda.copy_from_array(s.memory, 64, s.cuda.mapped_array(s.read), 64, 5, s.stream),
            "out of bounds, 5 rows",
        ),
        (
            lambda s: s.map().cuda.copy_from_array(s.memory, 64, s.cuda.mapped_array(s.read), 80, 4, s.stream),
            "out of bounds, 4 rows of 80 bytes",
        ),
        (
            lambda s: s.map().cuda.copy_from_array(s.memory, 80, s.cuda.mapped_array(s.read), 64, 4, s.stream),
            "out of bounds, 304 bytes where 256 are",
        ),
    ],
)
def test_misuse_of_what_is_shared_is_caught(
    guarded: moderngl.Context, fake: FakeCuda, cuda: Cuda, stream: int, misuse: Callable[..., Any], words: str
) -> None:
    shared = Shared(guarded, fake, cuda, stream)
    with pytest.raises(Violation, match=words):
        misuse(shared)


def test_unregistration_after_the_release_is_caught_without_guards(
    gl: moderngl.Context, fake: FakeCuda, cuda: Cuda, stream: int
) -> None:
    shared = Shared(gl, fake, cuda, stream)
    shared.texture.release()
    with pytest.raises(Violation, match="was released"):
        cuda.unregister(shared.read)


def test_without_a_current_context_nothing_is_shared(fake: FakeCuda, cuda: Cuda) -> None:
    found: list[BaseException] = []

    def elsewhere() -> None:  # a thread on which no context is current, as far as CUDA and EGL are concerned
        own = Cuda(0, fake.runtime, fake.driver)
        try:
            own.register_buffer(1)
        except Violation as violation:
            found.append(violation)

    run_in_thread(elsewhere)
    assert "no OpenGL context is current" in str(found[0])


def test_a_texture_of_three_components_is_refused(gl: moderngl.Context, cuda: Cuda) -> None:
    texture = gl.texture((4, 4), 3, dtype="f4")
    with pytest.raises(CudaError, match="cudaGraphicsGLRegisterImage: found error 1"):
        cuda.register_texture(texture.glo)
    texture.release()


# What the user is told.


def run_in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work, name="somebody")
    thread.start()
    thread.join()


def test_a_call_on_another_thread_is_refused(cuda: Cuda) -> None:
    found: list[MiravoxError] = []

    def elsewhere() -> None:
        try:
            cuda.register_texture(1)
        except MiravoxError as error:
            found.append(error)

    run_in_thread(elsewhere)
    assert "a call on the wrong thread, somebody" in str(found[0])
    assert "on one thread" in found[0].remedy


@pytest.mark.parametrize(
    ("name", "code", "act", "words"),
    [
        ("cudaMalloc", 2, lambda cuda: cuda.allocate(8), "error 2, cudaErrorMemoryAllocation.*nvidia-smi lists them"),
        ("cudaHostAlloc", 2, lambda cuda: cuda.pinned(8), "error 2, cudaErrorMemoryAllocation"),
        (
            "cudaStreamSynchronize",
            700,
            lambda cuda: cuda.synchronize(cuda.create_stream()),
            "error 700, cudaErrorIllegalAddress.*nvidia-smi",
        ),
        ("cudaGraphicsGLRegisterImage", 219, lambda cuda: cuda.register_texture(1), "error 219, .*context is gone"),
        (
            "cudaGraphicsGLRegisterImage",
            304,
            lambda cuda: cuda.register_texture(1),
            "error 304, cudaErrorOperatingSystem.*WSL2",
        ),
        (
            "cudaGraphicsGLRegisterBuffer",
            999,
            lambda cuda: cuda.register_buffer(1),
            "error 999, cudaErrorUnknown.*VirtualGL",
        ),
        (
            "cudaGraphicsGLRegisterBuffer",
            101,
            lambda cuda: cuda.register_buffer(1),
            "error 101, cudaErrorInvalidDevice.*one GPU",
        ),
        ("cuModuleLoadData", 209, lambda cuda: cuda.load_module(b"image"), "error 209, CUDA_ERROR_NO_BINARY_FOR_GPU"),
    ],
)
def test_errors_say_what_to_do(
    fake: FakeCuda, cuda: Cuda, name: str, code: int, act: Callable[[Cuda], Any], words: str
) -> None:
    fake.fail(name, code)
    with pytest.raises(CudaError, match=f"{name}: found {words}") as error:
        act(cuda)
    assert (error.value.call, error.value.code) == (name, code)
    assert fake.calls["cudaGetLastError"] == 1, "the next check of somebody else would find this error"


@pytest.mark.parametrize(
    ("code", "words"), [(35, "cudaErrorInsufficientDriver.*version 580"), (100, "cudaErrorNoDevice.*another target")]
)
def test_a_machine_that_cannot_is_named(fake: FakeCuda, code: int, words: str) -> None:
    fake.fail("cudaGetDeviceCount", code)
    with pytest.raises(CudaError, match=f"error {code}, {words}"):
        Cuda(0, fake.runtime, fake.driver)


def test_a_device_that_is_not_there_is_named() -> None:
    fake = FakeCuda(launch, SIGNATURES, devices=2)
    for device in (-1, 2):
        with pytest.raises(MiravoxError, match=f"the CUDA device: found {device}; wanted 0 to 1"):
            Cuda(device, fake.runtime, fake.driver)
    assert Cuda(1, fake.runtime, fake.driver).device == 1


def test_a_memory_that_is_too_small() -> None:
    fake = FakeCuda(launch, SIGNATURES, memory=1000)
    cuda = Cuda(0, fake.runtime, fake.driver)
    pointer = cuda.allocate(600)
    with pytest.raises(CudaError, match="error 2"):
        cuda.allocate(600)
    cuda.free(pointer)
    cuda.allocate(600)


def test_the_real_bindings_here() -> None:
    """With a GPU CUDA opens; without one the message says what is missing."""
    if FakeCuda(launch, SIGNATURES).has_gpu:
        cuda = Cuda()
        assert cuda.memory > 0
        cuda.close()
    else:
        with pytest.raises(CudaError) as error:
            Cuda()
        assert error.value.code in (35, 100)
        assert error.value.call == "cudaGetDeviceCount"


def test_without_the_bindings_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MiravoxError, match="found no cuda.bindings.runtime.*pip install"):
        load("runtime")


def test_nothing_is_imported_before_it_is_wanted() -> None:
    program = "import sys, realtime.gpu.cuda, realtime.gpu.plan_engine; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"cuda", "torch", "tensorrt", "moderngl"} & set(done.stdout.split())


def test_what_was_forgotten_is_told_and_given_back(
    fake: FakeCuda, cuda: Cuda, stream: int, gl: moderngl.Context
) -> None:
    pointer = cuda.allocate(48)
    captured(cuda, stream, lambda: cuda.clear(pointer, 8, stream))
    cuda.pinned(32)
    cuda.load_module(b"image")
    texture, buffer = gl.texture((2, 2), 4, dtype="f4"), gl.buffer(reserve=4)
    cuda.register_texture(texture.glo)
    cuda.register_buffer(buffer.glo)
    with pytest.raises(Violation, match="device memory of 48 bytes"):
        fake.check_leaks()
    with pytest.raises(RuntimeError) as error:
        cuda.close()
    for words in (
        "device memory 48 bytes",
        "pinned memory 32 bytes",
        "graph 0x",
        "stream 0x",
        "module 0x",
        f"registered texture texture {texture.glo}",
        f"registered buffer buffer {buffer.glo}",
    ):
        assert words in str(error.value)
    fake.check_leaks()
    cuda.close()  # nothing is left
    texture.release()
    buffer.release()


# The bindings' interface.


def test_every_call_has_the_arguments_that_the_bindings_want() -> None:
    """Names exist, and numbers of arguments are those of the bindings' own signatures."""
    modules = {name: load(name) for name in ("runtime", "driver")}
    calls = 0
    for node in ast.walk(ast.parse((ROOT / "realtime" / "gpu" / "cuda.py").read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr in modules:
            assert hasattr(modules[node.value.attr], node.attr), node.attr
        if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "self._call" and len(node.args)):
            continue
        function = node.args[0]
        if isinstance(function, ast.Attribute) and not any(isinstance(a, ast.Starred) for a in node.args):
            real = getattr(modules[ast.unparse(function).split(".")[1]], function.attr)
            parameters = real.__doc__.splitlines()[0].split("(", 1)[1].rstrip(")")
            wanted = len(parameters.split(",")) if parameters else 0
            assert len(node.args) - 1 == wanted, f"{function.attr}: {parameters}"
            calls += 1
    assert calls > 30


def test_arguments_go_through_the_real_bindings(fake: FakeCuda, stream: int) -> None:
    if fake.has_gpu:  # the fake must not call it there
        assert fake.runtime.cudaFree(0xDEAD00) is not None
        return
    for name, arguments in (
        ("cudaGraphicsMapResources", (1, [5], stream)),
        ("cudaMemsetAsync", (1, 0, 8)),
        ("cudaStreamSynchronize", ("stream",)),
    ):
        with pytest.raises(Violation, match=name):
            getattr(fake.runtime, name)(*arguments)
    with pytest.raises(Violation, match="expected bytes"):
        fake.driver.cuModuleGetFunction(1, "name")
    with pytest.raises(Violation, match="the fake has no cudaDeviceReset"):
        fake.runtime.cudaDeviceReset()
