"""Linear resampling of small images by matrix products, without another library.

Each output pixel looks at a few input pixels near its place: a matrix of weights is nearly all zeros. It is cut into
bands of rows, of which only the part that is not zero is multiplied: four times as fast as the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..arrays import FloatArray

BANDS = 4  # more save little, and each product asks for Python's lock


@dataclass(frozen=True)
class Band:
    """Output pixels `first` to `end` as weighted sums of input pixels `low` to `high`. Its arrays are read-only."""

    first: int
    end: int
    low: int
    high: int
    weights: FloatArray  # [end - first, high - low]
    transposed: FloatArray  # the same in the other order of memory


Resampling = tuple[Band, ...]  # along one axis


def weights_of(before: int, after: int) -> FloatArray:
    """[after, before], of a linear resampling that averages over the input pixels when it shrinks. Pixel centres lie at
    .5; rows sum to 1.
    """
    scale = before / after
    centres = (np.arange(after) + 0.5) * scale
    reach = max(1.0, scale)
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - (np.arange(before) + 0.5)) / reach)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def _bands(weights: FloatArray) -> Resampling:
    ends = np.linspace(0, len(weights), min(BANDS, len(weights)) + 1).astype(int)
    return tuple(_band(weights, int(first), int(end)) for first, end in zip(ends, ends[1:], strict=False))


def _band(weights: FloatArray, first: int, end: int) -> Band:
    used = np.flatnonzero(weights[first:end].any(0))
    low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
    part = np.ascontiguousarray(weights[first:end, low:high])
    transposed = np.ascontiguousarray(part.T)
    for shared in (part, transposed):
        shared.setflags(write=False)
    return Band(first, end, low, high, part, transposed)


@lru_cache(maxsize=64)
def resampling(before: int, after: int) -> Resampling:
    """From `before` pixels to `after`."""
    return _bands(weights_of(before, after))


@lru_cache(maxsize=64)
def placed_resampling(before: int, first: int, end: int, after: int) -> Resampling:
    """From `before` pixels to those from `first` to `end` of `after`; the others are 0."""
    weights = np.zeros((after, before), np.float32)
    weights[first:end] = weights_of(before, end - first)
    return _bands(weights)


def resize(image: FloatArray, rows: Resampling, columns: Resampling) -> FloatArray:
    """[c, h, w] -> [c, h', w'], a new array."""
    channels, _, width = image.shape
    fewer_rows = np.empty((channels, rows[-1].end, width), np.float32)
    for band in rows:
        np.matmul(band.weights, image[:, band.low : band.high], out=fewer_rows[:, band.first : band.end])
    resized = np.empty((channels, rows[-1].end, columns[-1].end), np.float32)
    for band in columns:
        np.matmul(fewer_rows[:, :, band.low : band.high], band.transposed, out=resized[:, :, band.first : band.end])
    return resized
