"""The part of the template's grid that is baked: which cells are drawn, where texels lie, and what hides it.

Shape letters: V template vertices, V' those of the part, F' its triangles, D displacement components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataset.folder import INNER_LOWER, INNER_UPPER, Dataset
from realtime.arrays import FloatArray, IntArray
from realtime.contract import REGIONS

OCCLUDER_ROWS = 20  # grid rows above the region, which are drawn to hide what lies behind the nose
DRAWN_CM = 0.16  # least distance of the grid lines that are drawn: triangles cost a software renderer more than pixels


@dataclass(frozen=True, kw_only=True)
class Region:
    """The part of the template's grid that the inpaint region needs."""

    rows: slice
    columns: slice
    vertices: IntArray  # [V'] indices into the template
    triangles: IntArray  # [F', 3] indices into `vertices`
    uv: FloatArray  # [V', 2] in [0, 1] over the rectangle

    @property
    def shape(self) -> tuple[int, int]:
        """Grid rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


def find_region(dataset: Dataset) -> Region:
    """The rectangle of grid rows and columns around the inpaint region, one cell of margin."""
    rows, columns = (int(v) for v in np.asarray(dataset.geometry["grid"]))
    painted = dataset.regions[REGIONS.index("inpaint")].reshape(rows, columns) > 0
    r, c = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
    r0, r1 = max(0, int(r[0]) - 1), min(rows, int(r[-1]) + 2)
    c0, c1 = max(0, int(c[0]) - 1), min(columns, int(c[-1]) + 2)
    index = np.full((rows, columns), -1, np.int32)
    index[r0:r1, c0:c1] = np.arange((r1 - r0) * (c1 - c0)).reshape(r1 - r0, c1 - c0)
    everything = np.asarray(dataset.geometry["triangles"], np.int32)
    drawn_rows, drawn_columns = drawn_lines(dataset, r0, r1, c0, c1)
    kept = np.zeros(rows * columns, bool)
    kept[everything] = True
    a, b, d, e = (
        np.array([[i * columns + j for j in js] for i in is_])
        for is_, js in (
            (drawn_rows[:-1], drawn_columns[:-1]),
            (drawn_rows[:-1], drawn_columns[1:]),
            (drawn_rows[1:], drawn_columns[1:]),
            (drawn_rows[1:], drawn_columns[:-1]),
        )
    )
    whole = kept[a] & kept[b] & kept[d] & kept[e]
    coarse = np.concatenate([np.stack([a, b, d], -1)[whole], np.stack([a, d, e], -1)[whole]])
    triangles = index.ravel()[coarse]
    x, y = np.meshgrid(np.linspace(0, 1, c1 - c0), np.linspace(0, 1, r1 - r0))
    return Region(
        rows=slice(r0, r1),
        columns=slice(c0, c1),
        vertices=np.flatnonzero(index.ravel() >= 0).astype(np.int32),
        triangles=triangles[(triangles >= 0).all(1)],
        uv=np.stack([x.ravel(), y.ravel()], 1).astype(np.float32),
    )


def drawn_lines(dataset: Dataset, r0: int, r1: int, c0: int, c1: int) -> tuple[list[int], list[int]]:
    """Grid rows and columns that are drawn: both ends, the lip rims, and between them no two nearer than DRAWN_CM.

    Colour comes from textures and displacement is smooth, so the dense cells at the mouth need not all be drawn.
    """
    rows, columns = (int(v) for v in np.asarray(dataset.geometry["grid"]))
    grid = dataset.canonical.reshape(rows, columns, 3)
    middle = slice(c0 + (c1 - c0) // 3, c1 - (c1 - c0) // 3)
    down = np.linalg.norm(np.diff(grid[:, middle], axis=0), axis=2).mean(1)
    across = np.linalg.norm(np.diff(grid[r0:r1], axis=1), axis=2).mean(0)
    return thinned(r0, r1, down, lip_rows(dataset)), thinned(c0, c1, across, [])


def lip_rows(dataset: Dataset) -> list[int]:
    """Grid rows of the lip rims: those of the vertices nearest to the inner-lip landmarks."""
    columns = int(np.asarray(dataset.geometry["grid"])[1])
    corners = np.asarray(dataset.geometry["triangles"])[np.asarray(dataset.geometry["landmark_triangles"])]
    heaviest = np.asarray(dataset.geometry["landmark_barycentrics"]).argmax(1)
    vertices = corners[np.arange(68), heaviest]
    return sorted({int(vertices[landmark]) // columns for landmark in (INNER_UPPER, INNER_LOWER)})


def thinned(first: int, end: int, gaps: NDArray[np.floating], needed: list[int]) -> list[int]:
    """Indices first .. end - 1 that are at least DRAWN_CM apart, or needed; gaps[i] lies between i and i + 1, cm."""
    kept, reach = [first], 0.0
    for index in range(first + 1, end):
        reach += float(gaps[index - 1])
        if reach >= DRAWN_CM or index in needed or index == end - 1:
            kept.append(index)
            reach = 0.0
    return kept


def with_occluder(
    dataset: Dataset, region: Region, positions: FloatArray, components: FloatArray
) -> dict[str, NDArray[np.generic]]:
    """The drawn mesh, and above the region a strip of face: the nose hides what lies behind its tip.

    Args:
        positions: [V', 3], the region's mean positions, cm.
        components: [D, V', 3].

    Returns:
        positions, displacement_components, uv and triangles; the strip's uv lies above 1, where textures end.
    """
    rows, columns = (int(v) for v in np.asarray(dataset.geometry["grid"]))
    c0, c1 = region.columns.start, region.columns.stop
    strip = [region.rows.stop - 1, *range(region.rows.stop, min(rows, region.rows.stop + OCCLUDER_ROWS), 2)]
    _, across = drawn_lines(dataset, region.rows.start, region.rows.stop, c0, c1)
    used = np.zeros(rows * columns, bool)
    used[np.unique(np.asarray(dataset.geometry["triangles"]))] = True
    added = np.array([[i * columns + j for j in across] for i in strip[1:]])
    first = np.array([(region.shape[0] - 1) * region.shape[1] + j - c0 for j in across])
    index = np.concatenate([first[None], len(positions) + np.arange(added.size).reshape(added.shape)])
    valid = np.concatenate([used[[strip[0] * columns + j for j in across]][None], used[added]])
    whole = valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, 1:] & valid[1:, :-1]
    a, b, d, e = (corner[whole] for corner in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    height = 1 + 0.1 * np.repeat(np.arange(1, len(strip)), len(across))
    side = np.tile((np.array(across) - c0) / (c1 - 1 - c0), len(strip) - 1)
    return {
        "positions": np.concatenate([positions, dataset.neutral[added.ravel()]]).astype(np.float32),
        "displacement_components": np.pad(components, ((0, 0), (0, added.size), (0, 0))).astype(np.float16),
        "uv": np.concatenate([region.uv, np.stack([side, height], 1)]).astype(np.float32),
        "triangles": np.concatenate([region.triangles, np.stack([a, b, d], 1), np.stack([a, d, e], 1)]).astype(
            np.int32
        ),
    }


def texel_points(values_V3: FloatArray, region: Region, grid: tuple[int, int], per_cell: int) -> FloatArray:
    """Per-vertex values on `per_cell` texels a cell, [h w, 3], interpolated over the same triangles that are drawn."""
    values = values_V3.reshape(*grid, 3)[region.rows, region.columns]
    rows, columns = region.shape
    r, c = np.meshgrid(
        np.arange((rows - 1) * per_cell + 1) / per_cell,
        np.arange((columns - 1) * per_cell + 1) / per_cell,
        indexing="ij",
    )
    i, j = np.minimum(r.astype(int), rows - 2), np.minimum(c.astype(int), columns - 2)
    y, x = (r - i)[..., None], (c - j)[..., None]
    a, b, d, e = values[i, j], values[i, j + 1], values[i + 1, j + 1], values[i + 1, j]
    lower = a + x * (b - a) + y * (d - b)  # triangle a b d, where x >= y
    upper = a + y * (e - a) + x * (d - e)  # triangle a d e
    return np.asarray(np.where(x >= y, lower, upper).reshape(-1, 3), np.float32)
