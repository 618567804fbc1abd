"""Face image by the networks themselves: deformation, rasterise, colour (thesis Figure 3.1).

The reference for every fast path.
"""

from __future__ import annotations

import moderngl
import numpy as np
from numpy.typing import NDArray

from ..arrays import ByteArray, FloatArray
from ..avatar import Avatar
from ..camera import Camera
from .engine import Engine
from .rasteriser import Rasteriser

POINTS_PER_CALL = 16_384  # bounds the memory of the colour network's activations


class NeuralFace:
    """Draws the face into the inpaint box, pixel by pixel."""

    def __init__(
        self,
        context: moderngl.Context,
        avatar: Avatar,
        networks: tuple[Engine, Engine],
        camera: Camera,
        box_size: tuple[int, int],
    ) -> None:
        """
        Args:
            networks: deformation and colour.
            box_size: width and height of the inpaint box, pixels.
        """
        self.avatar = avatar
        self.deformation, self.color = networks
        self.rasteriser = Rasteriser(context, avatar.triangles, len(avatar.template), camera)
        self.points_V3 = avatar.scale(avatar.canonical)
        self.face = np.zeros((box_size[1], box_size[0], 4), np.uint8)

    def displace(self, latent: FloatArray) -> FloatArray:
        """Displaced vertices float32 [V, 3], object space, cm, for b [1, 64]."""
        (displacement,) = self.deformation.run(self.points_V3, latent)
        return self.avatar.template + displacement

    def draw(self, latent: FloatArray, pose_44: FloatArray, box: NDArray[np.int32], halved: bool = False) -> ByteArray:
        """The face for b [1, 64] in a head pose, within the box (left, top, right, bottom; pixels).

        Returns uint8 [height, width, 4]: sRGB, and 255 where the mesh covers the pixel. Reused by the next call.
        `halved`: every second pixel of every second row is shaded, and repeated.
        """
        return self.shade(self.displace(latent), latent, pose_44, box, halved)

    def shade(
        self,
        vertices_V3: FloatArray,
        latent: FloatArray,
        pose_44: FloatArray,
        box: NDArray[np.int32],
        halved: bool = False,
    ) -> ByteArray:
        """As `draw`, for displaced vertices [V, 3], cm, that need not be those of b."""
        seen_V3 = vertices_V3 if self.avatar.color_input == "deformed" else self.avatar.canonical
        position_HW4 = self.rasteriser.draw(vertices_V3, pose_44, seen_V3)[box[1] : box[3], box[0] : box[2]]
        face = self.face
        if halved:
            position_HW4 = position_HW4[::2, ::2]
            face = np.zeros((*position_HW4.shape[:2], 4), np.uint8)
        covered = position_HW4[..., 3] > 0
        points_N3 = self.avatar.scale(position_HW4[covered][:, :3])
        face[:] = 0
        if len(points_N3):
            pieces = [points_N3[i : i + POINTS_PER_CALL] for i in range(0, len(points_N3), POINTS_PER_CALL)]
            rgb_N3 = np.concatenate([self.color.run(piece, latent)[0] for piece in pieces])
            face[covered, :3] = np.round(rgb_N3 * 255)
            face[covered, 3] = 255
        if halved:
            self.face[:] = face.repeat(2, 0).repeat(2, 1)[: self.face.shape[0], : self.face.shape[1]]
        return self.face
