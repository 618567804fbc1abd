"""Where on the face model MediaPipe's landmarks lie: writes the table that capture tracks with.

    python -m bench landmarks --out capture/landmark_points.safetensors

Actors other than those that anything is measured with are rendered in many poses, speaking; each landmark is looked up
in the map of neutral positions and carried from the actor to the model's mean face. Kept are the median over all
renderings, mirrored and averaged; how far it scatters from rendering to rendering (noise) and from actor to actor
(bias). What slides along a silhouette scatters and is left out.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.spatial import cKDTree
from tqdm import tqdm

from capture.landmarks import POINTS, detect
from capture.morphable_model import closest_points
from dataset.phones import data_folder, load_utterances
from dataset.speech_curves import expression_curves
from realtime.arrays import Float64Array
from realtime.face.gl import create_context
from studio.actor import head_pose, identity_vertices
from studio.face_model import FaceModel, load_face_model
from studio.renderer import Studio

ACTORS = range(100, 110)
RENDERINGS = 12  # of each actor
RESTING_EVERY = 4  # renderings: a resting face
TURN = np.radians([15.0, 10.0, 5.0])  # largest yaw, pitch, roll
SHIFT = 0.5  # cm
BROWS = 0.3  # largest weight of browInnerUp
IRISES = 468  # the first point of them: no skin
LEAST_SEEN = 20  # renderings where a point fell on skin
OFF_SKIN = 0.1  # cm from the neutral face: not on it
MOST_NOISE, MOST_BIAS = 0.3, 0.25  # cm: what scatters more is left out


def render(model: FaceModel, actors: range) -> Float64Array:
    """Points on the mean face [actors, RENDERINGS, POINTS, 3], cm; NaN where a landmark fell on no skin."""
    rng = np.random.default_rng(5)
    names = model.expression_names
    spoken = [u for u in load_utterances(data_folder()) if u.corpus in ("ljspeech", "librispeech") and u.seconds < 8]
    face = model.triangles_T3[(model.triangles_T3 < model.parts["face"].stop).all(1)]
    context = create_context()
    points = np.full((len(actors), RENDERINGS, POINTS, 3), np.nan)
    for a, seed in enumerate(tqdm(actors, desc="actors")):
        studio = Studio(seed, context, model)
        actor_V3 = identity_vertices(model, seed).astype(np.float64)
        for k in range(RENDERINGS):
            utterance = spoken[rng.integers(len(spoken))]
            frames = int(utterance.seconds * 25)
            weights = expression_curves(utterance.phones, frames, names)[rng.integers(frames)]
            weights = weights * (k % RESTING_EVERY != RESTING_EVERY - 1)
            weights[[names.index("browInnerUp_L"), names.index("browInnerUp_R")]] += rng.uniform(0, BROWS)
            yaw, pitch, roll = TURN * rng.uniform(-1, 1, 3)
            dx, dy, dz = rng.uniform(-SHIFT, SHIFT, 3)
            pose = head_pose(yaw, pitch, roll, (dx, dy, dz))
            found = detect([studio.draw(weights, pose)])
            if not found.found[0]:
                continue
            neutral_HW4, _ = studio.position_maps(weights, pose)
            column, row = np.clip(found.points[0].astype(int).T, 0, len(neutral_HW4) - 1)
            at = neutral_HW4[row, column].astype(np.float64)
            on_skin = at[:, 3] > 0
            triangle, corners, distance = closest_points(at[on_skin, :3], actor_V3, face)
            mean = np.einsum("pc,pcx->px", corners, model.neutral_V3[face[triangle]].astype(np.float64))
            points[a, k, on_skin] = np.where(distance[:, None] < OFF_SKIN, mean, np.nan)
    return points


def table(points_AKL3: Float64Array, model: FaceModel) -> dict[str, NDArray[np.generic]]:
    """The tensors of landmark_points.safetensors."""
    seen = np.isfinite(points_AKL3[..., 0]).sum((0, 1))
    seen[IRISES:] = 0
    kept = np.flatnonzero(seen >= LEAST_SEEN)
    points = points_AKL3[:, :, kept]
    median_L3 = np.nanmedian(points, axis=(0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # some actors never show some landmark: NaN
        own_AL3 = np.nanmedian(points, axis=1)
        bias = np.sqrt(np.nanvar(own_AL3, axis=0).sum(-1) / 2)
        noise = np.sqrt(np.nanmean(np.nanvar(points, axis=1).sum(-1), axis=0) / 2)
    mirror = np.array([-1.0, 1.0, 1.0])
    partner = cKDTree(median_L3).query(median_L3 * mirror)[1]
    mutual = partner[partner] == np.arange(len(kept))
    centred = (median_L3 + median_L3[partner] * mirror) / 2
    bias = np.hypot(bias, np.linalg.norm(centred - median_L3, axis=1))
    bias, noise = np.maximum(bias, bias[partner]), np.maximum(noise, noise[partner])
    good = mutual & (noise < MOST_NOISE) & (bias < MOST_BIAS)
    chart = np.zeros((len(model.neutral_V3), 2), np.float32)
    chart[model.triangles_T3[::-1].ravel()] = model.uv_U2[model.uv_triangles_T3][::-1].reshape(-1, 2)
    return {
        "index": kept[good].astype(np.int32),
        "points": centred[good].astype(np.float32),
        "bias": bias[good].astype(np.float32),
        "noise": noise[good].astype(np.float32),
        "landmarks_68": model.neutral_V3[model.landmarks_68],
        "chart_68": chart[model.landmarks_68],
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="the table")


def run(o: argparse.Namespace) -> None:
    model = load_face_model()
    tensors = table(render(model, ACTORS), model)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, o.out)
    noise, bias = (10 * float(np.median(tensors[k].astype(np.float64))) for k in ("noise", "bias"))
    print(
        f"{len(tensors['index'])} landmarks, scattering by {noise:.2f} mm, meant differently by {bias:.2f} mm (medians)"
    )
