"""How many points of a face are coloured, in steps, and the shapes that plans are built for."""

from __future__ import annotations

from ..avatar import Avatar
from ..contract import PLAN_NETWORKS, encoded_width
from ..face.inpaint_boxes import InpaintBoxes

Profile = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]  # input: smallest, usual, largest shape

SMALLEST_BUCKET = 4096  # points


def buckets(box_area: int) -> tuple[int, ...]:
    """Counts of points that the colour network is run for: 4096, 6144, 8192, 12288, 16384, 24576, ... up to the first
    that holds every pixel of a box. A frame's points are filled up to one of them: a CUDA graph has fixed shapes.
    """
    counts = [SMALLEST_BUCKET]
    while counts[-1] < box_area:
        power = counts[-1] & (counts[-1] - 1) == 0
        counts.append(counts[-1] // 2 * 3 if power else counts[-1] // 3 * 4)
    return tuple(counts)


def bucket_of(count: int, sizes: tuple[int, ...]) -> int:
    """The smallest bucket that holds `count` points."""
    return next(size for size in sizes if size >= count)


def frame_buckets(boxes: InpaintBoxes) -> list[int]:
    """The bucket of each frame of the source loop.

    It is known before the mesh is drawn, since no more points are coloured than the mask lets through pixels.
    """
    width, height = boxes.box_size
    sizes = buckets(width * height)
    return [bucket_of(int((boxes.mask(k) > 0).sum()), sizes) for k in range(len(boxes))]


def profiles(avatar: Avatar, size: int) -> dict[str, Profile]:
    """Each network's profile for frames of `size` x `size` pixels; empty where all shapes are fixed in the file."""
    boxes = InpaintBoxes(avatar, size)
    sizes = buckets(boxes.box_size[0] * boxes.box_size[1])
    usual = bucket_of(int((boxes.mask(0) > 0).sum()), sizes)
    width, vertices = encoded_width(avatar.info["frequencies"]), len(avatar.template)
    some: dict[str, Profile] = {
        "deformation": {"points": ((vertices, 3), (vertices, 3), (vertices, 3))},
        "color": {"encoded": ((sizes[0], width), (usual, width), (sizes[-1], width))},
    }
    return {network.name: some.get(network.name, {}) for network in PLAN_NETWORKS}
