"""Where on a face model MediaPipe's landmarks lie: measured once on the reference face, carried over to any model.

The measurement (`python -m bench landmarks`) looks up which point of rendered faces each landmark falls on; what is
kept is the median, how far single frames scatter about it, and how far whole faces do. Landmarks that slide along a
silhouette are left out.

Shape letters: L landmarks, V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

from safetensors.numpy import load_file
from scipy.sparse import csr_matrix

from capture.chart import TABLE, warped
from capture.morphable_model import MorphableModel, closest_points, point_weights
from realtime.arrays import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class LandmarkTable:
    """L of MediaPipe's landmarks on a model."""

    index_L: IntArray  # MediaPipe's
    weights_LV: csr_matrix
    noise_L: FloatArray  # cm, standard deviation from frame to frame
    bias_L: FloatArray  # cm, from face to face: how differently a landmark is meant


def landmark_table(model: MorphableModel) -> LandmarkTable:
    """The measured landmarks, warped from the reference face to the model's by the 68 that every model has."""
    table = load_file(TABLE)
    wanted = warped(table["points"], table["landmarks_68"], model.neutral_V3[model.landmarks_68])
    face = model.triangles_T3[model.face_V[model.triangles_T3].all(1)]
    triangle, weights, _ = closest_points(wanted, model.neutral_V3, face)
    matrix = point_weights(face, triangle, weights, len(model.neutral_V3))
    return LandmarkTable(index_L=table["index"], weights_LV=matrix, noise_L=table["noise"], bias_L=table["bias"])
