"""The terms of the tracking energy (thesis equations 4.3 to 4.5) at one frame, linearised for Gauss-Newton.

A frame's unknowns are x_D = (rotation 3, translation 3, expression C); the rotation's are an increment from the left,
in radians. Every term is a sum of squared residuals, each weighted by its precision, so that w_col, w_lan and w_reg
are the standard deviations of `TrackConfig`; iteratively reweighted, so that norms other than squares are followed.

Shape letters: L landmarks, P points, C expression shapes, I identity modes, D = 6 + C unknowns of a frame, S shared
unknowns (identity, then the focal length's logarithm), R rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from capture.landmark_table import LandmarkTable
from capture.morphable_model import Surface
from realtime.arrays import ByteArray, Float64Array, FloatArray

POSE = 6  # unknowns of a frame before its expression: rotation, translation
LANDMARK_LIMIT, COLOR_LIMIT = 2.5, 1.5  # deviations from which on a residual counts less


@dataclass(frozen=True)
class TrackConfig:
    """Weights of the energy, as standard deviations, and how hard it is worked at."""

    modes: int = 50  # identity modes that are fitted
    keyframes: int = 40  # identity and camera are found from so many frames
    skin_points: int = 2200  # points of the photometric term
    bundle_points: int = 1100  # the same, where identity and camera are solved for
    photometric: bool = True
    landmark_share: float = 0.1  # landmarks err together: so many of them are as good as independent
    color_share: float = 0.15  # the same of points of the skin
    bundle_share: float = 0.02  # of points of the skin, for identity and camera: gloss moves with the head
    color_floor: float = 0.02  # least deviation of a colour, encoded, [0, 1]
    expression: float = 0.35  # deviation of a shape's weight
    focal: float = 0.4  # deviation of the focal length's logarithm
    # Deviations of the second difference of consecutive frames: radians, cm across and along the view, a shape's weight
    turn_change: float = 0.002
    shift_change: float = 0.02
    depth_change: float = 0.03
    expression_change: float = 0.03


@dataclass(frozen=True)
class View:
    """Pinhole camera, pixels; fx = fy."""

    focal: float
    cx: float
    cy: float


@dataclass(frozen=True)
class Pose:
    """Object to camera, OpenGL axes, cm."""

    turn_33: Float64Array
    shift_3: Float64Array

    def moved(self, step_D: NDArray[np.floating]) -> Pose:
        """After a Gauss-Newton step (its first six values)."""
        return Pose(rotation_of(step_D[:3]) @ self.turn_33, self.shift_3 + step_D[3:6])

    def matrix(self) -> Float64Array:
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = self.turn_33, self.shift_3
        return pose


def rotation_of(vector_3: NDArray[np.floating]) -> Float64Array:
    """Rotation vector, radians -> 3 x 3 (Rodrigues)."""
    return np.asarray(cv2.Rodrigues(np.asarray(vector_3, np.float64).reshape(3, 1))[0], np.float64)


def vector_of(turn_33: NDArray[np.floating]) -> Float64Array:
    """3 x 3 -> rotation vector, radians."""
    return np.asarray(cv2.Rodrigues(np.asarray(turn_33, np.float64))[0].ravel(), np.float64)


@dataclass(frozen=True)
class Points:
    """Points of a person's surface and how expression moves them, laid out for quick Jacobians."""

    neutral_P3: FloatArray
    identity_IP3: FloatArray
    basis_3CP: FloatArray

    @classmethod
    def of(cls, surface: Surface, alpha_I: NDArray[np.floating]) -> Points:
        basis = np.ascontiguousarray(surface.expression_CP3.transpose(2, 0, 1))
        return cls(surface.person(alpha_I), surface.identity_IP3, basis)

    def displaced(self, delta_C: NDArray[np.floating]) -> FloatArray:
        """[P, 3]: thesis equation 4.1."""
        weights = delta_C.astype(np.float32)
        return np.asarray(self.neutral_P3 + np.stack([weights @ b for b in self.basis_3CP], 1), np.float32)


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Where points are seen, and how that changes with the frame's unknowns."""

    pixels_P2: FloatArray
    scale: float  # pixels a centimetre, in the middle of the face
    object_P23: FloatArray  # change of the pixels by a move in object space
    jacobian_2DP: FloatArray


def project(points: Points, delta_C: NDArray[np.floating], pose: Pose, view: View) -> Projection:
    turned_P3 = (points.displaced(delta_C) @ pose.turn_33.T.astype(np.float32)).astype(np.float32)
    x, y, z = (turned_P3 + pose.shift_3.astype(np.float32)).T
    scale = (-view.focal / z).astype(np.float32)
    u, v = x * scale, -y * scale
    # By a move in camera space: x to the right, y upwards, z towards the camera.
    camera_P23 = np.zeros((len(x), 2, 3), np.float32)
    camera_P23[:, 0, 0], camera_P23[:, 0, 2] = scale, -u / z
    camera_P23[:, 1, 1], camera_P23[:, 1, 2] = -scale, -v / z
    object_P23 = camera_P23 @ pose.turn_33.astype(np.float32)
    jacobian = np.empty((2, POSE + points.basis_3CP.shape[1], len(x)), np.float32)
    for k in range(2):
        by = camera_P23[:, k]
        jacobian[k, :3] = np.cross(turned_P3, by).T  # a turn w moves a point p by w x p
        jacobian[k, 3:6] = by.T
        np.multiply(points.basis_3CP[0], object_P23[:, k, 0], out=jacobian[k, 6:])
        for axis in (1, 2):
            jacobian[k, 6:] += points.basis_3CP[axis] * object_P23[:, k, axis]
    pixels = np.stack([view.cx + u, view.cy + v], 1).astype(np.float32)
    return Projection(pixels_P2=pixels, scale=float(np.median(scale)), object_P23=object_P23, jacobian_2DP=jacobian)


def shared_jacobian(points: Points, projection: Projection, view: View) -> FloatArray:
    """[2, S, P]: how the pixels change with the identity modes and the focal length's logarithm."""
    modes = [np.einsum("ipx,px->ip", points.identity_IP3, projection.object_P23[:, k], optimize=True) for k in range(2)]
    focal = (projection.pixels_P2 - (view.cx, view.cy)).T.astype(np.float32)
    return np.stack([np.concatenate([m, f[None]]) for m, f in zip(modes, focal, strict=True)])


def huber(deviation: NDArray[np.floating], limit: float) -> FloatArray:
    """Weight of a residual given in standard deviations: 1 up to the limit, then falling as its inverse."""
    return np.asarray(limit / np.maximum(np.abs(deviation), limit), np.float32)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Residuals of a frame with their weights (inverse variances) and Jacobians."""

    residual_R: FloatArray
    weight_R: FloatArray
    frame_DR: FloatArray
    shared_SR: FloatArray | None = None


def landmark_rows(
    points: Points,
    projection: Projection,
    view: View,
    found_L2: FloatArray,
    bias_L2: FloatArray,
    table: LandmarkTable,
    config: TrackConfig,
    bundled: bool = False,
) -> Rows:
    """Equation 4.4 in centimetres of the face; w_conf is the table's precision.

    Bundled: with the shared unknowns' Jacobian, the bias being unknown, too, and not taken off.
    """
    residual_2L = ((projection.pixels_P2 - found_L2) / projection.scale).T
    unbiased_2L = residual_2L - bias_L2.T
    deviation = np.linalg.norm(unbiased_2L, axis=0) / table.noise_L
    weight = huber(deviation, LANDMARK_LIMIT) * config.landmark_share / table.noise_L**2
    lost = ~np.isfinite(deviation)
    weight[lost], residual_2L[:, lost], unbiased_2L[:, lost] = 0, 0, 0
    frame = (projection.jacobian_2DP / projection.scale).transpose(1, 0, 2)
    shared = None
    if bundled:
        by_shared = shared_jacobian(points, projection, view).transpose(1, 0, 2) / projection.scale
        shared = by_shared.reshape(len(by_shared), -1).astype(np.float32)
    residual = residual_2L if bundled else unbiased_2L
    return Rows(
        residual_R=residual.ravel().astype(np.float32),
        weight_R=np.tile(weight, 2).astype(np.float32),
        frame_DR=frame.reshape(len(frame), -1),
        shared_SR=shared,
    )


@dataclass(frozen=True, kw_only=True)
class Lit:
    """The skin's points in the light of a frame. A colour is albedo x shade, all to the power of 1 / 2.2."""

    shade_P3: FloatArray
    facing_P: FloatArray  # how much each faces the camera, 0 to 1
    albedo_P3: FloatArray
    deviation_P: FloatArray  # standard deviation of the albedo


def color_rows(
    points: Points,
    projection: Projection,
    view: View,
    picture: FloatArray,
    reach: float,
    lit: Lit,
    config: TrackConfig,
    bundled: bool = False,
) -> Rows:
    """Equation 4.3: the picture's colours, their shade taken off, against the albedo. The frame's exposure is free."""
    color_P3, gradient_P23 = sample(picture, projection.pixels_P2, reach)
    residual_3P = (color_P3 / lit.shade_P3 - lit.albedo_P3).T
    residual_3P -= np.median(residual_3P, axis=1, keepdims=True)
    deviation = np.sqrt((residual_3P**2).mean(0)) / lit.deviation_P
    share = config.bundle_share if bundled else config.color_share
    weight = lit.facing_P * huber(deviation, COLOR_LIMIT) ** 2 * share / lit.deviation_P**2
    slope_23P = gradient_P23.transpose(1, 2, 0) / lit.shade_P3.T

    def by_color(pixels_2XP: FloatArray) -> FloatArray:
        return np.concatenate([pixels_2XP[0] * s + pixels_2XP[1] * t for s, t in slope_23P.transpose(1, 0, 2)], 1)

    shared = by_color(shared_jacobian(points, projection, view)) if bundled else None
    return Rows(
        residual_R=residual_3P.ravel(),
        weight_R=np.tile(weight, 3).astype(np.float32),
        frame_DR=by_color(projection.jacobian_2DP),
        shared_SR=shared,
    )


def joined(first: Rows, second: Rows) -> Rows:
    """The rows of both, with the shared unknowns' Jacobians."""
    assert first.shared_SR is not None and second.shared_SR is not None
    return Rows(
        residual_R=np.concatenate([first.residual_R, second.residual_R]),
        weight_R=np.concatenate([first.weight_R, second.weight_R]),
        frame_DR=np.concatenate([first.frame_DR, second.frame_DR], 1),
        shared_SR=np.concatenate([first.shared_SR, second.shared_SR], 1),
    )


def blurred(frame: ByteArray, sigma: float) -> FloatArray:
    """A picture [H, W, 3] in [0, 1], blurred by sigma pixels."""
    picture = frame.astype(np.float32) / 255
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma) if sigma > 0.3 else picture, np.float32)


def sample(picture: FloatArray, pixels_P2: FloatArray, reach: float = 1.0) -> tuple[FloatArray, FloatArray]:
    """Colours [P, 3] at pixel positions (pixel centres at .5), and their gradient [P, 2, 3] by central differences."""
    x, y = pixels_P2[:, 0] - 0.5, pixels_P2[:, 1] - 0.5
    columns, rows = np.stack([x, x - reach, x + reach, x, x]), np.stack([y, y, y, y - reach, y + reach])
    found = cv2.remap(picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    gradient = np.stack([found[2] - found[1], found[4] - found[3]], 1) / (2 * reach)
    return np.asarray(found[0], np.float32), np.asarray(gradient, np.float32)
