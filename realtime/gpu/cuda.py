"""CUDA, and what it shares with OpenGL: memory, streams, graphs, kernels, textures and buffers that both see.

The only file that calls the CUDA runtime (memory, streams, graphs, OpenGL) and the driver (modules and kernels, which
the runtime cannot load). Addresses and handles are plain ints. One thread makes a `Cuda` and uses it; where OpenGL is
concerned, the OpenGL context must be current on that thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import ByteArray
from ..errors import MiravoxError
from .cuda_error import CudaError

TEXTURE_2D = 0x0DE1  # GL_TEXTURE_2D


def load(name: str) -> Any:
    """A module of cuda.bindings. Raises MiravoxError if it is not installed."""
    try:
        return importlib.import_module(f"cuda.bindings.{name}")
    except ImportError as error:
        raise MiravoxError(
            "CUDA for Python",
            found=f"no cuda.bindings.{name} ({error})",
            wanted="cuda-python 13 or newer",
            remedy="Install it: pip install -e .[gpu]",
        ) from error


class Cuda:
    """One device, and a ledger of everything that was made on it and not yet given back.

    Attributes:
        device: its index.
        name: such as "NVIDIA GeForce RTX 4090".
        compute_capability: ten times the major number plus the minor one: 89, 120.
        driver_version, runtime_version: the CUDA version that the driver supports and that the runtime is of, as
            1000 times the major number plus 10 times the minor one: 13010.
        memory: bytes the device has.
    """

    def __init__(self, device: int = 0, runtime: Any = None, driver: Any = None) -> None:
        """Makes the device current on this thread.

        Args:
            runtime, driver: cuda.bindings.runtime and .driver, imported when left out.
        """
        self.runtime = load("runtime") if runtime is None else runtime
        self.driver = load("driver") if driver is None else driver
        self.device, self._thread = device, threading.get_ident()
        self._held: dict[str, dict[int, str]] = {}
        count = self._call(self.runtime.cudaGetDeviceCount)
        if not 0 <= device < count:
            raise MiravoxError(
                "the CUDA device", found=f"{device}", wanted=f"0 to {count - 1}", remedy="nvidia-smi lists the devices."
            )
        self._call(self.runtime.cudaSetDevice, device)
        properties = self._call(self.runtime.cudaGetDeviceProperties, device)
        self.name: str = properties.name.split(b"\0")[0].decode()
        self.compute_capability: int = 10 * properties.major + properties.minor
        self.memory: int = properties.totalGlobalMem
        self.driver_version: int = self._call(self.runtime.cudaDriverGetVersion)
        self.runtime_version: int = self._call(self.runtime.cudaRuntimeGetVersion)

    def _call(self, function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
        """What a function of CUDA gives besides its error code: None, a value, or a tuple of values.

        Raises CudaError, and MiravoxError on a thread that did not make this object.
        """
        name = function.__name__
        if threading.get_ident() != self._thread:  # the current device and the OpenGL context belong to a thread
            raise MiravoxError(
                name,
                found=f"a call on the wrong thread, {threading.current_thread().name}",
                wanted="the thread that opened CUDA",
                remedy="Open, use and close CUDA and OpenGL on one thread.",
            )
        error, *results = function(*arguments)
        if int(error) != 0:
            self.runtime.cudaGetLastError()  # clears it: TensorRT would take it for one of its own
            # A driver may be newer than the bindings, and its errors without a name.
            raise CudaError(name, int(error), getattr(error, "name", "of a kind unknown here"))
        return results[0] if len(results) == 1 else tuple(results) or None

    def _hold(self, kind: str, handle: int, what: str = "") -> int:
        self._held.setdefault(kind, {})[handle] = what
        return handle

    def _give_back(self, kind: str, handle: int) -> None:
        """Strikes a handle from the ledger. Raises ValueError if it is not in it: never made, or given back before."""
        if self._held.get(kind, {}).pop(handle, None) is None:
            raise ValueError(f"{handle:#x} is no {kind} that is held")

    # Memory.

    def allocate(self, nbytes: int) -> int:
        """Device memory, not cleared: its address, a multiple of 256."""
        if nbytes <= 0:
            raise ValueError(f"{nbytes} bytes of device memory")
        return self._hold("device memory", int(self._call(self.runtime.cudaMalloc, nbytes)), f"{nbytes} bytes")

    def free(self, pointer: int) -> None:
        """Gives device memory back; waits until the device has done its work."""
        self._give_back("device memory", pointer)
        self._call(self.runtime.cudaFree, pointer)

    def pinned(self, nbytes: int) -> ByteArray:
        """Page-locked host memory, cleared, uint8 [nbytes]: what `upload` and `download` copy without waiting.

        The array does not own it; no view of it may be used after free_pinned.
        """
        if nbytes <= 0:
            raise ValueError(f"{nbytes} bytes of pinned memory")
        address = int(self._call(self.runtime.cudaHostAlloc, nbytes, 0))
        self._hold("pinned memory", address, f"{nbytes} bytes")
        array: ByteArray = np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))
        array[:] = 0
        return array

    def free_pinned(self, array: ByteArray) -> None:
        """Gives back what `pinned` gave: the array itself or a view of it from its start."""
        self._give_back("pinned memory", array.ctypes.data)
        self._call(self.runtime.cudaFreeHost, array.ctypes.data)

    def upload(self, to: int, array: NDArray[Any], stream: int) -> None:
        """Copies a C-contiguous host array to the device; if pinned, it must not change until the stream is there."""
        self._copy(to, _address(array), array.nbytes, self.runtime.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def download(self, array: NDArray[Any], from_: int, stream: int) -> None:
        """Fills a C-contiguous host array from the device; if pinned, it is filled once the stream is synchronised."""
        if not array.flags.writeable:
            raise ValueError("an array that must not be written")
        self._copy(_address(array), from_, array.nbytes, self.runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def copy(self, to: int, from_: int, nbytes: int, stream: int) -> None:
        """Copies within the device."""
        self._copy(to, from_, nbytes, self.runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice, stream)

    def _copy(self, to: int, from_: int, nbytes: int, kind: Any, stream: int) -> None:
        self._call(self.runtime.cudaMemcpyAsync, to, from_, nbytes, kind, stream)

    def clear(self, to: int, nbytes: int, stream: int) -> None:
        """Sets device memory to zeros."""
        self._call(self.runtime.cudaMemsetAsync, to, 0, nbytes, stream)

    def memory_used(self) -> int:
        """Bytes of the device's memory that are taken, by whatever program."""
        free, total = self._call(self.runtime.cudaMemGetInfo)
        return int(total) - int(free)

    # Streams and graphs.

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""
        flags = self.runtime.cudaStreamNonBlocking
        return self._hold("stream", int(self._call(self.runtime.cudaStreamCreateWithFlags, flags)))

    def destroy_stream(self, stream: int) -> None:
        self._give_back("stream", stream)
        self._call(self.runtime.cudaStreamDestroy, stream)

    def synchronize(self, stream: int) -> None:
        """Waits until everything that was put into the stream is done; an error of that work is raised here."""
        self._call(self.runtime.cudaStreamSynchronize, stream)

    def begin_capture(self, stream: int) -> None:
        """What is put into the stream from here on is recorded and not done.

        Nothing may be allocated, freed, mapped or waited for on this thread until the capture ends; other threads may.
        """
        mode = self.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(self.runtime.cudaStreamBeginCapture, stream, mode)

    def end_capture(self, stream: int) -> int:
        """A graph of what was recorded, ready to launch. It keeps the addresses and sizes that were given."""
        graph = self._call(self.runtime.cudaStreamEndCapture, stream)
        try:
            executable = self._call(self.runtime.cudaGraphInstantiate, graph, 0)
        finally:
            self._call(self.runtime.cudaGraphDestroy, graph)
        return self._hold("graph", int(executable))

    def abort_capture(self, stream: int) -> None:
        """Ends a capture in which something failed, and drops what was recorded; does nothing outside a capture."""
        with contextlib.suppress(CudaError):  # CUDA calls the capture invalid, which is why it is dropped
            graph = self._call(self.runtime.cudaStreamEndCapture, stream)
            if int(graph) != 0:
                self._call(self.runtime.cudaGraphDestroy, graph)

    def launch_graph(self, executable: int, stream: int) -> None:
        self._call(self.runtime.cudaGraphLaunch, executable, stream)

    def destroy_graph(self, executable: int) -> None:
        self._give_back("graph", executable)
        self._call(self.runtime.cudaGraphExecDestroy, executable)

    # What OpenGL and CUDA both see. The OpenGL context must be current.

    def register_texture(self, glo: int) -> int:
        """Makes a 2D texture of 1, 2 or 4 components readable for CUDA; gives the resource.

        Unregister it before the texture is released.
        """
        flags = int(self.runtime.cudaGraphicsRegisterFlags.cudaGraphicsRegisterFlagsReadOnly)
        resource = self._call(self.runtime.cudaGraphicsGLRegisterImage, glo, TEXTURE_2D, flags)
        return self._hold("registered texture", int(resource), f"texture {glo}")

    def register_buffer(self, glo: int) -> int:
        """Lets CUDA write all of a buffer anew; gives the resource. Unregister it before the buffer is released."""
        flags = int(self.runtime.cudaGraphicsRegisterFlags.cudaGraphicsRegisterFlagsWriteDiscard)
        resource = self._call(self.runtime.cudaGraphicsGLRegisterBuffer, glo, flags)
        return self._hold("registered buffer", int(resource), f"buffer {glo}")

    def unregister(self, resource: int) -> None:
        kind = "registered texture" if resource in self._held.get("registered texture", {}) else "registered buffer"
        self._give_back(kind, resource)
        self._call(self.runtime.cudaGraphicsUnregisterResource, resource)

    def map(self, resources: Sequence[int], stream: int) -> None:
        """Hands resources over to CUDA: OpenGL's work on them is done before the stream's work that follows.

        OpenGL must not touch them before `unmap`.
        """
        handles = (ctypes.c_void_p * len(resources))(*resources)
        self._call(self.runtime.cudaGraphicsMapResources, len(resources), ctypes.addressof(handles), stream)

    def unmap(self, resources: Sequence[int], stream: int) -> None:
        """Hands resources back: the stream's work on them is done before OpenGL's work that follows."""
        handles = (ctypes.c_void_p * len(resources))(*resources)
        self._call(self.runtime.cudaGraphicsUnmapResources, len(resources), ctypes.addressof(handles), stream)

    def mapped_array(self, resource: int) -> int:
        """The array of a mapped texture. It may be another one each time the texture is mapped."""
        return int(self._call(self.runtime.cudaGraphicsSubResourceGetMappedArray, resource, 0, 0))

    def mapped_buffer(self, resource: int) -> tuple[int, int]:
        """Address and bytes of a mapped buffer. The address may be another one each time the buffer is mapped."""
        pointer, nbytes = self._call(self.runtime.cudaGraphicsResourceGetMappedPointer, resource)
        return int(pointer), int(nbytes)

    def copy_from_array(self, to: int, to_pitch: int, array: int, width_bytes: int, height: int, stream: int) -> None:
        """Copies the first `height` rows of an array, `width_bytes` each, to rows `to_pitch` bytes apart."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call(
            self.runtime.cudaMemcpy2DFromArrayAsync, to, to_pitch, array, 0, 0, width_bytes, height, kind, stream
        )

    # Kernels.

    def load_module(self, image: bytes) -> int:
        """A compiled file of kernels (cubin or PTX) on the device."""
        return self._hold("module", int(self._call(self.driver.cuModuleLoadData, image)))

    def unload_module(self, module: int) -> None:
        self._give_back("module", module)
        self._call(self.driver.cuModuleUnload, module)

    def kernel(self, module: int, name: str) -> int:
        """A kernel of a module, which lives as long as the module."""
        return int(self._call(self.driver.cuModuleGetFunction, module, name.encode()))

    def launch(
        self,
        kernel: int,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
        stream: int,
    ) -> None:
        """Runs a kernel.

        Args:
            grid: blocks along x, y and z.
            block: threads of a block along x, y and z.
            arguments: a ctypes value for each parameter; they are copied before this returns.
        """
        # CUDA reads as many as the kernel has. The empty one after the last shows a wrong count to whoever checks.
        addresses = (ctypes.c_void_p * (len(arguments) + 1))(*map(ctypes.addressof, arguments))
        self._call(self.driver.cuLaunchKernel, kernel, *grid, *block, 0, stream, ctypes.addressof(addresses), 0)

    def close(self, complain: bool = True) -> None:
        """Gives back all that is still held.

        Raises RuntimeError with a list of it, since somebody forgot it; `complain` is False where an error is on its
        way already, which must not be hidden.
        """
        left = [f"{kind} {what or hex(handle)}" for kind, items in self._held.items() for handle, what in items.items()]
        # Graphs before the memory and modules they use, streams last.
        functions: dict[str, Callable[[int], tuple[Any, ...]]] = {
            "graph": self.runtime.cudaGraphExecDestroy,
            "registered texture": self.runtime.cudaGraphicsUnregisterResource,
            "registered buffer": self.runtime.cudaGraphicsUnregisterResource,
            "module": self.driver.cuModuleUnload,
            "device memory": self.runtime.cudaFree,
            "pinned memory": self.runtime.cudaFreeHost,
            "stream": self.runtime.cudaStreamDestroy,
        }
        for kind, function in functions.items():
            for handle in self._held.pop(kind, {}):
                with contextlib.suppress(CudaError):  # after a fault of the device every call fails
                    self._call(function, handle)
        if left and complain:
            raise RuntimeError(f"still held when CUDA was closed: {', '.join(left)}")


def _address(array: NDArray[Any]) -> int:
    """Where a C-contiguous array lies."""
    if not array.flags.c_contiguous:
        raise ValueError(f"an array {array.dtype} {list(array.shape)} that is not C-contiguous")
    return array.ctypes.data
