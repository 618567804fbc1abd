"""How many points are coloured, in steps, and the shapes that plans are built for."""

from __future__ import annotations

from pathlib import Path

import pytest

from realtime.avatar import load_avatar
from realtime.contract import PLAN_NETWORKS
from realtime.face.inpaint_boxes import InpaintBoxes
from realtime.gpu.profiles import bucket_of, buckets, frame_buckets, profiles


def test_buckets_hold_every_box() -> None:
    assert buckets(1) == (4096,) and buckets(4096) == (4096,) and buckets(4097) == (4096, 6144)
    assert buckets(20_000) == (4096, 6144, 8192, 12288, 16384, 24576)
    sizes = buckets(2048 * 2048)
    assert sizes[-2] < 2048 * 2048 <= sizes[-1] and all(size % 1024 == 0 for size in sizes)
    assert all(1.3 < b / a <= 1.5 for a, b in zip(sizes[:-1], sizes[1:], strict=True))
    assert bucket_of(0, sizes) == 4096 and bucket_of(4097, sizes) == 6144 and bucket_of(sizes[-1], sizes) == sizes[-1]


@pytest.mark.parametrize("size", [512, 1024])
def test_profiles_fit_the_avatar(ada: Path, size: int) -> None:
    avatar = load_avatar(ada)
    found = profiles(avatar, size)
    assert tuple(found) == tuple(network.name for network in PLAN_NETWORKS)
    vertices = (len(avatar.template), 3)
    assert found["deformation"] == {"points": (vertices, vertices, vertices)}
    smallest, usual, largest = found["color"]["encoded"]
    width, height = InpaintBoxes(avatar, size).box_size
    assert smallest == (4096, 64) and largest[0] >= width * height and smallest <= usual <= largest
    assert usual[0] in buckets(width * height)
    assert not found["composition"] and not found["projection"] and not found["audio_encoder"]


def test_every_frame_has_room_for_what_its_mask_lets_through(ada: Path) -> None:
    boxes = InpaintBoxes(load_avatar(ada), 512)
    found = frame_buckets(boxes)
    painted = [int((boxes.mask(k) > 0).sum()) for k in range(len(boxes))]
    assert len(found) == len(boxes) and set(found) <= set(buckets(boxes.box_size[0] * boxes.box_size[1]))
    assert all(points <= bucket for points, bucket in zip(painted, found, strict=True))
    assert all(bucket == 4096 or points > 0.66 * bucket for points, bucket in zip(painted, found, strict=True))
