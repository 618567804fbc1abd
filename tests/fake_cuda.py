"""A CUDA without a GPU: fakes of cuda.bindings.runtime and .driver that know what the real ones forbid.

Memory is the host's, with guards around it. Work is queued for each stream and done when the stream is synchronised, so
that a missing synchronisation shows: until then page-locked memory holds POISON in place of what is being downloaded,
and whoever changes an upload's source too early is caught. OpenGL is the real one, of a software renderer: mapping
copies a texture out, unmapping copies a buffer back in. What the real CUDA would leave undefined is a Violation.

On a machine without a GPU every call goes through the real bindings as well, which check its arguments' number and
types before they find that there is no device.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import moderngl
import numpy as np
import pytest

from realtime.arrays import ByteArray
from tests.conftest import lacking

Launch = Callable[[str, tuple[int, int, int], tuple[int, int, int], Sequence[Any]], None]

ALIGNMENT = 256  # bytes, of cudaMalloc; also the least size of the guards
GUARD, FRESH, FREED, POISON = 0xCD, 0xFF, 0xFE, 0xA5  # FRESH is NaN as a float
DEVICE, MAPPED, PINNED = "device memory", "a mapped buffer", "page-locked memory"

INVALID_VALUE, NO_MEMORY, INVALID_IMAGE, NOT_FOUND, ILLEGAL_STATE = 1, 2, 200, 500, 401
OF_NO_DEVICE = ("cudaGetDeviceCount", "cudaGetLastError")


class Violation(AssertionError):
    """A use of CUDA, OpenGL or TensorRT that is undefined, or works by chance."""


class Refusal(Exception):
    """The fake's way to give an error code back."""


@dataclass
class Block:
    """Memory of some kind at an address that is never used again."""

    kind: str
    address: int
    nbytes: int
    storage: ByteArray  # with guards
    alive: bool = True

    @property
    def start(self) -> int:
        return self.address - self.storage.ctypes.data

    @property
    def bytes(self) -> ByteArray:
        return self.storage[self.start : self.start + self.nbytes]

    def check_guards(self, after: str) -> None:
        before, behind = self.storage[: self.start], self.storage[self.start + self.nbytes :]
        if (before != GUARD).any() or (behind != GUARD).any():
            raise Violation(f"{after} wrote beyond {self.kind} of {self.nbytes} bytes")


Range = tuple[int, int]  # address, bytes


def overlap(some: Iterable[Range], others: Iterable[Range]) -> bool:
    """Whether any of some ranges has a byte in common with any of others."""
    others = list(others)
    return any(a < address + nbytes and address < a + n for a, n in some for address, nbytes in others)


@dataclass
class Work:
    """One thing in a stream's queue."""

    name: str
    run: Callable[[], None]
    reads: Sequence[Range] = ()
    writes: Sequence[Range] = ()
    # What happens on the device, when that must be done before the host may see it; gives what is left to do.
    early: Callable[[], Work] | None = None

    @property
    def touched(self) -> list[Range]:
        return [*self.reads, *self.writes]


@dataclass
class Stream:
    pending: list[Work] = field(default_factory=list)
    recorded: list[Callable[[], Work]] | None = None  # while it is captured


@dataclass
class Resource:
    """A texture or a buffer that is registered."""

    kind: str
    glo: int
    context: int
    array: int = 0  # handle, while mapped
    block: Block | None = None


@dataclass
class Array:
    """The pixels of a mapped texture, [H, bytes of a row]."""

    pixels: ByteArray
    alive: bool = True


class GL:
    """OpenGL functions of whatever context is current."""

    TEXTURE, BUFFER = 0x0DE1, 0x8F37  # GL_TEXTURE_2D, GL_COPY_WRITE_BUFFER
    TEXTURE_BINDING, BUFFER_BINDING, PACK_ALIGNMENT = 0x8069, 0x8F37, 0x0D05
    WIDTH, HEIGHT, INTERNAL_FORMAT, BUFFER_SIZE = 0x1000, 0x1001, 0x1003, 0x8764
    # Internal format -> format, type, bytes of a pixel: 1, 2 and 4 components of float32 and uint8.
    FORMATS = {
        0x822E: (0x1903, 0x1406, 4),
        0x8230: (0x8227, 0x1406, 8),
        0x8814: (0x1908, 0x1406, 16),
        0x8229: (0x1903, 0x1401, 1),
        0x822B: (0x8227, 0x1401, 2),
        0x8058: (0x1908, 0x1401, 4),
    }

    def __init__(self) -> None:
        egl = ctypes.CDLL("libEGL.so.1")
        egl.eglGetProcAddress.restype = ctypes.c_void_p
        egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
        egl.eglGetCurrentContext.restype = ctypes.c_void_p
        self.egl, self.functions = egl, {}  # type: tuple[Any, dict[str, Any]]

    def current(self) -> int:
        return self.egl.eglGetCurrentContext() or 0

    def call(self, name: str, *arguments: Any) -> Any:
        if name not in self.functions:
            types = [ctypes.c_void_p if isinstance(a, ctypes.c_void_p) else ctypes.c_ssize_t for a in arguments]
            self.functions[name] = ctypes.CFUNCTYPE(ctypes.c_int, *types)(self.egl.eglGetProcAddress(name.encode()))
        return self.functions[name](*arguments)

    def integer(self, name: str, *arguments: int) -> int:
        value = ctypes.c_int()
        self.call(name, *arguments, ctypes.c_void_p(ctypes.addressof(value)))
        return value.value

    def is_alive(self, kind: str, glo: int) -> bool:
        return bool(self.call("glIsTexture" if kind == "texture" else "glIsBuffer", glo) & 0xFF)

    def texture(self, glo: int) -> ByteArray | None:
        """Its pixels, [H, bytes of a row]; None for a format that CUDA cannot register."""
        before = self.integer("glGetIntegerv", self.TEXTURE_BINDING)
        alignment = self.integer("glGetIntegerv", self.PACK_ALIGNMENT)
        self.call("glBindTexture", self.TEXTURE, glo)
        width, height, internal = (
            self.integer("glGetTexLevelParameteriv", self.TEXTURE, 0, what)
            for what in (self.WIDTH, self.HEIGHT, self.INTERNAL_FORMAT)
        )
        pixels = None
        if internal in self.FORMATS:
            form, kind, nbytes = self.FORMATS[internal]
            pixels = np.empty((height, width * nbytes), np.uint8)
            self.call("glPixelStorei", self.PACK_ALIGNMENT, 1)
            self.call("glGetTexImage", self.TEXTURE, 0, form, kind, ctypes.c_void_p(pixels.ctypes.data))
            self.call("glPixelStorei", self.PACK_ALIGNMENT, alignment)
        self.call("glBindTexture", self.TEXTURE, before)
        return pixels

    def buffer(self, glo: int, data: ByteArray | None = None) -> int:
        """Writes a buffer, if data are given; its bytes."""
        before = self.integer("glGetIntegerv", self.BUFFER_BINDING)
        self.call("glBindBuffer", self.BUFFER, glo)
        nbytes = self.integer("glGetBufferParameteriv", self.BUFFER, self.BUFFER_SIZE)
        if data is not None:
            self.call("glBufferSubData", self.BUFFER, 0, nbytes, ctypes.c_void_p(data.ctypes.data))
        self.call("glBindBuffer", self.BUFFER, before)
        return nbytes


class FakeCuda:
    """`runtime` and `driver` for Cuda (realtime/gpu/cuda.py), and what a test asks of them.

    Attributes:
        calls: how often each function was called.
    """

    def __init__(
        self,
        launch: Launch | None = None,
        signatures: Mapping[str, Sequence[type]] | None = None,
        devices: int = 1,
        capability: tuple[int, int] = (8, 9),
        memory: int = 8 << 30,
    ) -> None:
        """
        Args:
            launch, signatures: of the kernels; by default those of bench/kernel_twins.py and realtime/gpu/kernels.py.
        """
        try:
            from cuda.bindings import driver, runtime
        except ImportError as error:
            lacking(f"cuda.bindings (pip install -e .[gpu]): {error}")

        if launch is None:
            from bench.kernel_twins import launch as launch_twin

            launch = launch_twin
        if signatures is None:
            from realtime.gpu.kernels import SIGNATURES

            signatures = SIGNATURES
        self.launch_twin, self.signatures = launch, signatures
        self.devices, self.capability, self.memory = devices, capability, memory
        self.has_gpu = int(runtime.cudaGetDeviceCount()[0]) == 0
        self.runtime, self.driver = Runtime(self, runtime), Driver(self, driver)
        self.calls: Counter[str] = Counter()
        self.lost_at: str | None = None  # the call that loses the device; "" once it is lost
        self.lost = 0
        self.threads: set[int] = set()  # that have chosen the device
        self.failures: dict[str, list[int]] = {}
        self.next_handle = 0x10000
        self.blocks: list[Block] = []  # by address
        self.addresses: list[int] = []
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, list[Callable[[], Work]]] = {}
        self.executables: dict[int, list[Callable[[], Work]]] = {}
        self.resources: dict[int, Resource] = {}
        self.arrays: dict[int, Array] = {}
        self.modules: dict[int, bytes] = {}
        self.kernels: dict[int, tuple[int, str]] = {}

    @functools.cached_property
    def gl(self) -> GL:
        """OpenGL, once it is needed."""
        return GL()

    # What tests call.

    def fail(self, name: str, code: int, after: int = 0) -> None:
        """The call of this function after `after` more ones gives an error code, once."""
        self.failures[name] = [after, code]

    def lose(self, name: str, code: int) -> None:
        """The next call of this function gives an error code, and every call of any function after it."""
        self.lost_at, self.lost = name, code

    def forget(self) -> None:
        """The lost device, with everything that was on it."""
        self.__init__(self.launch_twin, self.signatures)  # type: ignore[misc]

    def check_leaks(self) -> None:
        """Raises Violation if anything was not given back."""
        left = {
            "memory": [f"{b.kind} of {b.nbytes} bytes" for b in self.blocks if b.alive],
            "streams": list(self.streams),
            "graphs": list(self.graphs),
            "executable graphs": list(self.executables),
            "resources": [f"{r.kind} {r.glo}" for r in self.resources.values()],
            "modules": list(self.modules),
        }
        if any(left.values()):
            raise Violation(f"not given back: { {name: items for name, items in left.items() if items} }")

    def guard_gl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lets moderngl refuse to draw, read or write while anything is mapped, and to release what is registered."""
        for kind, names in (
            (moderngl.VertexArray, ("render",)),
            (moderngl.Framebuffer, ("clear", "read_into", "read")),
            (moderngl.Texture, ("write", "read", "read_into")),
            (moderngl.Buffer, ("write", "read", "read_into")),
        ):
            for name in names:
                monkeypatch.setattr(kind, name, self._guarded(getattr(kind, name), f"{kind.__name__}.{name}"))
        for kind, word in ((moderngl.Texture, "texture"), (moderngl.Buffer, "buffer")):
            monkeypatch.setattr(kind, "release", self._guarded_release(kind.release, word))

    def _guarded(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(method)
        def guarded(*arguments: Any, **options: Any) -> Any:
            if mapped := [f"{r.kind} {r.glo}" for r in self.resources.values() if r.array or r.block]:
                raise Violation(f"{name} while CUDA has {mapped}")
            return method(*arguments, **options)

        return guarded

    def _guarded_release(self, method: Callable[..., Any], kind: str) -> Callable[..., Any]:
        @functools.wraps(method)
        def guarded(item: Any) -> Any:
            lost = self.lost_at == ""  # what cannot be unregistered any more is released all the same
            if not lost and any(r.kind == kind and r.glo == item.glo for r in self.resources.values()):
                raise Violation(f"{kind} {item.glo} released while it is registered with CUDA")
            return method(item)

        return guarded

    # What the fakes of CUDA and TensorRT call.

    def handle(self) -> int:
        self.next_handle += 0x10
        return self.next_handle

    def refused(self, name: str) -> int:
        """The code that a test wants of this call, 0 for none."""
        if self.lost_at in ("", name):
            self.lost_at = ""
            return self.lost
        if name not in self.failures:
            return 0
        after, code = self.failures[name]
        if after:
            self.failures[name][0] -= 1
            return 0
        del self.failures[name]
        return code

    def capturing(self) -> bool:
        return any(stream.recorded is not None for stream in self.streams.values())

    def stream(self, handle: int, what: str) -> Stream:
        """The stream of a handle. Raises Violation if it is the default one or gone."""
        if handle == 0:
            raise Violation(f"{what} on the default stream")
        if handle not in self.streams:
            raise Violation(f"{what} on a stream that is not there")
        return self.streams[handle]

    def allocate(self, kind: str, nbytes: int) -> Block:
        storage = np.full(nbytes + 3 * ALIGNMENT, GUARD, np.uint8)
        address = -(-(storage.ctypes.data + ALIGNMENT) // ALIGNMENT) * ALIGNMENT
        block = Block(kind, address, nbytes, storage)
        block.bytes[:] = FRESH
        at = bisect_right(self.addresses, address)
        self.blocks.insert(at, block)
        self.addresses.insert(at, address)
        return block

    def release(self, address: int, kind: str) -> None:
        """Frees a block; its storage stays, so that its address is not used again."""
        block = self.block_at(address)
        if block is None or block.address != address or block.kind != kind or not block.alive:
            raise Violation(f"{address:#x} given back, which is no {kind} that is there")
        block.check_guards("something")
        block.bytes[:] = FREED
        block.alive = False

    def block_at(self, address: int) -> Block | None:
        """The block, alive or not, that an address lies in."""
        at = bisect_right(self.addresses, address) - 1
        if at < 0 or address >= self.blocks[at].address + self.blocks[at].nbytes:
            return None
        return self.blocks[at]

    def require(self, address: int, nbytes: int, kinds: tuple[str, ...], what: str) -> Block:
        """The block that a range lies in. Raises Violation unless all of it is there."""
        block = self.block_at(address)
        if block is None or block.kind not in kinds:
            found = "no memory of CUDA" if block is None else block.kind
            raise Violation(f"{what}: {address:#x} is {found}; wanted {' or '.join(kinds)}")
        if not block.alive:
            raise Violation(f"{what}: {block.kind} is used after it was given back")
        if address + nbytes > block.address + block.nbytes:
            room = block.address + block.nbytes - address
            raise Violation(f"{what}: out of bounds, {nbytes} bytes where {room} are")
        return block

    def view(self, address: int, nbytes: int) -> ByteArray:
        """The memory at an address that `require` has passed."""
        block = self.block_at(address)
        assert block is not None
        return block.bytes[address - block.address :][:nbytes]

    def put(self, handle: int, name: str, make: Callable[[], Work]) -> None:
        """Puts work into a stream, or into the graph that the stream is captured for.

        `make` checks what the work needs, and is called again each time the graph is launched.
        """
        stream = self.stream(handle, name)
        work = make()
        if stream.recorded is not None:
            stream.recorded.append(make)
            return
        for other in self.streams.values():
            if other is stream:
                continue
            for earlier in other.pending:
                if overlap(earlier.touched, work.writes) or overlap(earlier.writes, work.reads):
                    raise Violation(f"{name} on one stream, unordered with {earlier.name} on another")
        stream.pending.append(work)

    def synchronise(self, stream: Stream) -> None:
        while stream.pending:
            work = stream.pending.pop(0)
            work.run()
            self._check_guards(work)

    def flush(self, stream: Stream) -> None:
        """Does a stream's work as far as the host cannot see it."""
        left: list[Work] = []
        for work in stream.pending:
            if work.early is None:
                for earlier in [w for w in left if overlap(w.writes, work.reads)]:  # host memory, filled and sent on
                    left.remove(earlier)
                    earlier.run()
                work.run()
            else:
                left.append(work.early())
            self._check_guards(work)
        stream.pending[:] = left

    def _check_guards(self, work: Work) -> None:
        for address, _ in work.writes:
            if block := self.block_at(address):
                block.check_guards(work.name)

    def resources_of(self, count: int, address: int, what: str) -> list[Resource]:
        """Resources of an array of handles. The OpenGL context that they were registered in must be current."""
        handles = list((ctypes.c_void_p * count).from_address(address))
        if len(set(handles)) < count:
            raise Violation(f"{what}: a resource twice")
        found = []
        for handle in handles:
            if handle not in self.resources:
                raise Violation(f"{what}: {handle} is not registered")
            found.append(self.resources[handle])
            self.check_gl(found[-1].kind, found[-1].glo, what, found[-1].context)
        return found

    def check_gl(self, kind: str, glo: int, what: str, context: int | None = None) -> None:
        current = self.gl.current()
        if not current:
            raise Violation(f"{what}: no OpenGL context is current")
        if context not in (None, current):
            raise Violation(f"{what}: another OpenGL context is current")
        if not self.gl.is_alive(kind, glo):
            raise Violation(f"{what}: {kind} {glo} is not there, or was released")


def call(outputs: int = 0, captured: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a function of CUDA of a method that returns its `outputs` values and raises Refusal.

    `captured`: it may be called during a capture.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        name = method.__name__

        @functools.wraps(method)
        def function(self: Module, *arguments: Any) -> tuple[Any, ...]:
            fake = self.fake
            fake.calls[name] += 1
            self.check_arguments(name, arguments)
            if name == "cudaSetDevice":
                fake.threads.add(threading.get_ident())
            elif name not in OF_NO_DEVICE and threading.get_ident() not in fake.threads:
                raise Violation(f"{name} on a thread that has not chosen the device")
            if fake.capturing() and not captured:
                raise Violation(f"{name} during a capture")
            try:
                if code := fake.refused(name):
                    if name == "cudaStreamEndCapture":  # the capture ends all the same
                        fake.stream(int(arguments[0]), name).recorded = None
                    raise Refusal(code)
                result = method(self, *arguments)
            except Refusal as refusal:
                return (self.error(refusal.args[0]), *[None] * outputs)
            if outputs == 1:
                result = (result,)
            return (self.error(0), *(result or ()))

        return function

    return decorate


class Module:
    """What both fakes have in common: the real one's types and constants."""

    error_type = ""

    def __init__(self, fake: FakeCuda, real: Any) -> None:
        self.fake, self.real = fake, real

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.real, name)
        if type(value).__name__ == "cython_function_or_method":
            raise Violation(f"the fake has no {name}")
        return value

    def error(self, code: int) -> Any:
        try:
            return getattr(self.real, self.error_type)(code)
        except ValueError:  # a test's number that has no name
            return code

    def check_arguments(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.fake.has_gpu:  # the real call would do what it says
            return
        try:
            getattr(self.real, name)(*arguments)
        except TypeError as error:
            raise Violation(f"{name}{arguments}: {error}") from error
        except RuntimeError as error:  # there is no driver, as it says
            assert "driver library" in str(error), error


class Runtime(Module):
    """cuda.bindings.runtime."""

    error_type = "cudaError_t"

    @call(1)
    def cudaGetDeviceCount(self) -> int:
        return self.fake.devices

    @call()
    def cudaSetDevice(self, device: int) -> None:
        if device >= self.fake.devices:
            raise Refusal(101)

    @call(1)
    def cudaGetDeviceProperties(self, device: int) -> Any:
        properties = self.real.cudaDeviceProp()
        properties.name = b"Fake GPU".ljust(256, b"\0")
        properties.major, properties.minor = self.fake.capability
        properties.totalGlobalMem = self.fake.memory
        return properties

    @call(1)
    def cudaDriverGetVersion(self) -> int:
        return 13010

    @call(1)
    def cudaRuntimeGetVersion(self) -> int:
        return 13000

    @call(captured=True)
    def cudaGetLastError(self) -> None:
        pass

    @call(2)
    def cudaMemGetInfo(self) -> tuple[int, int]:
        used = sum(b.nbytes for b in self.fake.blocks if b.alive and b.kind == DEVICE)
        return self.fake.memory - used, self.fake.memory

    # Memory.

    @call(1)
    def cudaMalloc(self, nbytes: int) -> int:
        if nbytes > self.fake.memory - sum(b.nbytes for b in self.fake.blocks if b.alive and b.kind == DEVICE):
            raise Refusal(NO_MEMORY)
        return self.fake.allocate(DEVICE, nbytes).address

    @call()
    def cudaFree(self, pointer: int) -> None:
        for stream in self.fake.streams.values():  # it waits for the device
            self.fake.flush(stream)
        self.fake.release(pointer, DEVICE)

    @call(1)
    def cudaHostAlloc(self, nbytes: int, flags: int) -> int:
        return self.fake.allocate(PINNED, nbytes).address

    @call()
    def cudaFreeHost(self, pointer: int) -> None:
        block = self.fake.block_at(pointer)
        if block and any(
            overlap(w.touched, [(pointer, block.nbytes)]) for s in self.fake.streams.values() for w in s.pending
        ):
            raise Violation("cudaFreeHost of memory that a stream is going to use")
        self.fake.release(pointer, PINNED)

    @call(captured=True)
    def cudaMemcpyAsync(self, to: int, from_: int, nbytes: int, kind: Any, stream: Any) -> None:
        kinds = self.real.cudaMemcpyKind
        if kind == kinds.cudaMemcpyHostToDevice:
            self._upload(to, from_, nbytes, int(stream))
        elif kind == kinds.cudaMemcpyDeviceToHost:
            self._download(to, from_, nbytes, int(stream))
        elif kind == kinds.cudaMemcpyDeviceToDevice:
            self._copy(to, from_, nbytes, int(stream))
        else:
            raise Violation(f"cudaMemcpyAsync: kind {kind}")

    def _pinned(self, address: int, nbytes: int, stream: int, what: str) -> bool:
        """Whether host memory is page-locked, and all of it there."""
        fake = self.fake
        block = fake.block_at(address)
        if block is not None:
            fake.require(address, nbytes, (PINNED,), what)
        elif fake.stream(stream, what).recorded is not None:
            raise Violation(f"{what}: pageable memory in a capture")
        return block is not None

    def _upload(self, to: int, from_: int, nbytes: int, stream: int) -> None:
        fake, what = self.fake, "an upload"
        pinned = self._pinned(from_, nbytes, stream, what)
        source = (from_, nbytes)

        def make() -> Work:
            fake.require(to, nbytes, (DEVICE, MAPPED), what)
            if not pinned:  # it is staged at once
                staged = ctypes.string_at(from_, nbytes)
                return Work(what, lambda: write(staged), writes=[(to, nbytes)])
            fake.require(*source, (PINNED,), what)
            filled_before = any(overlap(w.writes, [source]) for w in fake.stream(stream, what).pending)
            data = fake.view(*source).tobytes()

            def verify() -> None:
                if fake.view(*source).tobytes() != data:
                    raise Violation("page-locked memory was changed before the upload from it was done")

            def run() -> None:
                if filled_before:
                    write(fake.view(*source).tobytes())
                else:
                    write(data)
                    verify()

            def early() -> Work:
                write(data)
                return Work(what, verify, reads=[source])

            return Work(what, run, [source], [(to, nbytes)], None if filled_before else early)

        def write(data: bytes) -> None:
            fake.view(to, nbytes)[:] = np.frombuffer(data, np.uint8)

        fake.put(stream, what, make)

    def _download(self, to: int, from_: int, nbytes: int, stream: int) -> None:
        fake, what = self.fake, "a download"
        fake.require(from_, nbytes, (DEVICE, MAPPED), what)
        if not self._pinned(to, nbytes, stream, what):  # it waits
            fake.put(stream, what, lambda: Work(what, lambda: None, reads=[(from_, nbytes)]))
            fake.synchronise(fake.stream(stream, what))
            ctypes.memmove(to, fake.view(from_, nbytes).ctypes.data, nbytes)
            return

        def make() -> Work:
            fake.require(from_, nbytes, (DEVICE, MAPPED), what)
            fake.require(to, nbytes, (PINNED,), what)
            if fake.stream(stream, what).recorded is None:
                fake.view(to, nbytes)[:] = POISON

            def run() -> None:
                fake.view(to, nbytes)[:] = fake.view(from_, nbytes)

            def early() -> Work:
                data = fake.view(from_, nbytes).copy()
                return Work(what, lambda: np.copyto(fake.view(to, nbytes), data), writes=[(to, nbytes)])

            return Work(what, run, [(from_, nbytes)], [(to, nbytes)], early)

        fake.put(stream, what, make)

    def _copy(self, to: int, from_: int, nbytes: int, stream: int) -> None:
        fake, what = self.fake, "a copy"

        def make() -> Work:
            for address in (to, from_):
                fake.require(address, nbytes, (DEVICE, MAPPED), what)
            if abs(to - from_) < nbytes:
                raise Violation("a copy onto itself")
            return Work(
                what,
                lambda: np.copyto(fake.view(to, nbytes), fake.view(from_, nbytes)),
                [(from_, nbytes)],
                [(to, nbytes)],
            )

        fake.put(stream, what, make)

    @call(captured=True)
    def cudaMemsetAsync(self, to: int, value: int, nbytes: int, stream: Any) -> None:
        def make() -> Work:
            self.fake.require(to, nbytes, (DEVICE, MAPPED), "a memset")
            return Work("a memset", lambda: self.fake.view(to, nbytes).fill(value), writes=[(to, nbytes)])

        self.fake.put(int(stream), "a memset", make)

    # Streams and graphs.

    @call(1)
    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        if flags != self.real.cudaStreamNonBlocking:
            raise Violation("a stream that waits for the default one")
        handle = self.fake.handle()
        self.fake.streams[handle] = Stream()
        return self.real.cudaStream_t(handle)

    @call()
    def cudaStreamDestroy(self, stream: Any) -> None:
        if self.fake.stream(int(stream), "cudaStreamDestroy").pending:
            raise Violation("cudaStreamDestroy of a stream that has work to do")
        del self.fake.streams[int(stream)]

    @call()
    def cudaStreamSynchronize(self, stream: Any) -> None:
        self.fake.synchronise(self.fake.stream(int(stream), "cudaStreamSynchronize"))

    @call()
    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> None:
        if mode != self.real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal:
            raise Violation("a capture that other threads can break")
        self.fake.stream(int(stream), "cudaStreamBeginCapture").recorded = []

    @call(1, captured=True)
    def cudaStreamEndCapture(self, stream: Any) -> Any:
        found = self.fake.stream(int(stream), "cudaStreamEndCapture")
        recorded, found.recorded = found.recorded, None
        if recorded is None:
            raise Refusal(ILLEGAL_STATE)
        handle = self.fake.handle()
        self.fake.graphs[handle] = recorded
        return self.real.cudaGraph_t(handle)

    @call(1)
    def cudaGraphInstantiate(self, graph: Any, flags: int) -> Any:
        handle = self.fake.handle()
        self.fake.executables[handle] = self.fake.graphs[int(graph)]
        return self.real.cudaGraphExec_t(handle)

    @call()
    def cudaGraphDestroy(self, graph: Any) -> None:
        if self.fake.graphs.pop(int(graph), None) is None:
            raise Violation("cudaGraphDestroy of no graph")

    @call()
    def cudaGraphLaunch(self, executable: Any, stream: Any) -> None:
        if int(executable) not in self.fake.executables:
            raise Violation("cudaGraphLaunch of no graph")
        for make in self.fake.executables[int(executable)]:
            self.fake.put(int(stream), "a graph", make)

    @call()
    def cudaGraphExecDestroy(self, executable: Any) -> None:
        if self.fake.executables.pop(int(executable), None) is None:
            raise Violation("cudaGraphExecDestroy of no graph")

    # OpenGL.

    def _register(self, kind: str, glo: int) -> Any:
        fake, what = self.fake, f"registration of {kind} {glo}"
        fake.check_gl(kind, glo, what)
        if any(r.kind == kind and r.glo == glo for r in fake.resources.values()):
            raise Violation(f"{what}: it is registered already")
        if kind == "texture" and fake.gl.texture(glo) is None:
            raise Refusal(INVALID_VALUE)
        handle = fake.handle()
        fake.resources[handle] = Resource(kind, glo, fake.gl.current())
        return self.real.cudaGraphicsResource_t(handle)

    @call(1)
    def cudaGraphicsGLRegisterImage(self, glo: int, target: int, flags: int) -> Any:
        if target != GL.TEXTURE:
            raise Violation(f"target {target:#x}")
        if flags != self.real.cudaGraphicsRegisterFlags.cudaGraphicsRegisterFlagsReadOnly:
            raise Violation("a texture to be read that is not registered as one")
        return self._register("texture", glo)

    @call(1)
    def cudaGraphicsGLRegisterBuffer(self, glo: int, flags: int) -> Any:
        if flags != self.real.cudaGraphicsRegisterFlags.cudaGraphicsRegisterFlagsWriteDiscard:
            raise Violation("a buffer to be written that is not registered as one")
        return self._register("buffer", glo)

    @call()
    def cudaGraphicsUnregisterResource(self, resource: Any) -> None:
        handle = ctypes.c_void_p(int(resource))
        (found,) = self.fake.resources_of(1, ctypes.addressof(handle), "unregistration")
        if found.array or found.block:
            raise Violation(f"unregistration of {found.kind} {found.glo} while it is mapped")
        del self.fake.resources[int(resource)]

    @call()
    def cudaGraphicsMapResources(self, count: int, address: int, stream: Any) -> None:
        fake = self.fake
        fake.stream(int(stream), "map")
        for resource in fake.resources_of(count, address, "map"):
            if resource.array or resource.block:
                raise Violation(f"map of {resource.kind} {resource.glo}, which is mapped")
            if resource.kind == "buffer":  # its contents are discarded
                resource.block = fake.allocate(MAPPED, fake.gl.buffer(resource.glo))
            else:
                pixels = fake.gl.texture(resource.glo)
                assert pixels is not None
                resource.array = fake.handle()
                fake.arrays[resource.array] = Array(pixels)

    @call()
    def cudaGraphicsUnmapResources(self, count: int, address: int, stream: Any) -> None:
        fake = self.fake
        own = fake.stream(int(stream), "unmap")
        resources = fake.resources_of(count, address, "unmap")
        fake.flush(own)
        for resource in resources:
            if resource.block:
                block, resource.block = resource.block, None
                mapped = [(block.address, block.nbytes)]
                if any(overlap(w.touched, mapped) for s in fake.streams.values() if s is not own for w in s.pending):
                    raise Violation("unmap of a buffer that another stream is going to use")
                fake.gl.buffer(resource.glo, block.bytes)
                fake.release(block.address, MAPPED)
            elif resource.array:
                fake.arrays[resource.array].alive = False
                resource.array = 0
            else:
                raise Violation(f"unmap of {resource.kind} {resource.glo}, which is not mapped")

    @call(1)
    def cudaGraphicsSubResourceGetMappedArray(self, resource: Any, index: int, level: int) -> Any:
        found = self.fake.resources.get(int(resource))
        if found is None or not found.array:
            raise Violation("the array of a texture that is not mapped")
        return self.real.cudaArray_t(found.array)

    @call(2)
    def cudaGraphicsResourceGetMappedPointer(self, resource: Any) -> tuple[int, int]:
        found = self.fake.resources.get(int(resource))
        if found is None or found.block is None:
            raise Violation("the address of a buffer that is not mapped")
        return found.block.address, found.block.nbytes

    @call(captured=True)
    def cudaMemcpy2DFromArrayAsync(
        self, to: int, pitch: int, array: Any, x: int, y: int, width: int, height: int, kind: Any, stream: Any
    ) -> None:
        fake, what = self.fake, "a copy from a texture"
        if kind != self.real.cudaMemcpyKind.cudaMemcpyDeviceToDevice:
            raise Violation(f"{what}: kind {kind}")
        if fake.stream(int(stream), what).recorded is not None:
            raise Violation(f"{what} in a graph: its array is another one each time")
        source = fake.arrays.get(int(array))
        if source is None or not source.alive:
            raise Violation(f"{what} that is not mapped")
        if y + height > source.pixels.shape[0] or x + width > source.pixels.shape[1] or pitch < width:
            raise Violation(f"{what}: out of bounds, {height} rows of {width} bytes of {list(source.pixels.shape)}")
        nbytes = (height - 1) * pitch + width

        def make() -> Work:
            fake.require(to, nbytes, (DEVICE, MAPPED), what)

            def run() -> None:
                rows = np.lib.stride_tricks.as_strided(fake.view(to, nbytes), (height, width), (pitch, 1))
                rows[:] = source.pixels[y : y + height, x : x + width]

            return Work(what, run, writes=[(to, nbytes)])

        fake.put(int(stream), what, make)


class Driver(Module):
    """cuda.bindings.driver."""

    error_type = "CUresult"

    @call(1)
    def cuModuleLoadData(self, image: bytes) -> Any:
        if not image:
            raise Refusal(INVALID_IMAGE)
        handle = self.fake.handle()
        self.fake.modules[handle] = image
        return self.real.CUmodule(handle)

    @call()
    def cuModuleUnload(self, module: Any) -> None:
        if self.fake.modules.pop(int(module), None) is None:
            raise Violation("cuModuleUnload of no module")

    @call(1)
    def cuModuleGetFunction(self, module: Any, name: bytes) -> Any:
        image = self.fake.modules.get(int(module))
        if image is None:
            raise Violation("a kernel of no module")
        if name.decode() not in self.fake.signatures or (image.startswith(b"\x7fELF") and name not in image):
            raise Refusal(NOT_FOUND)
        handle = self.fake.handle()
        self.fake.kernels[handle] = int(module), name.decode()
        return self.real.CUfunction(handle)

    @call(captured=True)
    def cuLaunchKernel(
        self,
        function: Any,
        gx: int,
        gy: int,
        gz: int,
        bx: int,
        by: int,
        bz: int,
        shared: int,
        stream: Any,
        parameters: int,
        extra: int,
    ) -> None:
        fake = self.fake
        if int(function) not in fake.kernels:
            raise Violation("a launch of no kernel")
        module, name = fake.kernels[int(function)]
        if min(gx, gy, gz, bx, by, bz) < 1 or bx * by * bz > 1024 or gx >= 1 << 31 or max(gy, gz) >= 1 << 16:
            raise Refusal(INVALID_VALUE)
        types = fake.signatures[name]
        addresses = list((ctypes.c_void_p * (len(types) + 1)).from_address(parameters))
        if None in addresses[:-1] or addresses[-1] is not None:
            raise Violation(f"{name}: {len(types)} parameters, and another number of arguments")
        arguments = [
            kind.from_buffer_copy(ctypes.string_at(address, ctypes.sizeof(kind)))  # type: ignore[attr-defined]
            for kind, address in zip(types, addresses, strict=False)
        ]
        pointers = [a.value or 0 for a in arguments if isinstance(a, ctypes.c_void_p)]

        def make() -> Work:
            if module not in fake.modules:
                raise Violation(f"{name} after its module was unloaded")
            blocks = [fake.require(pointer, 1, (DEVICE, MAPPED), name) for pointer in pointers]
            # Which of them it only reads is not known here.
            ranges = [(block.address, block.nbytes) for block in blocks]
            return Work(name, lambda: fake.launch_twin(name, (gx, gy, gz), (bx, by, bz), arguments), writes=ranges)

        fake.put(int(stream), name, make)
