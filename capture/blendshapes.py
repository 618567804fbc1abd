"""MediaPipe's blendshape scores as weights of a face model's expression shapes: where tracking starts from."""

from __future__ import annotations

import numpy as np

from realtime.arrays import Float64Array, FloatArray

# The order of its scores.
BLENDSHAPE_NAMES = (
    "_neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft "
    "cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight "
    "eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft "
    "eyeWideRight jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft "
    "mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight "
    "mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft "
    "mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft "
    "noseSneerRight"
).split()
ONE_SCORE = ("browInnerUp", "cheekPuff")  # of both sides


def expressions_of_blendshapes(scores_NX: FloatArray, names: tuple[str, ...]) -> Float64Array:
    """MediaPipe's blendshape scores as weights of a model's shapes with ARKit's names [N, C]; 0 for others and NaN."""
    column = {name: c for c, name in enumerate(BLENDSHAPE_NAMES)}
    weights = np.zeros((len(scores_NX), len(names)))
    for c, name in enumerate(names):
        bare = name.removesuffix("_L").removesuffix("_R")
        sided = bare + ("Left" if name.endswith("_L") else "Right" if name.endswith("_R") else "")
        if sided in column:
            weights[:, c] = scores_NX[:, column[sided]]
        elif bare in ONE_SCORE:
            weights[:, c] = scores_NX[:, column[bare]]
    return np.nan_to_num(weights)
