"""The memory of a GpuPipeline: as large as what lies in it, and each piece its own."""

from __future__ import annotations

from dataclasses import fields
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from realtime.avatar import load_avatar
from realtime.gpu.buffers import Buffer, Buffers, Extents, Staged

EXTENTS = Extents(
    size=100, width=20, height=30, rows=7, columns=5, vertices=11, capacity=4096, frequencies=10, padded=64, side=16
)
# By the types and shapes that buffers.py tells.
WANTED = {
    "latent": (np.float32, (1, 64)),
    "place": (np.int32, (4,)),
    "mask": (np.float32, (30, 20)),
    "frame": (np.uint8, (150, 100)),
    "points": (np.float32, (11, 3)),
    "neutral": (np.float32, (11, 3)),
    "displacement": (np.float32, (11, 3)),
    "vertices": (np.float32, (11, 3)),
    "positions": (np.float32, (100, 100, 4)),
    "low": (np.float32, (3,)),
    "high": (np.float32, (3,)),
    "count": (np.int32, (1,)),
    "index": (np.int32, (4096,)),
    "encoded": (np.float16, (4096, 64)),
    "colors": (np.float32, (4096, 3)),
    "face": (np.uint8, (30, 20, 4)),
    "rgb": (np.uint8, (30, 20, 3)),
    "layers": (np.float32, (6, 30, 20)),
    "known": (np.uint8, (30, 20)),
    "cells": (np.float32, (4, 7, 5)),
    "spare": (np.float32, (4, 7, 5)),
    "small": (np.float32, (6, 16, 16)),
    "refined": (np.float32, (3, 16, 16)),
    "painted": (np.uint8, (30, 20, 3)),
}


def test_a_buffer_is_an_address_that_knows_its_size() -> None:
    buffer = Buffer(4096, 12)
    assert buffer == 4096 and buffer.nbytes == 12 and isinstance(buffer, int)


def allocated() -> Buffers:
    addresses = count(4096, 256)
    return Buffers.allocate(EXTENTS, lambda nbytes: Buffer(next(addresses), nbytes))


def test_each_buffer_holds_what_it_is_said_to_hold() -> None:
    found = vars(allocated())
    assert set(found) == set(WANTED) and len(set(found.values())) == len(WANTED)
    for name, (dtype, shape) in WANTED.items():
        assert found[name].nbytes == np.zeros(shape, dtype).nbytes, name


def test_staged_arrays_fill_the_buffers_that_they_go_to() -> None:
    buffers = allocated()
    staged = Staged.allocate(buffers, EXTENTS, lambda nbytes: np.zeros(nbytes, np.uint8))
    of = {"source": "frame", "finished": "frame"}
    for field in fields(Staged):
        array, (dtype, shape) = getattr(staged, field.name), WANTED[of.get(field.name, field.name)]
        assert array.dtype == dtype and array.nbytes == np.zeros(shape, dtype).nbytes, field.name
    assert staged.mask.shape == (30, 20) and staged.source.shape == staged.finished.shape == (150, 100)
    assert not np.shares_memory(staged.source, staged.finished), "one goes up while the other comes down"


@pytest.mark.parametrize("size", [512, 128])
def test_extents_are_the_avatars(ada: Path, size: int) -> None:
    avatar = load_avatar(ada)
    found = Extents.of(avatar, size, (24, 50), 6144)
    assert (found.size, found.width, found.height, found.capacity) == (size, 24, 50, 6144)
    assert (found.rows, found.columns) == (12, 6), "cells of four by four pixels"
    assert (found.vertices, found.side) == (len(avatar.template), avatar.composition_size)
    assert found.padded >= 6 * found.frequencies == 6 * avatar.info["frequencies"] and found.padded % 8 == 0
