"""All memory of a GpuPipeline, on the GPU and on the host: what each piece holds, and how large it is.

A CUDA graph freezes addresses and sizes. So everything is allocated once, when the pipeline opens, at the largest size
that any frame of its source loop needs.

Shape letters: h, w the box that is painted; S the side of the frame; V vertices; N points of the largest bucket; C the
values of an encoded point; r, c rows and columns of cells; s the side of the composition network's square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arrays import ByteArray, FloatArray, IntArray
from ..avatar import Avatar
from ..contract import LATENT, encoded_width
from .kernels import cell_counts

WORD = 4  # bytes of a float32 or an int32


@dataclass(frozen=True)
class Extents:
    """The numbers that all shapes follow from."""

    size: int  # S, pixels
    width: int  # w, pixels
    height: int  # h, pixels
    rows: int  # r
    columns: int  # c
    vertices: int  # V
    capacity: int  # N
    frequencies: int  # of the positional encoding
    padded: int  # C
    side: int  # s, pixels

    @classmethod
    def of(cls, avatar: Avatar, size: int, box_size: tuple[int, int], capacity: int) -> Extents:
        """Those of an avatar in frames of `size` x `size` pixels, `box_size` (width, height) of which is painted."""
        rows, columns = cell_counts(*box_size)
        frequencies: int = avatar.info["frequencies"]
        return cls(
            size=size,
            width=box_size[0],
            height=box_size[1],
            rows=rows,
            columns=columns,
            vertices=len(avatar.template),
            capacity=capacity,
            frequencies=frequencies,
            padded=encoded_width(frequencies),
            side=avatar.composition_size,
        )


class Buffer(int):
    """The address of a piece of device memory, which knows how many bytes lie there."""

    nbytes: int

    def __new__(cls, address: int, nbytes: int) -> Buffer:
        made = super().__new__(cls, address)
        made.nbytes = nbytes
        return made


@dataclass(frozen=True)
class Buffers:
    """Every piece of device memory that the kernels and the networks read and write."""

    # What is uploaded for every frame.
    latent: Buffer  # float32 [1, 64]: b
    place: Buffer  # int32 [4]: left, top, right, bottom of the box in the frame, pixels
    mask: Buffer  # float32 [h, w]: how much of each pixel of the box is painted, 0 to 1
    frame: Buffer  # uint8 [3 S / 2, S], NV12: the source's picture, in the end the finished one
    # The mesh, object space, cm.
    points: Buffer  # float32 [V, 3]: canonical vertices, scaled to [-1, 1] for the deformation network
    neutral: Buffer  # float32 [V, 3]: the template
    displacement: Buffer  # float32 [V, 3]
    vertices: Buffer  # float32 [V, 3], displaced: where OpenGL and CUDA share memory, OpenGL's buffer takes its place
    positions: Buffer  # float32 [S, S, 4]: the position map: x, y, z and coverage
    low: Buffer  # float32 [3]: lower corner of the template's box
    high: Buffer  # float32 [3]: upper corner
    # The face.
    count: Buffer  # int32 [1]: how many points are covered and painted
    index: Buffer  # int32 [N]: their pixels in the box, row by row
    encoded: Buffer  # float16 [N, C]: their positions, encoded
    colors: Buffer  # float32 [N, 3]: their colours, sRGB, 0 to 1
    face: Buffer  # uint8 [h, w, 4]: sRGB and coverage
    # The composition, sRGB.
    rgb: Buffer  # uint8 [h, w, 3]: the box of the source
    layers: Buffer  # float32 [6, h, w]: the eroded source, then the face over it, 0 to 1
    known: Buffer  # uint8 [h, w]: whether either says what is there
    cells: Buffer  # float32 [4, r, c]: means of what is known, and how much is
    spare: Buffer  # float32 [4, r, c]: the cells' other copy while gaps are filled
    small: Buffer  # float32 [6, s, s]: the layers as the network takes them
    refined: Buffer  # float32 [3, s, s]: what it makes of them
    painted: Buffer  # uint8 [h, w, 3]: the finished box

    @classmethod
    def allocate(cls, extents: Extents, take: Callable[[int], Buffer]) -> Buffers:
        """Each buffer as `take` gives it, which is told the number of bytes."""
        size, capacity, side = extents.size, extents.capacity, extents.side
        pixels, cells, values = extents.width * extents.height, extents.rows * extents.columns, 3 * extents.vertices
        return cls(
            latent=take(WORD * LATENT),
            place=take(WORD * 4),
            mask=take(WORD * pixels),
            frame=take(size * size * 3 // 2),
            points=take(WORD * values),
            neutral=take(WORD * values),
            displacement=take(WORD * values),
            vertices=take(WORD * values),
            positions=take(WORD * 4 * size * size),
            low=take(WORD * 3),
            high=take(WORD * 3),
            count=take(WORD),
            index=take(WORD * capacity),
            encoded=take(2 * extents.padded * capacity),
            colors=take(WORD * 3 * capacity),
            face=take(4 * pixels),
            rgb=take(3 * pixels),
            layers=take(WORD * 6 * pixels),
            known=take(pixels),
            cells=take(WORD * 4 * cells),
            spare=take(WORD * 4 * cells),
            small=take(WORD * 6 * side * side),
            refined=take(WORD * 3 * side * side),
            painted=take(3 * pixels),
        )


@dataclass(frozen=True)
class Staged:
    """Page-locked host arrays: what goes to the GPU with every frame, and the frame that comes back."""

    latent: FloatArray  # [64]
    place: IntArray  # [4]
    mask: FloatArray  # [h, w]
    source: ByteArray  # [3 S / 2, S], NV12: the source's picture
    finished: ByteArray  # [3 S / 2, S], NV12: the finished one

    @classmethod
    def allocate(cls, buffers: Buffers, extents: Extents, pinned: Callable[[int], ByteArray]) -> Staged:
        """Each array in memory that `pinned` gives, which is told the number of bytes."""
        return cls(
            latent=pinned(buffers.latent.nbytes).view(np.float32),
            place=pinned(buffers.place.nbytes).view(np.int32),
            mask=pinned(buffers.mask.nbytes).view(np.float32).reshape(extents.height, extents.width),
            source=pinned(buffers.frame.nbytes).reshape(-1, extents.size),
            finished=pinned(buffers.frame.nbytes).reshape(-1, extents.size),
        )
