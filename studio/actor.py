"""The synthetic actor: identity, meshes to draw, head and torso, camera. Geometry only; numpy, no OpenGL.

Shape letters: V model vertices, N drawn vertices (one for each pair of model vertex and UV vertex), T triangles,
C expression channels. Units: centimetres, +y up, +z out of the face, the actor's left at +x.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from realtime.arrays import Float64Array, FloatArray, IntArray
from realtime.camera import Camera
from studio.face_model import FaceModel

ADA_SEED = 8
FRAME_PIXELS = 512
FOCAL_PIXELS = 1080.0
DISTANCE = 75.0  # cm from the camera to the object's origin: 14.4 pixels a centimetre there
ORIGIN_HEIGHT = 0.55  # cm the object's origin lies above the optical axis, so that hair and shoulders both fit
NEAR, FAR = 40.0, 140.0  # cm

# Identity modes whose positive side is, by eye, the feminine one (smaller jaw, brow ridge and nose), and how much of
# them.
FEMININE = {0: 1.1, 5: 1.2}
VARIATION = 0.4  # standard deviation of the modes drawn at random
VARIED_MODES = 60  # the later ones are noise at this resolution

SKIN, BACK, MOUTH, TEETH, SCLERA, IRIS = "skin", "back", "mouth", "teeth", "sclera", "iris"
GROUP_MATERIALS = {
    SKIN: ("M_Face",),
    BACK: ("M_BackHead",),
    MOUTH: ("M_GumsTongue",),
    TEETH: ("M_Teeth",),
    SCLERA: ("M_ScleraLeft", "M_ScleraRight"),
    IRIS: ("M_IrisLeft", "M_IrisRight"),
}


def identity_weights(seed: int) -> Float64Array:
    """Weights of the model's 100 identity modes for one actress, in standard deviations."""
    weights = np.random.default_rng(seed).normal(size=100) * VARIATION
    weights[VARIED_MODES:] = 0
    for mode, amount in FEMININE.items():
        weights[mode] += amount
    return weights


def identity_vertices(model: FaceModel, seed: int) -> FloatArray:
    """Neutral vertices [V, 3] of the actress with this seed, centimetres."""
    modes = VARIED_MODES
    shift = np.tensordot(identity_weights(seed)[:modes], model.identity_IV3[:modes].astype(np.float64), 1)
    return (model.neutral_V3 + shift).astype(np.float32)


def rotation(yaw: float, pitch: float, roll: float) -> Float64Array:
    """3 x 3 rotation, radians: roll about z, then pitch about x (positive looks down), then yaw about y (to +x)."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_y @ about_x @ about_z, np.float64)


HEAD_PIVOT = np.array([0.0, -4.0, -0.5])  # cm, about where the skull sits on the neck


def head_pose(
    yaw: float = 0, pitch: float = 0, roll: float = 0, shift: tuple[float, float, float] = (0, 0, 0)
) -> FloatArray:
    """Object-to-camera pose [4, 4], column vectors, OpenGL axes. Radians about the neck's top, shift in cm."""
    turn = rotation(yaw, pitch, roll)
    pose = np.eye(4)
    pose[:3, :3] = turn
    pose[:3, 3] = HEAD_PIVOT - turn @ HEAD_PIVOT + np.asarray(shift) + (0, ORIGIN_HEIGHT, -DISTANCE)
    return pose.astype(np.float32)


def camera() -> Camera:
    """The camera of every film; its optical axis meets the middle of the frame."""
    return Camera(FOCAL_PIXELS, FOCAL_PIXELS, FRAME_PIXELS / 2, FRAME_PIXELS / 2, FRAME_PIXELS, FRAME_PIXELS)


def projection() -> FloatArray:
    """OpenGL projection [4, 4] of `camera()`, column vectors."""
    scale = 2 * FOCAL_PIXELS / FRAME_PIXELS
    m = np.zeros((4, 4), np.float32)
    m[0, 0] = m[1, 1] = scale
    m[2, 2], m[2, 3] = (FAR + NEAR) / (NEAR - FAR), 2 * FAR * NEAR / (NEAR - FAR)
    m[3, 2] = -1
    return m


def smoothstep(low: float, high: float, x: NDArray[np.floating]) -> Float64Array:
    t = np.clip((np.asarray(x, np.float64) - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float64)


def rigid_weight(rest_N3: NDArray[np.floating]) -> FloatArray:
    """1 where a point moves with the head, 0 where it stays with the torso, from the neutral position [N, 3].

    Face and throat are exactly 1, so the track's poses hold for them; the bend is at collar bones and shoulders.
    """
    height = rest_N3[:, 1]
    _, radius = polar(rest_N3)
    shoulder = smoothstep(-9.5, -11.5, height) * smoothstep(5.2, 7.8, radius)
    return np.asarray(smoothstep(-16.9, -13.9, height) * (1 - shoulder), np.float32)


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Something with a fixed shape: vertices [N, 3], normals [N, 3], uv [N, 2], triangles [T, 3]."""

    vertices_N3: FloatArray
    normals_N3: FloatArray
    uv_N2: FloatArray
    triangles_T3: IntArray


class Actor:
    """One actress: neutral vertices, expression basis and everything that is drawn of the face model."""

    def __init__(self, model: FaceModel, seed: int) -> None:
        self.model, self.seed = model, seed
        self.neutral_V3 = identity_vertices(model, seed)
        self.landmarks_68 = model.landmarks_68
        self._basis_C3V = model.expression_CV3.reshape(len(model.expression_names), -1)
        names = list(model.material_names)
        wanted = {g: [names.index(m) for m in materials] for g, materials in GROUP_MATERIALS.items()}
        drawn = np.isin(model.material_T, [m for group in wanted.values() for m in group])
        # One drawn vertex for each (model vertex, UV vertex): seams of the chart need both.
        corners = np.stack([model.triangles_T3[drawn], model.uv_triangles_T3[drawn]], -1).reshape(-1, 2)
        pairs, inverse = np.unique(corners, axis=0, return_inverse=True)
        self.corner_N = pairs[:, 0]
        self.uv_N2 = (model.uv_U2[pairs[:, 1]]).astype(np.float32)
        triangles = inverse.reshape(-1, 3).astype(np.int32)
        material = model.material_T[drawn]
        self.groups = {g: triangles[np.isin(material, ids)] for g, ids in wanted.items()}
        surface = model.triangles_T3[drawn]
        self._surface_T3 = surface
        rows = surface.T.reshape(-1)
        self._gather = csr_matrix(
            (np.ones(len(rows), np.float32), (rows, np.tile(np.arange(len(surface)), 3))),
            shape=(len(self.neutral_V3), len(surface)),
        )
        self.eye_centres = {
            side: self.neutral_V3[model.parts[f"eyeball_{side}"]].mean(0).astype(np.float64)
            for side in ("left", "right")
        }

    def displaced(self, expression_C: NDArray[np.floating], gaze: tuple[float, float] = (0, 0)) -> FloatArray:
        """Vertices [V, 3] in object space: neutral + expression @ basis; eyes turned by gaze (yaw, pitch), radians."""
        vertices = self.neutral_V3 + (expression_C.astype(np.float32) @ self._basis_C3V).reshape(-1, 3)
        turn = rotation(gaze[0], gaze[1], 0)
        for side, centre in self.eye_centres.items():
            ball = self.model.parts[f"eyeball_{side}"]
            vertices[ball] = (vertices[ball] - centre) @ turn.T + centre
        return np.asarray(vertices, np.float32)

    def normals(self, vertices_V3: FloatArray) -> FloatArray:
        """Unit normals [V, 3], weighted by triangle area."""
        a, b, c = (vertices_V3[self._surface_T3[:, k]] for k in range(3))
        u, v = b - a, c - a
        face = np.empty_like(u)
        for k in range(3):
            i, j = (k + 1) % 3, (k + 2) % 3
            face[:, k] = u[:, i] * v[:, j] - u[:, j] * v[:, i]
        normals = self._gather @ face
        length = np.sqrt(np.einsum("vk,vk->v", normals, normals))
        return np.asarray(normals / np.maximum(length, 1e-9)[:, None], np.float32)

    def landmark(self, index: int) -> Float64Array:
        """Neutral position [3] of one of the 68 landmarks."""
        return np.asarray(self.neutral_V3[self.landmarks_68[index]].astype(np.float64), np.float64)

    @cached_property
    def garment(self) -> Mesh:
        """A plain knitted top: a surface from a neckline on the bust out over the shoulders and beyond the frame."""
        return _garment(self)


NECKLINE_ANGLES = 128
NECK_CENTRE = np.array([0.0, -1.0])  # x, z of the axis that the neckline winds around


def neckline_radius(angle: NDArray[np.floating]) -> Float64Array:
    """Horizontal distance (cm) of the neckline from the neck's axis; angle 0 points to the front, pi / 2 to +x."""
    front, side, back = 8.6, 8.7, 6.4
    c, s = np.cos(angle), np.sin(angle)
    depth = np.where(c > 0, front, back)
    return np.asarray(1 / np.sqrt((c / depth) ** 2 + (s / side) ** 2), np.float64)


def polar(points_N3: NDArray[np.floating]) -> tuple[Float64Array, Float64Array]:
    """Angle and horizontal distance of points from the neck's axis."""
    x, z = points_N3[:, 0] - NECK_CENTRE[0], points_N3[:, 2] - NECK_CENTRE[1]
    return np.arctan2(x, z).astype(np.float64), np.hypot(x, z).astype(np.float64)


def _garment(actor: Actor) -> Mesh:
    bust = actor.neutral_V3[:11248]
    bust = bust[(bust[:, 1] < -9.5)]
    tree = cKDTree(bust[:, [0, 2]])
    angle = np.linspace(-np.pi, np.pi, NECKLINE_ANGLES + 1)
    radius = neckline_radius(angle)
    direction = np.stack([np.sin(angle), np.cos(angle)], -1)
    loop = NECK_CENTRE + radius[:, None] * direction
    distance, near = tree.query(loop, k=8)
    weight = 1 / (distance + 0.2) ** 2
    height = (bust[near, 1] * weight).sum(1) / weight.sum(1)
    smooth = np.real(
        np.fft.ifft(np.fft.fft(height[:-1]) * (np.abs(np.fft.fftfreq(NECKLINE_ANGLES, 1 / NECKLINE_ANGLES)) < 6))
    )
    height = np.append(smooth, smooth[0]) + 0.15
    # Profile from inside the collar, over its rolled edge, then out: (share of the way out, share of the way down).
    steps = np.linspace(0, 1, 28)[1:]
    side = np.abs(direction[:, 0]) ** 1.5  # 1 over the shoulders, 0 at chest and back
    rows, knit = [], []
    for k, (out, up) in enumerate(((-0.25, -0.5), (0.0, 0.18), (0.22, 0.24), (0.42, 0.1))):
        rows.append(np.stack([loop[:, 0] + out * direction[:, 0], height + up, loop[:, 1] + out * direction[:, 1]], -1))
        knit.append(k * 0.2)
    reach = 0.42 + side * 13.0 + (1 - side) * np.where(direction[:, 1] > 0, 3.4, 4.0)
    fall = side * 11.5 + (1 - side) * 13.0
    for s in steps:
        out = 0.42 + (reach - 0.42) * (1 - (1 - s) ** (1.15 + 0.6 * side))
        down = 0.1 - fall * (side * (0.42 * s + 0.58 * s**4) + (1 - side) * (0.35 * s + 0.65 * s**1.4))
        rows.append(
            np.stack([loop[:, 0] + out * direction[:, 0], height + down, loop[:, 1] + out * direction[:, 1]], -1)
        )
        knit.append(0.8 + s * 14)
    grid = np.stack(rows)  # [rows, angles, 3]
    n_rows, n_angles = grid.shape[:2]
    uv = np.stack(np.broadcast_arrays(angle[None] * 8.5, np.array(knit)[:, None]), -1)
    index = np.arange(n_rows * n_angles).reshape(n_rows, n_angles)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate([np.stack([a, d, b], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])
    du, dv = np.gradient(grid, axis=1), np.gradient(grid, axis=0)
    normals = np.cross(dv, du)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9
    outward = np.stack([direction[:, 0], np.full(len(angle), 0.6), direction[:, 1]], -1)
    normals *= np.where((normals * outward).sum(-1, keepdims=True) < 0, -1, 1)
    return Mesh(
        vertices_N3=grid.reshape(-1, 3).astype(np.float32),
        normals_N3=normals.reshape(-1, 3).astype(np.float32),
        uv_N2=uv.reshape(-1, 2).astype(np.float32),
        triangles_T3=triangles.astype(np.int32),
    )
