"""The avatar's own mesh: a regular grid over the chart of the face, dense at the mouth, the mouth hole filled from the
lip rims.

The grid's rows bend around the mouth: one row runs along the rim of the lower lip, one along the rim of the upper lip,
and those between them fill the hole (lips sewn, thesis 5.1 and Figure 5.1). Columns and rows are 0.7 mm apart or less
at the lips and grow from there outwards. Every template vertex is a fixed linear combination of model vertices, so the
model's expression basis carries over and nothing after tracking depends on the model.

Shape letters: V template vertices, F template triangles, R rows (chin to forehead), C columns (image left to right).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from realtime.arrays import BoolArray, Float64Array, FloatArray, IntArray
from realtime.contract import REGIONS

LIP_STEP = 0.0018  # of the chart, 0.55 mm: between rows on the lips
LIP_ROWS_BELOW, LIP_ROWS_ABOVE = 19, 22  # rows that far apart: the lower lip, the upper lip
ROWS_BELOW, ROWS_INSIDE, ROWS_ABOVE = 38, 24, 46  # rows: below the lower rim, between the rims, above the upper rim
COLUMNS, OUTER_COLUMNS = 128, 20  # in all; of them on either side of the mouth
CHART_LOW, CHART_HIGH = np.array([0.07, 0.02]), np.array([0.93, 0.915])  # part of the model's chart that is covered
# Of the ICT model: vertices of the narrow face come first; what surrounds it is used below this height of the chart.
NARROW_FACE = 6706
NECK_BELOW = 0.42
CAVITY_DEPTH = 0.5  # cm: how far the fill lies behind the lips in the middle, so that teeth move rightly with the head
CANONICAL_JAW = 0.5  # weight of jawOpen in the canonical pose, where the lips are parted
PARTED = 1.6  # cm between the lips there, for a model without jawOpen
LIP_MARGIN = 0.012  # of the chart: how far beyond the mouth corners the columns stay dense


class ChartedModel(Protocol):
    """A 3D morphable face model with a chart. Its vertex ranges `face` and, if it has one, `narrow_face` begin at 0."""

    @property
    def neutral_V3(self) -> FloatArray: ...
    @property
    def expression_CV3(self) -> FloatArray: ...
    @property
    def expression_names(self) -> tuple[str, ...]: ...
    @property
    def triangles_T3(self) -> IntArray: ...
    @property
    def uv_U2(self) -> FloatArray: ...
    @property
    def uv_triangles_T3(self) -> IntArray: ...
    @property
    def parts(self) -> Mapping[str, slice]: ...
    @property
    def landmarks_68(self) -> IntArray: ...


@dataclass(frozen=True, kw_only=True)
class Template:
    """The mesh and what it says about the model it was cut from. Units: cm."""

    matrix: csr_matrix  # [V, model vertices]: template positions = matrix @ model positions + offset
    offset_V3: FloatArray
    neutral_V3: FloatArray  # lips closed
    canonical_V3: FloatArray  # lips parted: the networks' 3D input
    triangles_F3: IntArray
    uv_V2: FloatArray  # grid coordinates in [0, 1]: column, row; also the baked textures' coordinates
    grid: tuple[int, int]  # rows, columns
    regions_5V: FloatArray  # weight of contract.REGIONS at each vertex, [0, 1]
    landmark_triangles_68: IntArray  # index into triangles_F3
    landmark_barycentrics_683: FloatArray

    @property
    def box_23(self) -> FloatArray:
        """Corners of the bounding box over the canonical and the neutral points: networks see it as [-1, 1]."""
        both = np.concatenate([self.canonical_V3, self.neutral_V3])[np.tile(self.used_V, 2)]
        return np.stack([both.min(0), both.max(0)])

    @property
    def used_V(self) -> BoolArray:
        """Vertices that a triangle uses."""
        used = np.zeros(len(self.neutral_V3), bool)
        used[self.triangles_F3.ravel()] = True
        return used

    def basis(self, expression_CV3: FloatArray) -> FloatArray:
        """The model's expression shapes, float32 [C, model vertices, 3], on the template: [C, V, 3]."""
        return np.stack([self.matrix @ shape for shape in expression_CV3]).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a dataset's track.safetensors and an avatar's geometry.safetensors hold of it, by the names there."""
        return {
            "template": self.neutral_V3,
            "canonical": self.canonical_V3,
            "triangles": self.triangles_F3,
            "uv": self.uv_V2,
            "grid": np.array(self.grid, np.int32),
            "regions": self.regions_5V,
            "landmark_triangles": self.landmark_triangles_68,
            "landmark_barycentrics": self.landmark_barycentrics_683,
            "box": self.box_23,
        }


def build_template(model: ChartedModel, identity_V3: FloatArray) -> Template:
    """Cuts the template from a model whose neutral positions are `identity_V3`, float32 [model vertices, 3]."""
    chart_V2, triangles = _face_chart(model)
    upper, lower = _lip_rims(model, chart_V2)
    columns, chart_RC2 = _grid(upper, lower)
    rows = chart_RC2.shape[0]

    weights, inside = _locate(chart_RC2.reshape(-1, 2), chart_V2, triangles, len(identity_V3))
    matrix, depth = _fill_mouth(weights, rows, columns, chart_RC2, upper)
    offset = np.zeros((len(depth), 3), np.float32)
    offset[:, 2] = -depth

    parted = identity_V3 + _parting(model)
    neutral = (matrix @ identity_V3 + offset).astype(np.float32)
    canonical = (matrix @ parted + offset).astype(np.float32)
    valid = (inside | (depth > 0)).reshape(rows, len(columns))
    triangles_F3 = _grid_triangles(valid)
    c, r = np.meshgrid(np.linspace(0, 1, len(columns)), np.linspace(0, 1, rows))
    uv = np.stack([c.ravel(), r.ravel()], 1).astype(np.float32)
    landmarks, barycentrics = _landmarks(chart_V2[model.landmarks_68], chart_RC2.reshape(-1, 2), triangles_F3)
    return Template(
        matrix=matrix,
        offset_V3=offset,
        neutral_V3=neutral,
        canonical_V3=canonical,
        triangles_F3=triangles_F3,
        uv_V2=uv,
        grid=(rows, len(columns)),
        regions_5V=_regions(neutral, identity_V3[model.landmarks_68]),
        landmark_triangles_68=landmarks,
        landmark_barycentrics_683=barycentrics,
    )


def _parting(model: ChartedModel) -> FloatArray:
    """Displacement [model vertices, 3] that parts the lips: the jaw's, or else what all shapes together come to."""
    names = model.expression_names
    if "jawOpen" in names:
        return np.asarray(CANONICAL_JAW * model.expression_CV3[names.index("jawOpen")], np.float32)
    landmarks = np.array([*range(5, 12), *range(48, 68)])
    below = np.isin(landmarks, (*range(5, 12), 56, 57, 58, 65, 66, 67))
    wanted = np.zeros((len(landmarks), 3))
    wanted[below, 1] = -PARTED
    shapes = model.expression_CV3[:, model.landmarks_68[landmarks]].reshape(len(names), -1).astype(np.float64)
    weights = np.linalg.solve(shapes @ shapes.T + 0.1 * np.eye(len(names)), shapes @ wanted.ravel())
    return np.asarray(np.tensordot(weights, model.expression_CV3, 1), np.float32)


def _narrow(model: ChartedModel) -> int:
    """How many of the model's first vertices are the narrow face."""
    return model.parts["narrow_face"].stop if "narrow_face" in model.parts else NARROW_FACE


def _face_chart(model: ChartedModel) -> tuple[Float64Array, IntArray]:
    """Chart position of every face vertex (NaN elsewhere), and the face triangles that the template may use."""
    face = (model.triangles_T3 < model.parts["face"].stop).all(1)
    chart = np.full((len(model.neutral_V3), 2), np.nan)
    uv = model.uv_U2[model.uv_triangles_T3]
    on_sheet = face & (uv[..., 0] <= 1).all(1)  # a few stray triangles of the face have a chart of their own
    chart[model.triangles_T3[on_sheet].ravel()] = uv[on_sheet].reshape(-1, 2)
    triangles = model.triangles_T3[on_sheet]
    narrow = (triangles < _narrow(model)).all(1)
    neck = (chart[triangles][..., 1] < NECK_BELOW).all(1)
    return chart, triangles[narrow | neck]


def _lip_rims(model: ChartedModel, chart_V2: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Polylines in the chart, image left to right, of the upper and the lower inner lip contour (landmarks 60 .. 67).

    The landmarks are joined along the model's edges, so the rim follows the lip exactly.
    """
    count = _narrow(model)
    face = model.triangles_T3[(model.triangles_T3 < count).all(1)]
    edges = np.concatenate([face[:, [0, 1]], face[:, [1, 2]], face[:, [2, 0]]])
    lengths = np.linalg.norm(chart_V2[edges[:, 0]] - chart_V2[edges[:, 1]], axis=1)
    graph = csr_matrix((lengths, (edges[:, 0], edges[:, 1])), (count, count))

    def path(ends: IntArray) -> Float64Array:
        vertices: list[int] = []
        for a, b in zip(ends[:-1], ends[1:], strict=True):
            _, before = dijkstra(graph, directed=False, indices=a, return_predecessors=True)
            leg = [int(b)]
            while leg[-1] != a:
                leg.append(int(before[leg[-1]]))
            vertices += leg[::-1][:-1]
        line = chart_V2[[*vertices, int(ends[-1])]]
        # The rim turns straight down at the corners: keep it a function of the column.
        keep = [0]
        for i in range(1, len(line)):
            if line[i, 0] > line[keep[-1], 0] + 1e-4:
                keep.append(i)
        return np.asarray(line[keep])

    landmarks = model.landmarks_68
    return path(landmarks[[60, 61, 62, 63, 64]]), path(landmarks[[60, 67, 66, 65, 64]])


def _outwards(dense: float, span: float, count: int) -> Float64Array:
    """`count` steps from 0 to `span`, the first one `dense` long, each longer than the last by the same factor."""
    low, high = 1.0, 3.0
    for _ in range(60):
        growth = (low + high) / 2
        total = dense * np.sum(growth ** np.arange(count))
        low, high = (growth, high) if total < span else (low, growth)
    steps = np.cumsum(growth ** np.arange(count))
    return np.concatenate([[0.0], steps / steps[-1] * span])


def _grid(upper: Float64Array, lower: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Columns [C] (chart u), and the chart position of every grid vertex [R, C, 2]."""
    left, right = upper[0, 0], upper[-1, 0]
    dense_left, dense_right = left - LIP_MARGIN, right + LIP_MARGIN
    dense = np.linspace(dense_left, dense_right, COLUMNS - 2 * OUTER_COLUMNS)
    step = float(dense[1] - dense[0])
    outer_left = dense_left - _outwards(step, dense_left - CHART_LOW[0], OUTER_COLUMNS)[:0:-1]
    outer_right = dense_right + _outwards(step, CHART_HIGH[0] - dense_right, OUTER_COLUMNS)[1:]
    columns = np.concatenate([outer_left, dense, outer_right])

    # The rows between the rims need some room beyond the corners, where there is no hole.
    corner = (upper[0, 1] + upper[-1, 1] + lower[0, 1] + lower[-1, 1]) / 4
    gap = 0.003 + 0.2 * np.maximum(0, np.maximum(left - columns, columns - right))
    beyond = (columns <= left) | (columns >= right)
    top = np.where(beyond, corner + gap, np.interp(columns, *upper.T))
    bottom = np.where(beyond, corner - gap, np.interp(columns, *lower.T))
    top, bottom = np.maximum(top, corner + gap * beyond), np.minimum(bottom, corner - gap * beyond)

    below = _rows(bottom, CHART_LOW[1], LIP_ROWS_BELOW, ROWS_BELOW)[::-1]
    above = _rows(top, CHART_HIGH[1], LIP_ROWS_ABOVE, ROWS_ABOVE)
    between = np.linspace(0, 1, ROWS_INSIDE + 2)[1:-1, None] * (top - bottom) + bottom
    v = np.concatenate([below, between, above])
    return columns, np.stack([np.broadcast_to(columns, v.shape), v], -1)


def _rows(rim_C: Float64Array, edge: float, lip_rows: int, rows: int) -> Float64Array:
    """Rows [rows + 1, C] from the rim to the chart's edge: `lip_rows` of them LIP_STEP apart, the rest ever farther
    apart.
    """
    sign = 1.0 if edge > rim_C.mean() else -1.0
    lip = rim_C + sign * LIP_STEP * np.arange(lip_rows + 1)[:, None]
    span = np.abs(edge - lip[-1])
    rest = _outwards(LIP_STEP, float(span.mean()), rows - lip_rows)[1:, None]
    return np.concatenate([lip, lip[-1] + sign * rest * span / span.mean()])


def _locate(
    points: Float64Array, chart_V2: Float64Array, triangles: IntArray, vertices: int
) -> tuple[csr_matrix, BoolArray]:
    """For each chart point the barycentric weights of the triangle it lies in (or the nearest one), and whether it
    lies inside.
    """
    found, barycentrics = _nearest_triangle(points, chart_V2, triangles)
    inside = barycentrics.min(1) > -0.02
    rows = np.repeat(np.arange(len(points)), 3)
    matrix = coo_matrix((barycentrics.ravel(), (rows, triangles[found].ravel())), (len(points), vertices)).tocsr()
    return matrix, inside


def _nearest_triangle(
    points: Float64Array, chart_V2: Float64Array, triangles: IntArray
) -> tuple[IntArray, Float64Array]:
    corners = chart_V2[triangles]
    _, candidates = cKDTree(corners.mean(1)).query(points, k=24)
    a, b, c = (corners[candidates][:, :, i] for i in range(3))
    ab, ac, ap = b - a, c - a, points[:, None] - a
    area = ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0]
    area = np.where(np.abs(area) < 1e-15, 1e-15, area)
    wb = (ap[..., 0] * ac[..., 1] - ap[..., 1] * ac[..., 0]) / area
    wc = (ab[..., 0] * ap[..., 1] - ab[..., 1] * ap[..., 0]) / area
    barycentrics = np.stack([1 - wb - wc, wb, wc], -1)
    best = barycentrics.min(-1).argmax(1)
    row = np.arange(len(points))
    chosen = np.clip(barycentrics[row, best], -0.05, 1.05)
    return candidates[row, best].astype(np.int32), chosen / chosen.sum(1, keepdims=True)


def _fill_mouth(
    weights: csr_matrix, rows: int, columns: Float64Array, chart_RC2: Float64Array, upper: Float64Array
) -> tuple[csr_matrix, FloatArray]:
    """Replaces the rows between the rims, within the mouth, by mixtures of the rims; returns the fill's depth at each
    vertex, cm.
    """
    count = len(columns)
    inside = (columns > upper[0, 0]) & (columns < upper[-1, 0])
    low_row, high_row = ROWS_BELOW, ROWS_BELOW + ROWS_INSIDE + 1
    x = (columns - upper[0, 0]) / (upper[-1, 0] - upper[0, 0])
    taper = np.clip(4 * x * (1 - x), 0, 1) ** 0.5
    mix = coo_matrix((rows * count, rows * count)).tolil()
    mix.setdiag(1)
    depth = np.zeros((rows, count), np.float32)
    for row in range(low_row + 1, high_row):
        t = (row - low_row) / (high_row - low_row)
        for column in np.flatnonzero(inside):
            vertex = row * count + column
            mix[vertex, vertex] = 0
            mix[vertex, low_row * count + column] = 1 - t
            mix[vertex, high_row * count + column] = t
        depth[row, inside] = CAVITY_DEPTH * (4 * t * (1 - t)) ** 0.5 * taper[inside]
    return (mix.tocsr() @ weights).tocsr(), depth.ravel()


def _grid_triangles(valid_RC: BoolArray) -> IntArray:
    """Two triangles for each cell whose corners are all valid, counter-clockwise as seen from outside."""
    rows, columns = valid_RC.shape
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    keep = valid_RC[:-1, :-1] & valid_RC[:-1, 1:] & valid_RC[1:, 1:] & valid_RC[1:, :-1]
    return np.stack([np.stack([a, b, c], -1)[keep], np.stack([a, c, d], -1)[keep]], 1).reshape(-1, 3).astype(np.int32)


def _landmarks(wanted: Float64Array, chart: Float64Array, triangles: IntArray) -> tuple[IntArray, FloatArray]:
    found, barycentrics = _nearest_triangle(wanted, chart, triangles)
    return found, barycentrics.astype(np.float32)


def _smooth(value: FloatArray, zero: float, one: float) -> FloatArray:
    """Smoothstep from 0 at `zero` to 1 at `one`."""
    t = np.clip((value - zero) / (one - zero), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _regions(points_V3: FloatArray, landmarks_683: FloatArray) -> FloatArray:
    """Weights [5, V] of contract.REGIONS (thesis Figure 3.9): distances in cm from the landmarks of this face."""
    x, y, z = points_V3.T
    mouth = landmarks_683[48:60].mean(0)
    half_width = np.abs(landmarks_683[[48, 54], 0] - mouth[0]).mean()
    nose_base, chin = landmarks_683[33, 1], landmarks_683[8, 1]
    oval = np.hypot((x - mouth[0]) / (half_width * 1.25), (y - mouth[1]) / (half_width * 0.8))
    front = _smooth(z, landmarks_683[8, 2] - 7.0, landmarks_683[8, 2] - 5.5)
    whole = np.ones_like(x)
    big = _smooth(y, chin - 3.0, chin - 1.5) * _smooth(-y, -(nose_base + 3.2), -(nose_base + 2.0))
    jaw = _smooth(y, chin - 2.0, chin - 1.0) * _smooth(-y, -(mouth[1] + 0.4), -(mouth[1] - 0.6))
    mouth_region = _smooth(-oval, -1.15, -0.9)
    # From under the nose to the throat; rising towards the ears, so that the whole jaw line is inside.
    ceiling = nose_base - 0.35 + 0.035 * x**2
    inpaint = _smooth(-(y - ceiling), 0.0, 0.3) * _smooth(y, chin - 2.6, chin - 2.0) * front
    return np.stack([whole, big, jaw, mouth_region, inpaint][: len(REGIONS)]).astype(np.float32)
