"""Displaced vertices and a head pose -> position map (OpenGL through moderngl; a software renderer will do).

Shape letters: V vertices, F triangles, H and W pixels. Row 0 is the top of the image, pixel centres lie at .5.
"""

from __future__ import annotations

import moderngl
import numpy as np

from ..arrays import FloatArray, IntArray
from ..camera import Camera
from .gl import UnlockedGL, column_major, load_shader


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
