"""Which pixels of a frame are painted: the inpaint mask and the box around it (design: painting)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dataset.folder import Dataset
from realtime.arrays import FloatArray, IntArray
from realtime.contract import REGIONS
from training.face_maps import FaceMaps

FEATHER = 4  # pixels over which the mask falls to 0 outside of the region
MARGIN = 12  # pixels around the region that the box has room for: what the composition network sees of the surroundings
CHIN = 8  # landmark
BOX_STEP = 8  # the box's sides are multiples of it
# Within so much of the outline of a face that was tracked nothing is painted: the fit is wider or narrower than the
# face by that, and where it is wider, the wall behind would be painted along with the cheek.
UNSURE_CM = 0.3


class Inpaint:
    """The union of a frame's inpaint region at its own expression, at rest and at the widest jaw, in its pose.

    Without the widest jaw, the chin of the source would show beside the painted one.
    """

    def __init__(self, dataset: Dataset, widest_C: FloatArray | None = None) -> None:
        """`widest_C` is the expression with the lowest chin; by default that of the dataset's own training takes."""
        self.dataset = dataset
        self.maps = FaceMaps(dataset)
        region = dataset.regions[REGIONS.index("inpaint")]
        self.values = np.repeat(region[:, None], 3, 1)
        self.vertices = region > 0.5
        self.unsure_cm = UNSURE_CM if dataset.provenance.get("generator") == "capture" else 0.0
        widest_C = dataset.expression[widest_frame(dataset)] if widest_C is None else widest_C
        self.widest = dataset.neutral + np.tensordot(widest_C, dataset.basis, 1).astype(np.float32)
        spans = np.array([self._corners(f) for f in range(len(dataset.pose))])
        extent = (spans[:, 1] - spans[:, 0]).max(0)
        self.box_size = tuple(int(np.ceil(e / BOX_STEP) * BOX_STEP) for e in extent)

    def _corners(self, frame: int) -> FloatArray:
        """[2, 2]: least and greatest pixel position of the region at rest and at the widest jaw, with the margin."""
        points = np.concatenate([self.dataset.neutral[self.vertices], self.widest[self.vertices]])
        pixels = self.dataset.camera.project(points, self.dataset.pose[frame])
        return np.stack([pixels.min(0) - MARGIN, pixels.max(0) + MARGIN])

    def box(self, frame: int) -> IntArray:
        """Left, top, right, bottom, pixels; of the same size for all frames, and inside the image."""
        corners = self._corners(frame)
        size = np.array(self.box_size)
        limit = np.array([self.dataset.camera.width, self.dataset.camera.height]) - size
        corner = np.clip(np.round((corners[0] + corners[1] - size) / 2), 0, limit)
        return np.concatenate([corner, corner + size]).astype(np.int32)

    def mask(self, frame: int) -> FloatArray:
        """float32 [h, w] over the frame's box: 1 in the region, falling to 0 over the feather.

        The region is not grown: beyond the mesh's border, at the ears, nobody would know what is to be painted.
        """
        left, top, right, bottom = self.box(frame)
        region = np.zeros((bottom - top, right - left), bool)
        unsure_pixels = self.unsure_cm * self.dataset.camera.fx / float(-self.dataset.pose[frame][2, 3])
        for vertices in (None, self.dataset.neutral, self.widest):
            drawn = self.maps.draw(frame, self.values, vertices)
            sure = ndimage.distance_transform_edt(drawn[..., 3] > 0) > unsure_pixels
            region |= ((drawn[..., 0] > 0.5) & sure)[top:bottom, left:right]
        region = ndimage.binary_closing(np.pad(region, 8), iterations=3)[8:-8, 8:-8]
        distance = ndimage.distance_transform_edt(~region)
        rows, columns = np.arange(region.shape[0]), np.arange(region.shape[1])
        to_border = np.minimum(np.minimum(rows, rows[::-1])[:, None], np.minimum(columns, columns[::-1]))
        feathered = np.clip(1 - distance / FEATHER, 0, 1)
        return np.asarray(np.minimum(feathered, to_border / 3), np.float32)  # nothing is left at the box's border


def chin_heights(dataset: Dataset, expression_NC: FloatArray) -> FloatArray:
    """How far the chin rises, [N], cm; below 0 it drops."""
    triangle = np.asarray(dataset.geometry["triangles"])[np.asarray(dataset.geometry["landmark_triangles"])[CHIN]]
    return np.asarray(expression_NC @ dataset.basis[:, triangle, 1].mean(1), np.float32)


def widest_frame(dataset: Dataset) -> int:
    """The frame of the training takes whose chin is lowest."""
    heights = chin_heights(dataset, dataset.expression)
    trained = np.zeros(len(heights), bool)
    for take in dataset.takes:
        trained[take.first : take.end] = not take.held_out
    return int(np.argmin(np.where(trained, heights, np.inf)))
