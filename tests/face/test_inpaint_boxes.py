"""Where a frame is painted, and how much of each pixel."""

from __future__ import annotations

import numpy as np
import pytest

from realtime.avatar import Avatar
from realtime.face.inpaint_boxes import InpaintBoxes


@pytest.mark.parametrize("size", [512, 256])
def test_masks_lie_where_the_avatar_has_them(avatar: Avatar, size: int) -> None:
    """What is cut out of a picture has even corners; the mask keeps its own, odd ones included."""
    ratio, odd = size / avatar.width, 0
    inpaint = InpaintBoxes(avatar, size)
    assert not (inpaint.boxes % 2).any() and inpaint.boxes.max() <= size
    for k in range(0, len(inpaint.boxes), 17):
        left, top, right, bottom = inpaint.boxes[k]
        found = np.zeros((size, size), np.float32)
        found[top:bottom, left:right] = inpaint.mask(k)
        rows, columns = np.nonzero(found > 0.5)
        box = ratio * avatar.source_box[k]
        stored = np.nonzero(avatar.source_mask[k] > 127)
        side = avatar.source_mask.shape[1]
        for at, cells, first, end in ((rows, stored[0], box[1], box[3]), (columns, stored[1], box[0], box[2])):
            wanted = first + (cells.min() / side, (cells.max() + 1) / side) * np.array(end - first)
            assert abs(at.min() - wanted[0]) < 2.5 and abs(at.max() + 1 - wanted[1]) < 2.5
        odd += bool((inpaint.masked[k][:2] > 0).any())
    assert odd > 0
