"""The endless video that the mouth is painted into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from realtime.avatar import load_avatar
from realtime.contract import FRAME_RATE
from realtime.errors import MiravoxError
from realtime.face.pipeline import FacePipeline
from realtime.face.yuv import RgbConverter
from tests.face.conftest import psnr


def test_frames_read_ahead_are_the_right_ones(ada: Path) -> None:
    """In order, after a jump, and from the loop's last frame to its first."""
    from realtime.face.source_loop import SourceLoop

    count = len(load_avatar(ada).source_pose)
    ahead, plain = (SourceLoop(ada / "source.mp4", count, 512) for _ in range(2))
    for index in (5, 6, 20, 21, 3, count - 1, 0, 1):
        found, wanted = ahead.frame(index), plain.frame(index)
        assert np.array_equal(found.to_ndarray(), wanted.to_ndarray()), index
        ahead.read_ahead()
        assert ahead.ahead is not None and ahead.ahead[0] == (index + 1) % count
        ahead.read_ahead()  # once more is not one frame further
    ahead.close()
    plain.close()


def test_the_source_loop_has_no_jump(baked: FacePipeline) -> None:
    """Frame 0 follows the last one as smoothly as frame 1 follows frame 0."""
    count, to_rgb = len(baked.inpaint.boxes), RgbConverter()
    first, second, last = (
        to_rgb(baked.source.frame(0)),
        to_rgb(baked.source.frame(1)),
        to_rgb(baked.source.frame(count - 1)),
    )
    assert psnr(first, last) > psnr(first, second) - 3
    assert count >= 10 * FRAME_RATE
    with pytest.raises(MiravoxError, match="source.mp4"):
        baked.source.frame(count)
