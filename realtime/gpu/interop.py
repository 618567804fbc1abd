"""Whether CUDA and OpenGL share memory here, and which of EGL's devices is CUDA's."""

from __future__ import annotations

import contextlib
import ctypes

import moderngl
import numpy as np

from ..arrays import FloatArray
from .cuda import Cuda
from .cuda_error import CudaError

EGL_CUDA_DEVICE = 0x323A  # EGL_CUDA_DEVICE_NV
MOST_DEVICES = 64  # more than any machine has


def interop_device(cuda_device: int, library: str = "libEGL.so.1") -> int | None:
    """The index among EGL's devices of the GPU that CUDA numbers `cuda_device`.

    None if EGL is not there, is too old to tell, or has no device that belongs to that GPU.
    """
    try:
        egl = ctypes.CDLL(library)
    except OSError:
        return None
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    addresses = [egl.eglGetProcAddress(name) for name in (b"eglQueryDevicesEXT", b"eglQueryDeviceAttribEXT")]
    if None in addresses:
        return None
    devices_type = ctypes.POINTER(ctypes.c_void_p)
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, devices_type, ctypes.POINTER(ctypes.c_int))(
        addresses[0]
    )
    query_attribute = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t))(
        addresses[1]
    )
    devices, count, found = (ctypes.c_void_p * MOST_DEVICES)(), ctypes.c_int(), ctypes.c_ssize_t()
    if not query_devices(MOST_DEVICES, devices, ctypes.byref(count)):
        return None
    for index in range(count.value):
        if query_attribute(devices[index], EGL_CUDA_DEVICE, ctypes.byref(found)) and found.value == cuda_device:
            return index
    return None


def probe_interop(cuda: Cuda, context: moderngl.Context) -> str | None:
    """Whether textures and buffers of an OpenGL context can be handed to CUDA: None, or the reason why not.

    A small texture is read and a small buffer is written through CUDA, and both are compared.
    """
    with context:
        written = np.arange(5 * 3 * 4, dtype=np.float32).reshape(3, 5, 4)
        texture = context.texture((5, 3), 4, written.tobytes(), dtype="f4")
        buffer = context.buffer(reserve=written.nbytes)
        try:
            read = _round_trip(cuda, texture.glo, buffer.glo, written)
            if not np.array_equal(read, written):
                return "CUDA does not read from a texture what OpenGL has written"
            if buffer.read() != written.tobytes():
                return "OpenGL does not read from a buffer what CUDA has written"
        except CudaError as error:
            return f"{error} (OpenGL draws with {context.info['GL_RENDERER']})"
        finally:
            texture.release()
            buffer.release()
    return None


def _round_trip(cuda: Cuda, texture: int, buffer: int, written: FloatArray) -> FloatArray:
    """What CUDA reads from a texture of the size of `written`, [H, W, 4]; it is put into the buffer also."""
    row, height = written.nbytes // len(written), len(written)
    with contextlib.ExitStack() as undo:
        stream = cuda.create_stream()
        undo.callback(cuda.destroy_stream, stream)
        pointer = cuda.allocate(written.nbytes)
        undo.callback(cuda.free, pointer)
        resources = []
        for register, glo in ((cuda.register_texture, texture), (cuda.register_buffer, buffer)):
            resources.append(register(glo))
            undo.callback(cuda.unregister, resources[-1])
        cuda.map(resources, stream)
        try:
            cuda.copy_from_array(pointer, row, cuda.mapped_array(resources[0]), row, height, stream)
            cuda.copy(cuda.mapped_buffer(resources[1])[0], pointer, written.nbytes, stream)
        finally:
            cuda.unmap(resources, stream)
        read = np.empty_like(written)
        cuda.download(read, pointer, stream)
        cuda.synchronize(stream)
        return read
