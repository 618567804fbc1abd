"""OpenGL without a window: a context, the shaders, and calls that let other threads run."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import moderngl
import numpy as np

from ..arrays import ByteArray, FloatArray
from ..errors import MiravoxError
from ..resources import resource_folder

SHADERS = resource_folder("shaders")


def create_context(device_index: int | None = None) -> moderngl.Context:
    """A headless OpenGL 3.3 context (EGL on Linux). Raises MiravoxError if there is none.

    Args:
        device_index: which of EGL's devices; by default the one that EGL prefers.
    """
    device = {} if device_index is None else {"device_index": device_index}
    attempts: list[dict[str, Any]] = [
        {"backend": "egl", **device},
        {"backend": "egl", "libgl": "libGL.so.1", "libegl": "libEGL.so.1", **device},
    ]
    if device_index is None:
        attempts.append({})
    reasons = []
    for options in attempts:
        try:
            return moderngl.create_context(standalone=True, require=330, **options)
        except Exception as error:  # noqa: BLE001  moderngl raises bare Exception, OSError or ImportError, as the platform has it
            reasons.append(str(error))
    raise MiravoxError(
        "OpenGL",
        found=f"no usable context ({reasons[0]})",
        wanted="OpenGL 3.3, in software at least",
        remedy="On Debian or Ubuntu: apt-get install libegl1 libgl1 libgl1-mesa-dri.",
    )


def function_loader(context: moderngl.Context) -> Callable[[str], int]:
    """moderngl's own way to the address of an OpenGL function.

    Raises MiravoxError if this version of moderngl does not have it where the tested ones do.
    """
    load = getattr(getattr(context.mglo, "_context", None), "load", None)
    try:
        address = load("glFinish") if callable(load) else None
    except Exception:  # noqa: BLE001  whatever another version does there: it is not what was tested
        address = None
    if load is None or not isinstance(address, int) or not address:
        raise MiravoxError(
            "moderngl",
            found=f"version {version('moderngl')}, which does not tell where OpenGL's functions are",
            wanted="version 5.10 to 5.13",
            remedy="Install one of those: pip install 'moderngl>=5.10,<5.14'.",
        )
    loader: Callable[[str], int] = load
    return loader


class UnlockedGL:
    """Functions of OpenGL, for the context that is current, which let Python's other threads run meanwhile.

    moderngl itself holds Python's lock for as long as a software renderer draws, or waits for one that draws elsewhere.
    It has no public way to ask for OpenGL's functions: `function_loader` is a private one, which is checked.
    """

    TRIANGLES, TEXTURE_2D, RGBA, UNSIGNED_BYTE, UNSIGNED_INT = 0x0004, 0x0DE1, 0x1908, 0x1401, 0x1405

    def __init__(self, context: moderngl.Context) -> None:
        load = function_loader(context)

        def function(name: str, *arguments: Any) -> Any:
            return ctypes.CFUNCTYPE(None, *arguments)(load(name))

        number, names, address = ctypes.c_int, ctypes.c_uint, ctypes.c_void_p
        self.finish = function("glFinish")
        self._use_program = function("glUseProgram", names)
        self._bind_vertex_array = function("glBindVertexArray", names)
        self._draw_elements = function("glDrawElements", names, number, names, address)
        self._tex_sub_image = function("glTexSubImage2D", names, *[number] * 5, names, names, address)
        self._read_pixels = function("glReadPixels", *[number] * 4, names, names, address)

    def draw(self, program: int, mesh: int, indices: int) -> None:
        """The first `indices` / 3 triangles of a vertex array whose indices are 32 bits wide."""
        self._use_program(program)
        self._bind_vertex_array(mesh)
        self._draw_elements(self.TRIANGLES, indices, self.UNSIGNED_INT, None)

    def write_texture(self, image: ByteArray, size: tuple[int, int]) -> None:
        """Bytes, four for each of `size` (width, height), into the 2D texture that was made current last."""
        assert image.dtype == np.uint8 and image.flags.c_contiguous and image.size == 4 * size[0] * size[1]
        self._tex_sub_image(self.TEXTURE_2D, 0, 0, 0, *size, self.RGBA, self.UNSIGNED_BYTE, image.ctypes.data)

    def read(self, image: ByteArray) -> None:
        """Fills uint8 [h, w, 4] from the current framebuffer's first h rows of w pixels."""
        assert image.dtype == np.uint8 and image.flags.c_contiguous and image.shape[2] == 4
        height, width, _ = image.shape
        self._read_pixels(0, 0, width, height, self.RGBA, self.UNSIGNED_BYTE, image.ctypes.data)


def load_shader(name: str) -> str:
    """The text of a file of shaders/."""
    return (SHADERS / name).read_text()


def column_major(matrix_44: FloatArray) -> bytes:
    """A matrix as OpenGL wants its uniform."""
    return np.ascontiguousarray(matrix_44.T, np.float32).tobytes()
