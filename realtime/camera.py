"""A pinhole camera in pixels, and its projection for OpenGL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import FloatArray

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
