"""Maps of a frame's ground truth: what each of its pixels shows of the template."""

from __future__ import annotations

import numpy as np

from dataset.folder import Dataset
from realtime.arrays import FloatArray, IntArray
from realtime.camera import Camera
from realtime.face.gl import create_context
from realtime.face.rasteriser import Rasteriser


class FaceMaps:
    """Rasterises values at the vertices, from ground-truth geometry. Has an OpenGL context of its own."""

    def __init__(self, dataset: Dataset, camera: Camera | None = None) -> None:
        self.dataset = dataset
        self.camera = camera or dataset.camera
        self.context = create_context()
        triangles: IntArray = np.asarray(dataset.geometry["triangles"], np.int32)
        self.rasteriser = Rasteriser(self.context, triangles, len(dataset.neutral), self.camera)

    def draw(self, frame: int, values: FloatArray, vertices: FloatArray | None = None) -> FloatArray:
        """Map [H, W, 4] of per-vertex `values` [V, 3] at the frame's pose, and at its own expression unless
        `vertices` are given. The fourth channel is coverage: 0 where there is no face.
        """
        dataset = self.dataset
        shown = dataset.neutral + dataset.displacement(frame) if vertices is None else vertices
        return self.rasteriser.draw(shown, dataset.pose[frame], values).copy()

    def masks(self, frame: int, vertices: FloatArray | None = None) -> FloatArray:
        """[H, W, 5]: contract.REGIONS at the frame's pose, 0 where the mesh does not cover."""
        regions = self.dataset.regions
        first = self.draw(frame, np.ascontiguousarray(regions[1:4].T), vertices)
        inpaint = self.draw(frame, np.repeat(regions[4][:, None], 3, 1), vertices)
        return np.concatenate([first[..., 3:], first[..., :3], inpaint[..., :1]], -1)
