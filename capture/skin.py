"""The skin as the photometric term sees it: points on the model, their albedo and the light on them.

Colours are linear light to the power of 1 / 2.2, so that light multiplies them. Where the model has albedo modes
(thesis equation 4.2) they give the start; then every point has an albedo of its own, whatever all frames have in
common there.

Shape letters: P points, C expression shapes, K frames, B albedo modes, T triangles, V vertices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from capture.energy import Lit, Pose
from capture.morphable_model import MorphableModel, Surface, point_weights
from realtime.arrays import Float64Array, FloatArray, IntArray

GAMMA = 2.2
LIP_RIM = 0.15  # cm: skin nearer to where the lips meet is hidden now and then
MOUTH_REACH, MOUTH_DENSITY = 0.8, 4.0  # cm around the lips; points there are so much denser
FACE_REACH = 2.0  # cm around the landmarks: ears, throat and hair stay out
LEAST_FACING, FULL_FACING = 0.15, 0.5  # cosines between a point's normal and the view
LEAST_SHADE = 0.05
BANDS = 9  # spherical harmonics of the first three orders
LIGHT_ROUNDS = 4
ODD_COLOR = 0.08  # linear: a colour that far off the skin's counts half
ALBEDO_MODES_USED = 20


@dataclass(frozen=True, kw_only=True)
class Skin:
    """Points of the skin and their normals."""

    surface: Surface
    normals_P3: FloatArray  # of the person's neutral face
    turning_CP3: FloatArray  # how they change with each shape
    start_P3: FloatArray | None  # the model's mean albedo, linear
    modes_BP3: FloatArray | None

    def normals(self, delta_C: NDArray[np.floating], pose: Pose) -> FloatArray:
        """Unit normals [P, 3] in camera space."""
        bent = self.normals_P3 + np.tensordot(delta_C.astype(np.float32), self.turning_CP3, 1)
        bent /= np.linalg.norm(bent, axis=1, keepdims=True) + 1e-9
        return np.asarray(bent @ pose.turn_33.T, np.float32)


@dataclass(frozen=True)
class Appearance:
    """Albedo of the points (encoded), light (linear, spherical harmonics), and how much colours vary over time."""

    albedo_P3: FloatArray
    light_93: Float64Array
    deviation_P: FloatArray

    def lit(self, skin: Skin, delta_C: NDArray[np.floating], pose: Pose) -> Lit:
        normals = skin.normals(delta_C, pose)
        shade = np.maximum(harmonics(normals) @ self.light_93, LEAST_SHADE) ** (1 / GAMMA)
        return Lit(
            shade_P3=shade.astype(np.float32),
            facing_P=facing(normals, pose),
            albedo_P3=self.albedo_P3,
            deviation_P=self.deviation_P,
        )


def facing(normals_P3: FloatArray, pose: Pose) -> FloatArray:
    """How much each point is turned to the camera [P]: 0 where it is hidden or nearly, 1 where it is seen well."""
    cosine = normals_P3 @ (-pose.shift_3 / np.linalg.norm(pose.shift_3))
    return np.asarray(np.clip((cosine - LEAST_FACING) / (FULL_FACING - LEAST_FACING), 0, 1), np.float32)


def harmonics(normals_P3: NDArray[np.floating]) -> FloatArray:
    """Spherical harmonics [P, 9] of unit normals, without their constant factors."""
    x, y, z = normals_P3.T
    return np.stack([np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], 1).astype(np.float32)


def vertex_normals(vertices_V3: FloatArray, triangles_T3: IntArray) -> FloatArray:
    """Unit normals [V, 3], weighted by triangle area."""
    a, b, c = (vertices_V3[triangles_T3[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    gather = csr_matrix(
        (np.ones(triangles_T3.size, np.float32), (triangles_T3.T.ravel(), np.tile(np.arange(len(triangles_T3)), 3))),
        (len(vertices_V3), len(triangles_T3)),
    )
    normals = gather @ across
    return np.asarray(normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12), np.float32)


def choose_skin(
    model: MorphableModel, alpha_I: NDArray[np.floating], landmarks_L3: FloatArray, count: int, modes: int
) -> Skin:
    """`count` random points of the face around the landmarks [L, 3] of the neutral model, dense at the mouth."""
    neutral = model.neutral_V3
    lips = neutral[model.landmarks_68[48:68]]
    share = np.linspace(0, 1, 10)[:-1, None, None]
    inner = lips[12:]
    rim = (inner * (1 - share) + np.roll(inner, -1, 0) * share).reshape(-1, 3)
    usable = model.face_V & (_distance(neutral, landmarks_L3) < FACE_REACH) & (_distance(neutral, rim) > LIP_RIM)
    triangles = model.triangles_T3[usable[model.triangles_T3].all(1)]
    corners = neutral[triangles].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    area *= np.where(_distance(corners.mean(1), lips) < MOUTH_REACH, MOUTH_DENSITY, 1.0)
    rng = np.random.default_rng(0)
    total = np.cumsum(area)
    chosen = np.searchsorted(total, rng.random(count) * total[-1])
    second, third = rng.random((2, count))
    over = second + third > 1
    second[over], third[over] = 1 - second[over], 1 - third[over]
    matrix = point_weights(triangles, chosen, np.stack([1 - second - third, second, third], 1), len(neutral))

    face = model.triangles_T3[model.face_V[model.triangles_T3].all(1)]
    person = model.identity_vertices(alpha_I)

    def normals(vertices_V3: FloatArray) -> FloatArray:
        found = matrix @ vertex_normals(vertices_V3, face)
        return np.asarray(found / (np.linalg.norm(found, axis=1, keepdims=True) + 1e-9), np.float32)

    rest = normals(person)
    step = 0.3 * np.minimum(model.expression_range_C2[:, 1], 1)  # of a shape's weight
    turning = np.stack(
        [(normals(person + w * shape) - rest) / w for w, shape in zip(step, model.expression_CV3, strict=True)]
    )
    start = None if model.albedo_V3 is None else np.asarray(matrix @ model.albedo_V3, np.float32)
    albedo_modes = None
    if model.albedo_BV3 is not None:
        albedo_modes = np.stack([matrix @ m for m in model.albedo_BV3[:ALBEDO_MODES_USED]]).astype(np.float32)
    return Skin(
        surface=Surface.at(model, matrix, modes),
        normals_P3=rest,
        turning_CP3=turning.astype(np.float32),
        start_P3=start,
        modes_BP3=albedo_modes,
    )


def _distance(points_P3: NDArray[np.floating], to_Q3: NDArray[np.floating]) -> Float64Array:
    return np.asarray(cKDTree(to_Q3).query(points_P3)[0], np.float64)


def explain(
    skin: Skin,
    colors_KP3: NDArray[np.floating],
    deltas_KC: NDArray[np.floating],
    poses_K: Sequence[Pose],
    color_floor: float,
) -> Appearance:
    """Albedo and light that explain the points' colours [K, P, 3] in K frames."""
    normals = [skin.normals(d, p) for d, p in zip(deltas_KC, poses_K, strict=True)]
    bands_KP9 = np.stack([harmonics(n) for n in normals]).astype(np.float64)
    seen_KP1 = np.stack([facing(n, p) for n, p in zip(normals, poses_K, strict=True)])[..., None] + 1e-6
    linear_KP3 = np.maximum(colors_KP3, 1e-3).astype(np.float64) ** GAMMA
    albedo_P3, light_93 = _start(skin, linear_KP3)
    for _ in range(LIGHT_ROUNDS):
        odd = np.abs(linear_KP3 - albedo_P3 * np.maximum(bands_KP9 @ light_93, LEAST_SHADE)).mean(-1, keepdims=True)
        weight_KP1 = seen_KP1 / (1 + (odd / ODD_COLOR) ** 2)
        light_93 = _light(bands_KP9, albedo_P3, linear_KP3, weight_KP1, light_93)
        shade_KP3 = np.maximum(bands_KP9 @ light_93, LEAST_SHADE)
        albedo_P3 = (weight_KP1 * linear_KP3 * shade_KP3).sum(0) / (weight_KP1 * shade_KP3**2).sum(0)
    without_light = colors_KP3 / shade_KP3 ** (1 / GAMMA)
    seen_P1 = seen_KP1.sum(0)
    encoded_P3 = (seen_KP1 * without_light).sum(0) / seen_P1
    variance_P = (seen_KP1 * (without_light - encoded_P3) ** 2).sum(0).mean(-1) / seen_P1[:, 0]
    deviation = np.sqrt(variance_P + color_floor**2)
    return Appearance(encoded_P3.astype(np.float32), light_93, deviation.astype(np.float32))


def _start(skin: Skin, linear_KP3: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The skin's median colour in even light; the model's albedo, fitted to the mean colours, if it has one."""
    light = np.zeros((BANDS, 3))
    light[0] = 1
    mean_P3 = np.median(linear_KP3, axis=0)
    albedo = np.broadcast_to(np.median(mean_P3, axis=0), mean_P3.shape).copy()
    if skin.start_P3 is not None:
        albedo = skin.start_P3 * (np.median(mean_P3, axis=0) / np.median(skin.start_P3, axis=0))
        if skin.modes_BP3 is not None:  # beta of equation 4.2, each mode with a deviation of one
            design = skin.modes_BP3.reshape(len(skin.modes_BP3), -1).astype(np.float64)
            noise = ODD_COLOR**2 * 30
            beta = np.linalg.solve(
                design @ design.T / noise + np.eye(len(design)), design @ (mean_P3 - albedo).ravel() / noise
            )
            albedo = np.maximum(albedo + (beta @ design).reshape(-1, 3), 1e-3)
    return np.asarray(albedo, np.float64), light


def _light(
    bands_KP9: Float64Array,
    albedo_P3: Float64Array,
    linear_KP3: Float64Array,
    weight_KP1: Float64Array,
    before_93: Float64Array,
) -> Float64Array:
    """Light by weighted least squares, near what it was: a head that does not turn says little of it."""
    light = np.empty_like(before_93)
    bands, weight = bands_KP9.reshape(-1, BANDS), weight_KP1.ravel()
    hold = np.array([1e-3] + [3e-2] * (BANDS - 1)) * weight.sum()
    for m in range(3):
        albedo = np.broadcast_to(albedo_P3[:, m], linear_KP3.shape[:2]).ravel()
        prior = np.diag(hold * (albedo**2).mean())
        design = bands * albedo[:, None]
        light[:, m] = np.linalg.solve(
            design.T @ (design * weight[:, None]) + prior,
            design.T @ (weight * linear_KP3[..., m].ravel()) + prior @ before_93[:, m],
        )
    return light
