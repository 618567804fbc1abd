"""Displaced vertices and a head pose -> position map (OpenGL through moderngl; a software renderer will do).

Shape letters: V vertices, F triangles, H and W pixels. Row 0 is the top of the image, pixel centres lie at .5.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import moderngl
import numpy as np
from numpy.typing import NDArray

from realtime.errors import MiravoxError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
ByteArray = NDArray[np.uint8]

SHADERS = Path(__file__).resolve().parents[1] / "shaders"
NEAR, FAR = 10.0, 500.0  # cm


@dataclass(frozen=True)
class Camera:
    """Pinhole camera in pixels for an image of width x height."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def scaled(self, width: int, height: int) -> Camera:
        """The same view at another image size."""
        x, y = width / self.width, height / self.height
        return Camera(self.fx * x, self.fy * y, self.cx * x, self.cy * y, width, height)

    def projection(self) -> FloatArray:
        """Camera space (OpenGL axes) -> clip space, 4 x 4 for column vectors, with row 0 of the framebuffer at the
        image's top.
        """
        w, h = self.width, self.height
        return np.array(
            [
                [2 * self.fx / w, 0, 1 - 2 * self.cx / w, 0],
                [0, -2 * self.fy / h, 1 - 2 * self.cy / h, 0],
                [0, 0, (FAR + NEAR) / (NEAR - FAR), 2 * FAR * NEAR / (NEAR - FAR)],
                [0, 0, -1, 0],
            ],
            np.float32,
        )

    def project(self, points_N3: FloatArray, pose_44: FloatArray) -> FloatArray:
        """Pixel position [N, 2] (x right, y down) of object-space points."""
        x, y, z = (points_N3 @ pose_44[:3, :3].T + pose_44[:3, 3]).T
        return np.stack([self.cx - self.fx * x / z, self.cy + self.fy * y / z], 1).astype(np.float32)


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
        "OpenGL", found=f"no usable context ({reasons[0]})", wanted="OpenGL 3.3, in software at least",
        remedy="On Debian or Ubuntu: apt-get install libegl1 libgl1 libgl1-mesa-dri.",
    )  # fmt: skip


class UnlockedGL:
    """Functions of OpenGL, for the context that is current, which let Python's other threads run meanwhile: moderngl
    itself holds Python's lock for as long as a software renderer draws, or waits for one that draws elsewhere.
    """

    TRIANGLES, TEXTURE_2D, RGBA, UNSIGNED_BYTE, UNSIGNED_INT = 0x0004, 0x0DE1, 0x1908, 0x1401, 0x1405

    def __init__(self, context: moderngl.Context) -> None:
        def function(name: str, *arguments: Any) -> Any:
            return ctypes.CFUNCTYPE(None, *arguments)(context.mglo._context.load(name))

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


class Rasteriser:
    """Draws one mesh into a float32 map.

    Everything is allocated once, here; use it on the thread that made the context.
    """

    def __init__(self, context: moderngl.Context, triangles_F3: IntArray, vertices: int, camera: Camera) -> None:
        self.context, self.camera = context, camera
        self.program = context.program(load_shader("position.vert"), load_shader("position.frag"))
        self.positions = context.buffer(reserve=vertices * 12, dynamic=True)
        self.values = context.buffer(reserve=vertices * 12, dynamic=True)
        self.index = context.buffer(np.ascontiguousarray(triangles_F3, np.int32).tobytes())
        self.mesh = context.vertex_array(
            self.program, [(self.positions, "3f", "position"), (self.values, "3f", "value")], self.index
        )
        size = (camera.width, camera.height)
        self.map_texture = context.texture(size, 4, dtype="f4")
        self.target = context.framebuffer([self.map_texture], context.depth_renderbuffer(size))
        self.gl = UnlockedGL(context)
        self.map_HW4 = np.zeros((camera.height, camera.width, 4), np.float32)

    def draw(self, vertices_V3: FloatArray, pose_44: FloatArray, values_V3: FloatArray | None = None) -> FloatArray:
        """Rasterises the mesh with depth test and reads it back.

        Args:
            vertices_V3: float32 [V, 3], object space, cm.
            pose_44: float32 [4, 4], object to camera.
            values_V3: float32 [V, 3], what to interpolate over the triangles; the vertices themselves by default.

        Returns:
            float32 [H, W, 4]: the interpolated value and coverage (1 or 0). Reused by the next call.
        """
        with self.context:  # another one may be current on this thread
            self.positions.write(np.ascontiguousarray(vertices_V3, np.float32))
            self.values.write(np.ascontiguousarray(vertices_V3 if values_V3 is None else values_V3, np.float32))
            self.render(pose_44)
            self.gl.finish()
            self.target.read_into(self.map_HW4, components=4, dtype="f4")
        return self.map_HW4

    def render(self, pose_44: FloatArray) -> None:
        """Rasterises what `positions` and `values` hold into `map_texture`. The context must be current."""
        self.program["object_to_clip"].write(column_major(self.camera.projection() @ pose_44))  # type: ignore[union-attr]
        self.target.use()
        self.target.clear(0, 0, 0, 0, depth=1)
        self.context.enable_only(moderngl.DEPTH_TEST)
        self.mesh.render(moderngl.TRIANGLES)

    def release(self) -> None:
        for item in (self.mesh, self.program, self.positions, self.values, self.index, self.target, self.map_texture):
            item.release()
