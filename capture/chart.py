"""A chart for face models that have none: a cylindrical unwrap, laid so that the landmarks come where the reference has
them. So the template's grid fits every model.

Shape letters: P points, Q points known in both spaces, V vertices, T triangles.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu

from realtime.arrays import BoolArray, Float64Array, FloatArray, IntArray

TABLE = Path(__file__).with_name("landmark_points.safetensors")  # what is known of the reference face
CHIN = 8
JAW_LINE = slice(0, 17)  # landmarks at a silhouette: each model has its own idea of them
WELL_SEEN, HOLD = 0.5, 0.05  # cosine to the cylinder from which on a vertex stays about where it shows it
ELSEWHERE = 3.0  # where a vertex lies in the chart that is seen from behind: outside of it


def warped(points: NDArray[np.floating], source: NDArray[np.floating], target: NDArray[np.floating]) -> Float64Array:
    """Points [P, 2 or 3] moved by the smoothest map that takes source [Q, same] to target (a spline of distances)."""

    def distances(a: NDArray[np.floating]) -> Float64Array:
        return np.asarray(np.linalg.norm(a[:, None].astype(np.float64) - source[None], axis=-1), np.float64)

    count, space = source.shape
    affine = np.concatenate([np.ones((count, 1)), source], 1)
    system = np.zeros((count + space + 1, count + space + 1))
    system[:count, :count] = distances(source) + 1e-3 * np.eye(count)
    system[:count, count:], system[count:, :count] = affine, affine.T
    moves = np.concatenate([(target - source).astype(np.float64), np.zeros((space + 1, target.shape[1]))])
    factors = np.linalg.solve(system, moves)
    at = np.concatenate([distances(points), np.ones((len(points), 1)), points], 1)
    return np.asarray(points + at @ factors, np.float64)


def unwrapped(neutral_V3: FloatArray, triangles_T3: IntArray, landmarks_68: IntArray) -> FloatArray:
    """Chart position [V, 2] of every vertex.

    What a cylinder cannot show (lips rolled in, nostrils) is laid out smoothly between what it can, the landmarks held.
    """
    marks = neutral_V3[landmarks_68].astype(np.float64)
    axis_z = marks[[0, 16], 2].mean() - 1.5  # cm: the head's middle lies behind the ears' fronts
    radius = np.hypot(marks[30, 0], marks[30, 2] - axis_z)
    angle = np.arctan2(neutral_V3[:, 0], neutral_V3[:, 2] - axis_z).astype(np.float64)
    # In units of the chart already, so that the warp has little left to do.
    flat = np.stack([0.5 + angle * radius / 20, neutral_V3[:, 1] / 20 + 0.6], 1)
    reference = load_file(TABLE)["chart_68"].astype(np.float64)
    inner = np.arange(JAW_LINE.stop, 68)
    inner = inner[_distinct(flat[landmarks_68[inner]])]
    known = np.append(inner, CHIN)
    chart = warped(flat, flat[landmarks_68[known]], reference[known])

    normals = _vertex_normals(neutral_V3, triangles_T3)
    outwards = normals[:, 0] * np.sin(angle) + normals[:, 2] * np.cos(angle)
    hold = np.where(outwards > WELL_SEEN, HOLD, 1e-6)
    hold[landmarks_68[inner]] = 1e3
    chart[landmarks_68[inner]] = reference[inner]
    edges = np.concatenate([triangles_T3[:, [0, 1]], triangles_T3[:, [1, 2]], triangles_T3[:, [2, 0]]])
    weight = 0.05 / (np.linalg.norm(neutral_V3[edges[:, 0]] - neutral_V3[edges[:, 1]], axis=1) + 1e-3)
    count = len(neutral_V3)
    pull = coo_matrix((weight, (edges[:, 0], edges[:, 1])), (count, count))
    pull = pull + pull.T
    system = diags(np.asarray(pull.sum(1)).ravel() + hold) - pull
    chart = np.asarray(splu(system.tocsc()).solve(chart * hold[:, None]), np.float64)
    chart[np.abs(angle) > 0.6 * np.pi] = ELSEWHERE
    return chart.astype(np.float32)


def _vertex_normals(vertices_V3: FloatArray, triangles_T3: IntArray) -> Float64Array:
    a, b, c = (vertices_V3[triangles_T3[:, k]].astype(np.float64) for k in range(3))
    across = np.cross(b - a, c - a)
    normals = np.zeros((len(vertices_V3), 3))
    for k in range(3):
        np.add.at(normals, triangles_T3[:, k], across)
    return np.asarray(normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12), np.float64)


def _distinct(points_P2: Float64Array) -> BoolArray:
    """False for points that lie on an earlier one."""
    distance = np.linalg.norm(points_P2[:, None] - points_P2[None], axis=-1)
    return np.asarray(~(np.tril(distance < 1e-6, -1).any(1)))
