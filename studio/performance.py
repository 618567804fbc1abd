"""What the actor does besides speaking: head motion, blinks, brows, gaze. Everything follows from a seed.

Shape letters: F frames, C expression channels of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from realtime.arrays import Float64Array, FloatArray
from realtime.contract import FRAME_RATE, SAMPLES_PER_FRAME
from studio.actor import head_pose

YAW, PITCH, ROLL = np.radians([8.0, 4.0, 2.0])  # largest head turns while speaking
SHIFT = np.array([0.5, 0.25, 0.5])  # cm, largest translations
STILL = 3 / 8  # share of all motion in the silent source take: yaw within 3 degrees
SWAY = 0.75  # s, standard deviation of the low-pass filter on head motion
NOD = np.radians(1.3)  # pitch that the loudest syllables add
BLINK_GAP = 2.0, 6.0  # s between blinks
BLINK_LENGTH = 0.15, 0.25  # s
SACCADE_GAP = 0.7, 2.6  # s
SACCADE = np.radians([3.0, 1.6])  # standard deviation of where the eyes rest, yaw and pitch
FULL_LOOK = np.radians([30.0, 25.0])  # eye turn at which the lids' look shapes are 1, yaw and pitch
LIDS_AT_REST = 0.04  # weight of eyeWide that keeps the eyes awake


@dataclass(frozen=True)
class Performance:
    """Head pose (object to camera), eyes (yaw, pitch; radians in the head's frame) and eye and brow weights."""

    pose_F44: FloatArray
    gaze_F2: FloatArray
    expression_FC: FloatArray


def loudness(speech_S: FloatArray) -> Float64Array:
    """Root mean square of the speech around each frame [F], scaled so that its loud tenth is 1; zeros for silence."""
    frames = len(speech_S) // SAMPLES_PER_FRAME
    level = np.sqrt((speech_S[: frames * SAMPLES_PER_FRAME].reshape(frames, -1).astype(np.float64) ** 2).mean(1))
    loud = np.quantile(level, 0.9) if frames else 0.0
    return np.clip(gaussian_filter1d(level, 2.0) / loud, 0, 1.5) if loud > 1e-4 else np.zeros(frames)


def perform(loudness_F: Float64Array, seed: int, model_names: tuple[str, ...], still: bool = False) -> Performance:
    """Motion for as many frames as there are loudness values. `still` keeps it small, for the source take."""
    rng = np.random.default_rng(seed)
    frames = len(loudness_F)
    share = STILL if still else 1.0
    yaw, pitch, roll, dx, dy, dz = (_drift(rng, frames) * share for _ in range(6))
    emphasis = loudness_F - gaussian_filter1d(loudness_F, 1.2 * FRAME_RATE)
    yaw, roll = YAW * yaw, ROLL * roll
    pitch = np.clip(PITCH * 0.8 * pitch + NOD * emphasis, -PITCH, PITCH)
    # A head that turns leans a little towards where it turns.
    shift = np.stack([dx, dy, dz], -1) * SHIFT + np.stack([yaw / YAW * 0.25, np.zeros(frames), np.zeros(frames)], -1)
    pose = (
        np.stack([head_pose(y, p, r, (s[0], s[1], s[2])) for y, p, r, s in zip(yaw, pitch, roll, shift, strict=True)])
        if frames
        else np.zeros((0, 4, 4))
    )

    # The eyes hold the camera while the head turns, and wander a little from it.
    gaze = _fixations(rng, frames) * (0.6 if still else 1.0) - np.stack([yaw, pitch], -1)
    gaze = np.clip(gaze, -FULL_LOOK * 0.6, FULL_LOOK * 0.6)
    expression = np.zeros((frames, len(model_names)))
    column = {name: c for c, name in enumerate(model_names)}
    look_yaw, look_pitch = (gaze / FULL_LOOK).T
    for side, outwards in (("L", 1.0), ("R", -1.0)):
        expression[:, column[f"eyeLookOut_{side}"]] = np.maximum(look_yaw * outwards, 0)
        expression[:, column[f"eyeLookIn_{side}"]] = np.maximum(-look_yaw * outwards, 0)
        expression[:, column[f"eyeLookDown_{side}"]] = np.maximum(look_pitch, 0)
        expression[:, column[f"eyeLookUp_{side}"]] = np.maximum(-look_pitch, 0)
    blink = _blinks(rng, frames)
    raised = np.clip(gaussian_filter1d(np.maximum(emphasis, 0), 3.0) * 0.9, 0, 0.5) + 0.10 * share * np.abs(
        _drift(rng, frames)
    )
    for side in ("L", "R"):
        expression[:, column[f"eyeBlink_{side}"]] = blink
        expression[:, column[f"eyeWide_{side}"]] = LIDS_AT_REST * (1 - blink)
        expression[:, column[f"browInnerUp_{side}"]] = raised
        expression[:, column[f"browOuterUp_{side}"]] = 0.6 * raised
    return Performance(pose.astype(np.float32), gaze.astype(np.float32), expression.astype(np.float32))


def _drift(rng: np.random.Generator, frames: int) -> Float64Array:
    """Smooth random motion [F] within [-1, 1], standard deviation about 0.45."""
    margin = int(4 * SWAY * FRAME_RATE)
    noise = gaussian_filter1d(rng.normal(size=frames + 2 * margin), SWAY * FRAME_RATE)
    noise *= np.sqrt(2 * np.sqrt(np.pi) * SWAY * FRAME_RATE)  # unit variance again
    return np.asarray(np.tanh(0.5 * noise[margin : margin + frames]))


def _blinks(rng: np.random.Generator, frames: int) -> Float64Array:
    """Weight of eyeBlink [F]: quick to close, slower to open."""
    time = np.arange(frames) / FRAME_RATE
    closed = np.zeros(frames)
    at = rng.uniform(0.8, 3.0)
    while at < frames / FRAME_RATE:
        length = rng.uniform(*BLINK_LENGTH)
        peak = at + 0.38 * length
        away = np.where(time < peak, (peak - time) / (0.38 * length), (time - peak) / (0.62 * length))
        closed = np.maximum(closed, np.clip(1.25 * (0.5 + 0.5 * np.cos(np.pi * np.clip(away, 0, 1))), 0, 1))
        at += rng.uniform(*BLINK_GAP)
    return closed


def _fixations(rng: np.random.Generator, frames: int) -> Float64Array:
    """Where the eyes rest relative to the camera [F, 2], radians: steps that take about two frames."""
    target = np.zeros((frames, 2))
    at = 0
    while at < frames:
        hold = int(rng.uniform(*SACCADE_GAP) * FRAME_RATE)
        # Every other fixation is on the camera itself.
        target[at : at + hold] = rng.normal(size=2) * SACCADE * (rng.random() < 0.5)
        at += hold
    return np.asarray(gaussian_filter1d(target, 0.6, axis=0, mode="nearest"))
