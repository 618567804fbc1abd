"""Where in each frame of the source loop something is painted, and how much of each pixel."""

from __future__ import annotations

import numpy as np

from ..arrays import FloatArray
from ..avatar import Avatar
from .compositor import unit
from .resize import placed_resampling, resize


class InpaintBoxes:
    """The avatar's inpaint boxes and masks for frames of `size` x `size` pixels.

    `boxes` int32 [M, 4] are left, top, right, bottom in pixels, all even, and all of `box_size` (width, height).
    """

    def __init__(self, avatar: Avatar, size: int) -> None:
        ratio = size / avatar.width
        first = avatar.source_box[0]
        own = np.array([round((first[2] - first[0]) * ratio), round((first[3] - first[1]) * ratio)], np.int32)
        corner = np.minimum(np.round(avatar.source_box[:, :2] * ratio), size - own).astype(np.int32)
        # The even box around it: that is what can be cut out of a picture in YUV 4:2:0. It may be the whole picture.
        self.box_size = min(int(own[0] + 2) // 2 * 2, size), min(int(own[1] + 2) // 2 * 2, size)
        even = np.minimum(corner // 2 * 2, size - np.array(self.box_size, np.int32))
        self.boxes = np.concatenate([even, even + np.array(self.box_size, np.int32)], 1)
        self.masked = np.concatenate([corner - even, corner - even + own], 1)  # what of each box the mask covers
        self._stored = avatar.source_mask

    def __len__(self) -> int:
        return len(self.boxes)

    def mask(self, index: int) -> FloatArray:
        """How much of each pixel of loop frame `index`'s box is painted, float32 [h, w] in [0, 1]."""
        (width, height), side = self.box_size, self._stored.shape[1]
        left, top, right, bottom = (int(x) for x in self.masked[index])
        rows, columns = placed_resampling(side, top, bottom, height), placed_resampling(side, left, right, width)
        (mask,) = resize(unit(self._stored[index][..., None]), rows, columns)
        return np.asarray(mask, np.float32)
