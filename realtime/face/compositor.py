"""Face image into the source frame: erode, lay the face over it, refine with the composition network, blend (thesis
3.6).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import ByteArray, FloatArray
from .engine import Engine
from .resize import resampling, resize

CELL = 4  # pixels: side of the cells whose known pixels fill unknown ones
LEAST_SHARE = 1e-3  # of a cell that must be known, or its neighbours fill it


def unit(image: ByteArray) -> FloatArray:
    """uint8 [h, w, c] -> float32 [c, h, w] in [0, 1]."""
    return np.multiply(image.transpose(2, 0, 1), np.float32(1 / 255), dtype=np.float32, order="C")


def layers_of(source: FloatArray, face: ByteArray, mask: FloatArray) -> FloatArray:
    """What the composition network is given, for one inpaint box.

    Args:
        source: float32 [3, h, w] in [0, 1].
        face: uint8 [h, w, 4], sRGB and coverage.
        mask: float32 [h, w]: 1 in the inpaint region, falling to 0 outside of it.

    Returns:
        float32 [6, h, w]: the source with everything inside the inpaint region set to zero, and the same with the face
        on it wherever the mask is above 0, and what neither knows filled from around.
    """
    layers = np.empty((6, *mask.shape), np.float32)
    eroded, over = layers[:3], layers[3:]
    np.multiply(source, mask < 1, out=eroded)
    over[:] = eroded
    covered = face[..., 3] > 0
    np.multiply(face[..., :3].transpose(2, 0, 1), np.float32(1 / 255), out=over, where=covered & (mask > 0))
    fill_unknown(over, covered | (mask < 1))
    return layers


def fill_unknown(over: FloatArray, known: NDArray[np.bool_]) -> None:
    """Gives pixels of `over`, [3, h, w], that are not `known`, [h, w], and 0 so far, the mean of known ones near them,
    in place.
    """
    unknown = ~known
    if not unknown.any() or not known.any():
        return
    height, width = known.shape
    rows, columns = max(1, height // CELL), max(1, width // CELL)
    both = np.concatenate([over, known[None]], dtype=np.float32)
    cells = resize(both, resampling(height, rows), resampling(width, columns))
    while (empty := cells[3] < LEAST_SHARE).any():  # wide gaps are filled from their border inwards
        padded = np.pad(cells, ((0, 0), (1, 1), (1, 1)))
        around = sum(padded[:, r : r + rows, c : c + columns] for r in range(3) for c in range(3))
        cells = np.where(empty, around, cells)
    filled = resize(cells, resampling(rows, height), resampling(columns, width))
    over[:, unknown] = filled[:3, unknown] / filled[3, unknown]


class Compositor:
    """Composes one inpaint box; the box's size is fixed."""

    def __init__(self, engine: Engine, side: int, box_size: tuple[int, int]) -> None:
        """
        Args:
            engine: the composition network.
            side: of the square that the box is resampled to for it, pixels.
            box_size: width and height of the box, pixels.
        """
        width, height = box_size
        self.engine = engine
        self.shrink = resampling(height, side), resampling(width, side)
        self.grow = resampling(side, height), resampling(side, width)

    def compose(self, crop: ByteArray, face: ByteArray, mask: FloatArray, refined: bool = True) -> ByteArray:
        """The finished box, uint8 [h, w, 3].

        Args:
            crop: uint8 [h, w, 3], the source frame's box.
            face: uint8 [h, w, 4] of BakedFace or NeuralFace.
            mask: float32 [h, w].
            refined: by the composition network; without it the face is only blended in.
        """
        source = unit(crop)
        layers = layers_of(source, face, mask)
        composed = layers[3:]
        if refined:  # what the network changes is smooth, so its change is added to the sharp face
            small = resize(layers, *self.shrink)
            (rgb,) = self.engine.run(small[None])
            composed += resize(rgb[0] - small[3:], *self.grow)
        composed -= source
        composed *= mask
        composed += source
        composed *= 255
        composed += 0.5
        return np.asarray(np.clip(composed, 0, 255, out=composed).transpose(1, 2, 0), np.uint8, order="C")
