"""The 3D morphable face model that a video is tracked with, in one documented npz layout, whatever model it was.

The layout (units: centimetres, +y up, +z out of the face, the person's left at +x; no pickles inside):

    neutral            V x 3 float          mean face, neutral expression
    identity           I x V x 3 float      identity modes as displacements, each scaled to one standard deviation
    expression         C x V x 3 float      expression shapes as displacements at weight 1
    expression_names   C                    ARKit's names with _L / _R where the shapes are those; any others will do
    triangles          T x 3 int
    landmarks_68       68 int               vertex of each of the 68 Multi-PIE landmarks
  and, if the model has them,
    expression_range   C x 2 float          least and greatest weight of each shape; 0 to 1 where it is left out
    uv, uv_triangles   U x 2, T x 3         the model's own chart, v up
    part_names, part_ranges                 vertex ranges [first, end) of face, teeth, ...; `face`, from 0, is tracked
    albedo, albedo_modes  V x 3, B x V x 3  linear RGB of the skin and its modes (thesis equation 4.2)

Shape letters: V vertices, T triangles, I identity modes, C expression shapes, P points on the surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from capture.chart import unwrapped
from realtime.arrays import BoolArray, Float64Array, FloatArray, IntArray
from realtime.errors import MiravoxError


@dataclass(frozen=True)
class MorphableModel:
    """Thesis equation 4.1: vertices = neutral_V3 + identity_IV3 x alpha + expression_CV3 x delta."""

    neutral_V3: FloatArray
    identity_IV3: FloatArray
    expression_CV3: FloatArray
    expression_names: tuple[str, ...]
    expression_range_C2: FloatArray
    triangles_T3: IntArray
    landmarks_68: IntArray
    uv_U2: FloatArray  # the model's own chart, or else a cylindrical one
    uv_triangles_T3: IntArray
    parts: dict[str, slice]
    albedo_V3: FloatArray | None
    albedo_BV3: FloatArray | None

    @property
    def face_V(self) -> BoolArray:
        """Vertices of the face's skin: no teeth, no eyes, no lining of the mouth."""
        face = np.zeros(len(self.neutral_V3), bool)
        face[self.parts["face"]] = True
        return face

    def identity_vertices(self, alpha_I: NDArray[np.floating]) -> FloatArray:
        """Neutral vertices [V, 3] of a person; alpha may have fewer weights than the model has modes."""
        modes = self.identity_IV3[: len(alpha_I)]
        return np.asarray(self.neutral_V3 + np.tensordot(alpha_I.astype(np.float32), modes, 1), np.float32)


@dataclass(frozen=True)
class Surface:
    """The model at P fixed points of its surface: what a fit needs of it."""

    neutral_P3: FloatArray
    identity_IP3: FloatArray
    expression_CP3: FloatArray

    @classmethod
    def at(cls, model: MorphableModel, weights_PV: csr_matrix, modes: int) -> Surface:
        """weights_PV: barycentric weights of each point, one row each. modes: how many identity modes are kept."""
        return cls(
            np.asarray(weights_PV @ model.neutral_V3, np.float32),
            np.stack([weights_PV @ m for m in model.identity_IV3[:modes]]).astype(np.float32),
            np.stack([weights_PV @ m for m in model.expression_CV3]).astype(np.float32),
        )

    def person(self, alpha_I: NDArray[np.floating]) -> FloatArray:
        """Neutral points [P, 3] of a person."""
        return np.asarray(self.neutral_P3 + np.tensordot(alpha_I.astype(np.float32), self.identity_IP3, 1), np.float32)


def load_morphable_model(path: Path) -> MorphableModel:
    """Reads a model in the layout above. Raises MiravoxError naming what is missing or has a wrong shape."""
    if not path.is_file():
        raise MiravoxError(
            str(path), found="no such file", wanted="a 3D morphable face model", remedy=WHERE_MODELS_ARE_TO_BE_HAD
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError) as error:
        raise MiravoxError(
            str(path),
            found=f"a file that is no npz ({error})",
            wanted="a model in Miravox's layout",
            remedy="Convert it: python -m capture.convert_model --help.",
        ) from error
    return model_of_arrays(arrays, str(path))


def model_of_arrays(arrays: dict[str, NDArray[np.generic]], name: str) -> MorphableModel:
    """Checks the layout's arrays and makes a model of them."""

    def wrong(what: str, found: str, wanted: str) -> MiravoxError:
        return MiravoxError(
            f"{name}: {what}",
            found=found,
            wanted=wanted,
            remedy="Convert the model again: python -m capture.convert_model --help.",
        )

    for key in ("neutral", "identity", "expression", "expression_names", "triangles", "landmarks_68"):
        if key not in arrays:
            raise wrong(key, "no such array", "one of those that every model has")
    vertices = len(arrays["neutral"])
    shapes = {
        "neutral": (vertices, 3),
        "identity": (len(arrays["identity"]), vertices, 3),
        "expression": (len(arrays["expression_names"]), vertices, 3),
        "landmarks_68": (68,),
        "triangles": (len(arrays["triangles"]), 3),
    }
    for key, shape in shapes.items():
        if arrays[key].shape != shape:
            raise wrong(key, f"shape {arrays[key].shape}", f"shape {shape}")
        if not np.isfinite(arrays[key].astype(np.float64)).all():
            raise wrong(key, "values that are not finite", "finite ones")
    for key in ("triangles", "landmarks_68"):
        indices = arrays[key].astype(np.int64)
        if indices.min() < 0 or indices.max() >= vertices:
            raise wrong(key, f"vertex {indices.max()}", f"vertices below {vertices}")
    height = np.ptp(arrays["neutral"].astype(np.float64)[arrays["landmarks_68"].astype(np.int64), 1])
    if not 7 < height < 25:
        raise wrong("neutral", f"{height:.3g} from chin to brows", "centimetres, 10 to 15 of them")
    if ("uv" in arrays) != ("uv_triangles" in arrays):
        raise wrong("uv", "one of uv and uv_triangles", "both or none")
    parts = {
        str(n): slice(int(a), int(b))
        for n, (a, b) in zip(arrays.get("part_names", ()), arrays.get("part_ranges", ()), strict=True)
    }
    face = parts.setdefault("face", slice(0, vertices))
    if face.start != 0:
        raise wrong("part_ranges", f"a face that begins at vertex {face.start}", "one that begins at 0")
    neutral, triangles = arrays["neutral"].astype(np.float32), arrays["triangles"].astype(np.int32)
    landmarks = arrays["landmarks_68"].astype(np.int32)
    if "uv" in arrays:
        uv, uv_triangles = arrays["uv"].astype(np.float32), arrays["uv_triangles"].astype(np.int32)
    else:
        uv, uv_triangles = unwrapped(neutral, triangles, landmarks), triangles
        parts["narrow_face"] = face
    count = len(arrays["expression_names"])
    limits = arrays.get("expression_range", np.tile(np.array([0.0, 1.0]), (count, 1)))
    return MorphableModel(
        neutral_V3=neutral,
        identity_IV3=arrays["identity"].astype(np.float32),
        expression_CV3=arrays["expression"].astype(np.float32),
        expression_names=tuple(str(n) for n in arrays["expression_names"]),
        expression_range_C2=limits.astype(np.float32),
        triangles_T3=triangles,
        landmarks_68=landmarks,
        uv_U2=uv,
        uv_triangles_T3=uv_triangles,
        parts=parts,
        albedo_V3=arrays["albedo"].astype(np.float32) if "albedo" in arrays else None,
        albedo_BV3=arrays["albedo_modes"].astype(np.float32) if "albedo_modes" in arrays else None,
    )


def closest_points(
    points_P3: NDArray[np.floating], vertices_V3: NDArray[np.floating], triangles_T3: IntArray
) -> tuple[IntArray, Float64Array, Float64Array]:
    """The nearest point of a surface for each of P points: triangle [P], barycentric weights [P, 3], distance [P]."""
    corners = vertices_V3[triangles_T3].astype(np.float64)
    _, candidates = cKDTree(corners.mean(1)).query(points_P3, k=16)
    a, b, c = (corners[candidates][:, :, k] for k in range(3))
    ab, ac, ap = b - a, c - a, points_P3[:, None] - a
    d00, d01, d11 = ((u * v).sum(-1) for u, v in ((ab, ab), (ab, ac), (ac, ac)))
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-12)
    second, third = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    weights = np.clip(np.stack([1 - second - third, second, third], -1), 0, 1)
    weights /= weights.sum(-1, keepdims=True)
    near = np.einsum("pkc,pkcx->pkx", weights, corners[candidates])
    distance = np.linalg.norm(near - points_P3[:, None], axis=-1)
    best, row = distance.argmin(1), np.arange(len(points_P3))
    return candidates[row, best].astype(np.int32), weights[row, best], distance[row, best]


def point_weights(
    triangles_T3: IntArray, triangle_P: NDArray[np.integer], weights_P3: NDArray[np.floating], vertices: int
) -> csr_matrix:
    """Matrix [P, V] that takes vertices to points given by triangle and barycentric weights."""
    rows = np.repeat(np.arange(len(triangle_P)), 3)
    columns = triangles_T3[triangle_P].ravel()
    return csr_matrix((weights_P3.astype(np.float32).ravel(), (rows, columns)), (len(triangle_P), vertices))


WHERE_MODELS_ARE_TO_BE_HAD = (
    "Get one and convert it with `python -m capture.convert_model`: "
    "ICT-FaceKit (github.com/ICT-VGL/ICT-FaceKit, MIT licence, the light model is free to use); "
    "FLAME (flame.is.tue.mpg.de, registration; FLAME 2023 Open: CC BY 4.0, older ones for research only); "
    "Basel Face Model 2019 (faces.dmi.unibas.ch, registration, for research only)."
)
