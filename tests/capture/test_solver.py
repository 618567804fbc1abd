"""Gauss-Newton steps, against dense solvers and known truths."""

from __future__ import annotations

import numpy as np

from capture.energy import POSE, Rows, TrackConfig
from capture.morphable_model import MorphableModel
from capture.solver import State, bundle_step, expression_prior, smooth_step
from tests.capture.conftest import POSE_AT, VIEW


def test_frames_are_solved_together_as_a_dense_solver_would() -> None:
    rng = np.random.default_rng(2)
    frames, unknowns = 7, 4
    roots = rng.normal(size=(frames, unknowns, unknowns))
    hessian = roots @ roots.transpose(0, 2, 1) + np.eye(unknowns)
    gradient, value = rng.normal(size=(2, frames, unknowns))
    change = np.full(unknowns, 100.0)  # everything is far below it: all weights are one
    second = np.zeros((frames - 2, frames))
    for k in range(frames - 2):
        second[k, k : k + 3] = 1, -2, 1
    prior = np.kron(second.T @ second, np.eye(unknowns)) / change[0] ** 2
    dense = prior.copy()
    for k in range(frames):
        dense[k * unknowns : (k + 1) * unknowns, k * unknowns : (k + 1) * unknowns] += hessian[k]
    wanted = -np.linalg.solve(dense, gradient.ravel() + prior @ value.ravel()).reshape(frames, unknowns)
    assert np.allclose(smooth_step(hessian, gradient, value, change), wanted, atol=1e-4)
    held = smooth_step(hessian, gradient, value, change, held=2)
    assert np.abs(held[:2]).max() < 1e-6 and np.abs(held[2:]).max() > 1e-2


def test_smoothing_takes_noise_off_and_leaves_a_jump() -> None:
    rng = np.random.default_rng(3)
    truth = np.where(np.arange(40) < 20, 0.0, 1.0)[:, None]  # lips that snap shut
    measured = truth + rng.normal(size=truth.shape) * 0.02
    precision = np.full((40, 1, 1), 0.02**-2)
    value = measured.copy()
    for _ in range(8):
        value += smooth_step(precision, precision[:, :, 0] * (value - measured), value, np.array([0.005]))
    assert np.abs(value - truth)[[*range(17), *range(23, 40)]].mean() < 0.6 * np.abs(measured - truth).mean()
    assert value[22, 0] - value[17, 0] > 0.85


def test_what_all_frames_have_in_common_is_eliminated(model: MorphableModel) -> None:
    """A bundle step equals that of a system in which every row's constant is an unknown of its own."""
    rng = np.random.default_rng(4)
    shapes, modes, rows_count, keys = len(model.expression_names), 3, 90, [0, 1]
    rows = [
        Rows(
            residual_R=rng.normal(size=rows_count).astype(np.float32),
            weight_R=rng.uniform(0.5, 2, rows_count).astype(np.float32),
            frame_DR=rng.normal(size=(POSE + shapes, rows_count)).astype(np.float32),
            shared_SR=rng.normal(size=(modes + 1, rows_count)).astype(np.float32),
        )
        for _ in keys
    ]
    config, free = TrackConfig(modes=modes), rng.uniform(0.5, 2, rows_count)
    state = State(np.zeros(modes), VIEW, [POSE_AT] * 2, np.zeros((2, shapes)))
    frame, shared = POSE + shapes, modes + 1
    size = shared + 2 * frame + rows_count
    dense, right = np.zeros((size, size)), np.zeros(size)
    for k, r in enumerate(rows):
        assert r.shared_SR is not None
        jacobian = np.zeros((size, rows_count))
        jacobian[:shared], jacobian[shared + k * frame : shared + (k + 1) * frame] = r.shared_SR, r.frame_DR
        jacobian[-rows_count:] = -np.eye(rows_count)
        dense += (jacobian * r.weight_R) @ jacobian.T
        right += (jacobian * r.weight_R) @ r.residual_R
    precision, _ = expression_prior(model, config, np.zeros(shapes))
    prior = np.concatenate([np.ones(modes), [config.focal**-2], *[[0.0] * POSE, precision] * 2])
    dense[np.arange(len(prior)), np.arange(len(prior))] += prior
    dense[-rows_count:, -rows_count:] += np.diag(free)
    wanted = -np.linalg.solve(dense, right)
    constants, _ = bundle_step(rows, free, state, keys, model, config, VIEW.focal)
    assert np.allclose(state.alpha_I, wanted[:modes], atol=2e-3)
    assert np.allclose(state.delta_NC[1], wanted[shared + frame + POSE : shared + 2 * frame], atol=2e-3)
    assert np.allclose(constants, wanted[-rows_count:], atol=5e-3)


def test_weights_outside_their_range_are_held_back(model: MorphableModel) -> None:
    delta = np.array([-0.2, 0.5, 1.3] + [0.0] * (len(model.expression_names) - 3))
    precision, gradient = expression_prior(model, TrackConfig(), delta)
    assert precision[0] > 100 * precision[1] and precision[2] > 100 * precision[1]
    assert gradient[0] < 0 < gradient[1] < gradient[2]
