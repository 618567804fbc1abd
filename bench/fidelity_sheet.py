"""Pictures of painted frames: the truth, what was painted, the errors as heat maps, the meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from realtime.arrays import BoolArray, ByteArray, FloatArray
from training.face_maps import FaceMaps

LIGHT = np.array([0.3, 0.4, 1.0])  # object space: towards the light that meshes are shown in
HEAT = 0.15  # error (L2 of RGB in [0, 1]) of the heat map's hottest colour


def save_sheet(
    images: dict[int, ByteArray],
    painted_of: dict[str, dict[int, ByteArray]],
    meshes: list[dict[int, ByteArray]],
    frames: list[int],
    path: Path,
    regions: dict[int, BoolArray] | None = None,
) -> None:
    """Truth above, each network below with its error as a heat map, then meshes: true and predicted.

    Given `regions`, a mask [H, W] of each frame, the truth is left out, and the painted frames are black outside of it.
    """
    rows = [np.concatenate([images[f] for f in frames], 1)] if regions is None else []
    for painted in painted_of.values():
        if not painted:  # of other frames
            continue
        seen = {f: painted[f] if regions is None else painted[f] * regions[f][..., None] for f in frames}
        rows.append(np.concatenate([seen[f] for f in frames], 1))
        rows.append(np.concatenate([heat_map(painted[f], images[f]) for f in frames], 1))
    rows += [np.concatenate([mesh[f] for f in frames], 1) for mesh in meshes if mesh]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path)
    print(f"saved {path}")


def heat_map(painted: ByteArray, true: ByteArray) -> ByteArray:
    """L2 distance of RGB in [0, 1] as colour, blue is none (thesis Figures 4.3 to 4.5)."""
    from matplotlib import colormaps

    error = np.sqrt((((painted.astype(np.float64) - true) / 255) ** 2).sum(-1))
    return np.asarray(np.round(colormaps["jet"](np.clip(error / HEAT, 0, 1))[..., :3] * 255), np.uint8)


def mesh_image(maps: FaceMaps, frame: int, vertices: FloatArray) -> ByteArray:
    """A displaced mesh [V, 3] in a frame's pose, grey by the angle to the light (thesis Figure 4.7)."""
    triangles = np.asarray(maps.dataset.geometry["triangles"])
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, triangles[:, k], np.cross(b - a, c - a))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    drawn = maps.draw(frame, normals.astype(np.float32), vertices)
    grey = np.abs(drawn[..., :3] @ LIGHT / np.linalg.norm(LIGHT)) * (drawn[..., 3] > 0)
    return np.repeat(np.round(230 * grey).astype(np.uint8)[..., None], 3, 2)
