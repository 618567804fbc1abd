"""The 3D morphable face model (ICT Face Model Light), read from MIRAVOX_DATA.

Units: centimetres, +y up, +z out of the face.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset.phones import data_folder
from realtime.arrays import ByteArray, FloatArray, IntArray
from realtime.errors import MiravoxError


@dataclass(frozen=True, kw_only=True)
class FaceModel:
    """Vertices = neutral_V3 + identity_IV3 x identity weights + expression_CV3 x expression weights."""

    neutral_V3: FloatArray
    identity_IV3: NDArray[np.float16]  # one standard deviation each
    expression_CV3: FloatArray  # displacement at weight 1
    expression_names: tuple[str, ...]  # ARKit names with _L / _R
    triangles_T3: IntArray
    uv_U2: FloatArray  # the model's own chart, v up
    uv_triangles_T3: IntArray  # the same triangles, indices into uv_U2
    material_T: ByteArray
    material_names: tuple[str, ...]
    parts: dict[str, slice]  # vertex range of each part: face, teeth, eyeball_left, ...
    landmarks_68: IntArray  # vertex of each Multi-PIE landmark


def load_face_model(path: Path | None = None) -> FaceModel:
    """Reads the face model. Raises MiravoxError if the file is missing."""
    path = path or data_folder() / "face_model" / "ict_facekit_light.npz"
    if not path.is_file():
        raise MiravoxError(
            str(path),
            found="no such file",
            wanted="the ICT Face Model Light as npz",
            remedy="Set MIRAVOX_DATA to the data folder.",
        )
    with np.load(path, allow_pickle=False) as m:
        return FaceModel(
            neutral_V3=m["neutral"],
            identity_IV3=m["identity"],
            expression_CV3=m["expression"].astype(np.float32),
            expression_names=tuple(str(n) for n in m["expression_names"]),
            triangles_T3=m["triangles"],
            uv_U2=m["uv"],
            uv_triangles_T3=m["uv_triangles"],
            material_T=m["material"],
            material_names=tuple(str(n) for n in m["material_names"]),
            parts={str(n): slice(int(a), int(b)) for n, (a, b) in zip(m["part_names"], m["part_ranges"], strict=True)},
            landmarks_68=m["landmarks_68"],
        )
