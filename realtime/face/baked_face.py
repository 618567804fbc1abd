"""Face image by the baked textures: one small matrix product for the vertices, one for the texels, one draw call.

    displacement(v, b) = D0(v) + sum_k d_k(b) D_k(v)          colour(u, v, b) = C0(u, v) + sum_k c_k(b) C_k(u, v)

Only the part of the mesh that the inpaint region needs is drawn, into a target as large as the inpaint box.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import moderngl
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from ..arrays import ByteArray, FloatArray
from ..camera import Camera
from ..contract import COEFFICIENTS
from ..errors import MiravoxError
from .engine import REMEDY, Engine
from .gl import UnlockedGL, column_major, load_shader

BAKED_FILES = ("baked.safetensors", "coefficients.onnx")
CHANGE_ZERO = 128  # texel of a colour that is the mean's


@dataclass(frozen=True)
class Baked:
    """What a folder of target baked holds, laid out for drawing. Nobody changes it: many may draw from one."""

    coefficients: Engine
    mean_positions: FloatArray  # [3 V'], cm: neutral + D0 of the V' vertices that the baked triangles use
    displacement: FloatArray  # [3 V', D]
    uv: FloatArray  # [V', 2]
    triangles: NDArray[np.int32]  # [3 F]
    mean: ByteArray  # [H, W, 4]
    # [C + 1, h w 4]: four bytes a texel are what a software renderer samples fastest. A change from -0.5 to 0.5 lies
    # around 128; the last row puts it there, so that one product makes all bytes.
    color: FloatArray
    change_size: tuple[int, int]  # w, h

    @staticmethod
    def load(folder: Path) -> Baked:
        """`folder` holds BAKED_FILES. Raises MiravoxError if the network is not one of these textures' factors."""
        tensors, network = (folder / name for name in BAKED_FILES)
        baked, coefficients = load_file(tensors), Engine(network, COEFFICIENTS)
        ranks = {name: len(baked[f"{name}_components"]) for name in ("displacement", "color")}
        found = {name: coefficients.output_shapes[name][1:] for name in ranks}
        if found != {name: (rank,) for name, rank in ranks.items()}:
            raise MiravoxError(
                str(network), found=f"factors {found}", wanted=f"{ranks}, as many as components", remedy=REMEDY
            )
        used, triangles = np.unique(baked["triangles"], return_inverse=True)
        displacement = baked["displacement_components"][:, used].astype(np.float32)  # [D, V', 3]
        components = baked["color_components"]  # [C, h, w, 3]
        color = np.zeros((len(components) + 1, *components.shape[1:3], 4), np.float32)
        np.multiply(components, np.float32(255), out=color[:-1, ..., :3])
        color[-1] = CHANGE_ZERO + 0.5
        mean = np.round(255 * np.clip(baked["color_mean"].astype(np.float32), 0, 1)).astype(np.uint8)  # [H, W, 3]
        return Baked(
            coefficients,
            np.ascontiguousarray(baked["positions"][used]).reshape(-1),
            np.ascontiguousarray(displacement.reshape(len(displacement), -1).T),
            np.ascontiguousarray(baked["uv"][used], np.float32),
            triangles.astype(np.int32).reshape(-1),
            np.pad(mean, ((0, 0), (0, 0), (0, 1))),
            color.reshape(len(color), -1),
            (components.shape[2], components.shape[1]),
        )


class BakedFace:
    """Draws the face into the inpaint box. Everything is allocated once; use it on the thread that made the context."""

    def __init__(self, context: moderngl.Context, baked: Baked, camera: Camera, box_size: tuple[int, int]) -> None:
        self.context, self.baked, self.camera, (self.width, self.height) = context, baked, camera, box_size
        self.factors = np.ones(len(baked.color), np.float32)
        self.texels = np.zeros(baked.color.shape[1], np.float32)
        self.change = np.zeros(self.texels.shape, np.uint8)
        mean_size = baked.mean.shape[1::-1]
        self.mean_texture = context.texture(mean_size, 4, baked.mean.tobytes())
        self.change_texture = context.texture(baked.change_size, 4)
        for texture in (self.mean_texture, self.change_texture):
            # The nose above the region takes the colour of the region's edge.
            texture.repeat_x = texture.repeat_y = False
        self.program = context.program(load_shader("baked.vert"), load_shader("baked.frag"))
        self.program["mean_color"], self.program["change"] = 0, 1
        self.program["mean_size"], self.program["change_size"] = mean_size, baked.change_size
        self.positions = context.buffer(reserve=baked.mean_positions.nbytes, dynamic=True)
        uv, index = context.buffer(baked.uv.tobytes()), context.buffer(baked.triangles.tobytes())
        self.mesh = context.vertex_array(self.program, [(self.positions, "3f", "position"), (uv, "2f", "uv")], index)
        self.half_size = (-(-self.width // 2), -(-self.height // 2))
        self.target, self.half_target = (
            context.framebuffer([context.texture(size, 4)], context.depth_renderbuffer(size))
            for size in (box_size, self.half_size)
        )
        self.gl = UnlockedGL(context)
        self.face = np.zeros((self.height, self.width, 4), np.uint8)
        self.half_face = np.zeros((*self.half_size[::-1], 4), np.uint8)

    def draw(self, latent: FloatArray, pose_44: FloatArray, box: NDArray[np.int32], halved: bool = False) -> ByteArray:
        """The face for b [1, 64] in a head pose, within the box (left, top, right, bottom; pixels).

        Returns uint8 [height, width, 4]: sRGB, and 255 where the mesh covers the pixel. Reused by the next call.
        `halved`: drawn at half the resolution, each pixel repeated.
        """
        displacement, color = self.baked.coefficients.run(latent)
        vertices = self.baked.mean_positions + self.baked.displacement @ displacement[0]
        self.factors[:-1] = color[0]
        np.matmul(self.factors, self.baked.color, out=self.texels)
        self.change[:] = np.clip(self.texels, 0, 255, out=self.texels)
        scale, (width, height) = (0.5, self.half_size) if halved else (1.0, (self.width, self.height))
        target, face = (self.half_target, self.half_face) if halved else (self.target, self.face)
        camera = replace(
            self.camera,
            fx=scale * self.camera.fx,
            fy=scale * self.camera.fy,
            cx=scale * (self.camera.cx - box[0]),
            cy=scale * (self.camera.cy - box[1]),
            width=width,
            height=height,
        )
        with self.context:  # another one may be current on this thread
            self.positions.write(vertices)
            self.program["object_to_clip"].write(column_major(camera.projection() @ pose_44))  # type: ignore[union-attr]
            self.mean_texture.use(0)
            self.change_texture.use(1)
            self.gl.write_texture(self.change, self.baked.change_size)
            target.use()
            target.clear(0, 0, 0, 0, depth=1)
            self.context.enable_only(moderngl.DEPTH_TEST)
            self.gl.draw(self.program.glo, self.mesh.glo, len(self.baked.triangles))
            self.gl.finish()
            self.gl.read(face)
        if halved:
            self.face[:] = face.repeat(2, 0).repeat(2, 1)[: self.height, : self.width]
        return self.face
