"""Face image into the source frame: erode, lay the face over it, refine with the composition network, blend (thesis
3.6).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from networks.contract import COMPOSITION
from realtime.avatar import Avatar
from realtime.engine import Engine

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]


def resize_matrix(before: int, after: int) -> FloatArray:
    """Weights [after, before] of a linear resampling along one axis, averaged over the source pixels when it shrinks.

    Pixel centres lie at .5; two small matrix products resample an image without another library.
    """
    scale = before / after
    centres = (np.arange(after) + 0.5) * scale
    reach = max(1.0, scale)
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - (np.arange(before) + 0.5)) / reach)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def resize(image: FloatArray, rows: FloatArray, columns: FloatArray) -> FloatArray:
    """[c, h, w] -> [c, h', w'] by resize_matrix(h, h') and resize_matrix(w, w')."""
    return np.asarray(rows @ image @ columns.T, np.float32)


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
        on it wherever the mask is above 0.
    """
    layers = np.empty((6, *mask.shape), np.float32)
    eroded, over = layers[:3], layers[3:]
    np.multiply(source, mask < 1, out=eroded)
    over[:] = eroded
    np.multiply(face[..., :3].transpose(2, 0, 1), np.float32(1 / 255), out=over, where=(face[..., 3] > 0) & (mask > 0))
    return layers


def shrink_solid(share: FloatArray) -> FloatArray:
    """1 where a pixel and its eight neighbours are wholly known, [h, w], from the share of each that is known."""
    solid = np.pad(share > 0.999, 1, constant_values=True)
    rows = solid[:-2] & solid[1:-1] & solid[2:]
    return (rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]).astype(np.float32)


class Compositor:
    """Composes one inpaint box; the box's size is fixed."""

    def __init__(self, avatar: Avatar, box_size: tuple[int, int]) -> None:
        width, height = box_size
        side, mask_side = avatar.composition_size, avatar.source_mask.shape[1]
        self.engine = Engine(avatar.folder / "targets" / "onnx" / "composition.onnx", COMPOSITION)
        self.shrink = resize_matrix(height, side), resize_matrix(width, side)
        self.grow = resize_matrix(side, height), resize_matrix(side, width)
        self.mask_grow = resize_matrix(mask_side, height), resize_matrix(mask_side, width)

    def mask(self, stored: ByteArray) -> FloatArray:
        """A stored mask uint8 [B, B] at the box's size, float32 [h, w] in [0, 1]."""
        (mask,) = resize(unit(stored[..., None]), *self.mask_grow)
        return np.asarray(mask, np.float32)

    def compose(self, crop: ByteArray, face: ByteArray, mask: FloatArray) -> ByteArray:
        """The finished box, uint8 [h, w, 3].

        Args:
            crop: uint8 [h, w, 3], the source frame's box.
            face: uint8 [h, w, 4] of BakedFace or NeuralFace.
            mask: float32 [h, w].
        """
        source = unit(crop)
        layers = layers_of(source, face, mask)
        small = resize(layers, *self.shrink)
        (rgb,) = self.engine.run(small[None])

        # What the network changes is smooth, so its change is added to the sharp face. But where neither face nor
        # source is known, and next to that, what the network says is all there is: trusted is 0 there.
        known = (mask < 1) | (face[..., 3] > 0)
        trusted = shrink_solid(resize(known[None].astype(np.float32), *self.shrink)[0])
        grown = resize(np.concatenate([rgb[0] - trusted * small[3:], trusted[None]]), *self.grow)
        refined = grown[:3] + grown[3] * layers[3:]
        refined -= source
        refined *= mask
        refined += source
        refined *= 255
        refined += 0.5
        return np.asarray(np.clip(refined, 0, 255, out=refined).transpose(1, 2, 0), np.uint8, order="C")
