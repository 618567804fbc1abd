"""Gauss-Newton steps of the tracking energy: of keyframes with what they share, and of consecutive frames.

Shape letters: N frames, K keyframes, I identity modes, C expression shapes, D = 6 + C unknowns of a frame, S = I + 1
shared unknowns, R rows of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solveh_banded

from capture.energy import POSE, Pose, Rows, TrackConfig, View, huber
from capture.morphable_model import MorphableModel
from realtime.arrays import Float64Array

BEYOND_RANGE = 0.02  # deviation of how far a shape's weight lies outside its range
DAMPING = 1e-4
MOST_ZOOM = 0.2  # greatest step of the focal length's logarithm


@dataclass
class State:
    """Everything that is solved for, of a whole video."""

    alpha_I: Float64Array
    view: View
    poses: list[Pose]
    delta_NC: Float64Array


def expression_prior(
    model: MorphableModel, config: TrackConfig, delta_C: NDArray[np.floating]
) -> tuple[Float64Array, Float64Array]:
    """E_reg of a frame: precision and gradient [C]. Near zero, and hardly outside the shapes' range."""
    low, high = model.expression_range_C2.T.astype(np.float64)
    beyond = delta_C - np.clip(delta_C, low, high)
    precision = config.expression**-2 + np.where(beyond != 0, BEYOND_RANGE**-2, 0.0)
    gradient = config.expression**-2 * delta_C + BEYOND_RANGE**-2 * beyond
    return np.asarray(precision, np.float64), np.asarray(gradient, np.float64)


def bundle_step(
    rows_K: Sequence[Rows],
    constant_precision_R: NDArray[np.floating],
    state: State,
    keys: Sequence[int],
    model: MorphableModel,
    config: TrackConfig,
    focal_start: float,
) -> tuple[Float64Array, float]:
    """One step of identity, camera and the frames `keys` together.

    Each row has a constant of its own, the same in all frames, with a prior of that precision: how differently a
    landmark is meant, which colour a point of the skin has. The constants are eliminated, so a hundred frames do not
    outvote the identity's prior with one and the same mistake.

    Returns:
        The constants [R], and the greatest change of an identity weight.
    """
    modes = len(state.alpha_I)
    shared, frame = modes + 1, POSE + state.delta_NC.shape[1]
    size = shared + frame * len(keys)
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    coupling = np.zeros((size, len(constant_precision_R)), np.float32)  # of every unknown with the constants
    total, mean = np.zeros(len(constant_precision_R)), np.zeros(len(constant_precision_R))
    for k, (key, rows) in enumerate(zip(keys, rows_K, strict=True)):
        assert rows.shared_SR is not None
        own = slice(shared + k * frame, shared + (k + 1) * frame)
        by_frame, by_shared = rows.frame_DR * rows.weight_R, rows.shared_SR * rows.weight_R
        hessian[own, own] = by_frame @ rows.frame_DR.T
        hessian[own, :shared] = by_frame @ rows.shared_SR.T
        hessian[:shared, own] = hessian[own, :shared].T
        hessian[:shared, :shared] += by_shared @ rows.shared_SR.T
        gradient[own] = by_frame @ rows.residual_R
        gradient[:shared] += by_shared @ rows.residual_R
        coupling[own], coupling[:shared] = by_frame, coupling[:shared] + by_shared
        total += rows.weight_R
        mean += rows.weight_R * rows.residual_R
        precision, slope = expression_prior(model, config, state.delta_NC[key])
        at = np.arange(own.start + POSE, own.stop)
        hessian[at, at] += precision
        gradient[at] += slope
    known = 1 / (total + constant_precision_R + 1e-9)
    hessian -= (coupling * known.astype(np.float32)) @ coupling.T
    gradient -= coupling @ (mean * known)
    at = np.arange(modes)
    hessian[at, at] += 1  # a mode's unit is its standard deviation
    gradient[:modes] += state.alpha_I
    hessian[modes, modes] += config.focal**-2
    gradient[modes] += np.log(state.view.focal / focal_start) * config.focal**-2
    at = np.arange(size)
    hessian[at, at] = hessian[at, at] * (1 + DAMPING) + 1e-6
    step = -cho_solve(cho_factor(hessian, overwrite_a=True), gradient)

    state.alpha_I = state.alpha_I + step[:modes]
    zoom = np.exp(np.clip(step[modes], -MOST_ZOOM, MOST_ZOOM))
    state.view = replace(state.view, focal=float(state.view.focal * zoom))
    for k, key in enumerate(keys):
        move = step[shared + k * frame : shared + (k + 1) * frame]
        state.poses[key] = state.poses[key].moved(move)
        state.delta_NC[key] += move[POSE:]
    return (mean + coupling.T @ step) * known, float(np.abs(step[:modes]).max())


def smooth_step(
    hessian_NDD: Float64Array,
    gradient_ND: Float64Array,
    value_ND: Float64Array,
    change_D: Float64Array,
    held: int = 0,
) -> Float64Array:
    """One step [N, D] of consecutive frames together, a prior on the second difference of their unknowns added.

    change_D: its standard deviation; what is far beyond it (a mouth that snaps shut) is held less. The first `held`
    frames stay as they are.
    """
    frames, unknowns = gradient_ND.shape
    hessian, gradient = hessian_NDD.copy(), gradient_ND.copy()
    at = np.arange(unknowns)
    next_ND, next_but_one_ND = np.zeros((frames, unknowns)), np.zeros((frames, unknowns))
    if frames > 2:
        bend = value_ND[:-2] - 2 * value_ND[1:-1] + value_ND[2:]
        weight = huber(bend / change_D, 1.0).astype(np.float64) / change_D**2
        for offset, factor in ((0, 1.0), (1, -2.0), (2, 1.0)):
            span = slice(offset, frames - 2 + offset)
            hessian[span, at, at] += factor**2 * weight
            gradient[span] += factor * weight * bend
        next_ND[:-2] -= 2 * weight
        next_ND[1:-1] -= 2 * weight
        next_but_one_ND[:-2] += weight
    hessian[:held, at, at] += 1e9
    hessian[:, at, at] += 1e-6
    banded = np.zeros((2 * unknowns + 1, frames, unknowns))  # lower diagonals, LAPACK's layout
    for below in range(unknowns):
        banded[below, :, : unknowns - below] = np.diagonal(hessian, -below, 1, 2)
    banded[unknowns], banded[2 * unknowns] = next_ND, next_but_one_ND
    flat = banded.reshape(2 * unknowns + 1, -1)
    step = solveh_banded(flat, -gradient.ravel(), lower=True, overwrite_ab=True, check_finite=False)
    return np.asarray(step.reshape(frames, unknowns), np.float64)
