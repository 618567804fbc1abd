"""Avatar: one folder (realtime/avatar_format.py), validated on load, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import ByteArray, FloatArray, IntArray
from .avatar_format import (
    BAKED,
    GEOMETRY,
    SOURCE,
    check_hashes,
    check_indices,
    check_values,
    has_target,
    read_tensors,
)
from .avatar_json import TARGET_FILES, fault, read_info
from .camera import Camera


@dataclass(frozen=True, kw_only=True)
class Avatar:
    """A validated avatar folder in memory; the source loop's pixels stay on disk. Units: cm, pixels."""

    folder: Path
    name: str
    camera: Camera
    lookahead_samples: int
    color_input: str  # 3D point that the colour network sees: "canonical" or "deformed"
    composition: str
    composition_size: int  # side of the square that the inpaint box is resampled to, pixels
    template: FloatArray  # [V, 3] neutral
    canonical: FloatArray  # [V, 3] lips parted
    triangles: IntArray  # [F, 3]
    uv: FloatArray  # [V, 2]
    regions: FloatArray  # [5, V], contract.REGIONS
    landmark_triangles: IntArray  # [68]
    landmark_barycentrics: FloatArray  # [68, 3]
    box: FloatArray  # [2, 3] corners that networks see as -1 and 1
    rest_latent: FloatArray  # [64]
    source_pose: FloatArray  # [M, 4, 4]
    source_box: IntArray  # [M, 4]: left, top, right, bottom, pixels; the same size in all frames
    source_mask: ByteArray  # [M, B, B]: how much of the box is painted, 255 is all
    targets: tuple[str, ...]  # whose files are there, of "baked", "onnx" and "tensorrt"
    info: dict[str, Any]  # avatar.json, as this version of the format has it

    @property
    def width(self) -> int:
        return self.camera.width

    @property
    def height(self) -> int:
        return self.camera.height

    @property
    def sample(self) -> Path:
        return self.file("sample.flac")

    def file(self, name: str) -> Path:
        """One file of the folder, of those that were checked: avatar.json lists it, for every target or one that is
        offered. Raises MiravoxError for another, even if it is there.
        """
        if name in self.info["files"] or any(name in self.info["targets"][target] for target in self.targets):
            return self.folder / name
        raise fault(self.folder / name, "a file that avatar.json does not list", "one whose hash is known")

    @property
    def marking(self) -> str:
        """What everybody must be told who sees the avatar: that it is synthetic, and whose consent there is."""
        return f"Synthetic: {self.name} is an avatar, what it says was never filmed. Consent: {self.info['consent']}."

    def scale(self, points: FloatArray) -> FloatArray:
        """Object space -> the networks' [-1, 1]."""
        low, high = self.box
        return np.asarray((points - low) / (high - low) * 2 - 1, np.float32)

    def landmarks(self, vertices: FloatArray) -> FloatArray:
        """The 68 landmarks [68, 3] on displaced vertices [V, 3]."""
        corners = vertices[self.triangles[self.landmark_triangles]]
        return np.asarray(np.einsum("lk,lkx->lx", self.landmark_barycentrics, corners), np.float32)


def load_avatar(folder: Path) -> Avatar:
    """Reads and validates an avatar folder.

    Raises MiravoxError naming the file, what was found, what was wanted and the remedy.
    """
    info = read_info(folder / "avatar.json")
    check_hashes(folder, info["files"])
    targets = tuple(name for name in TARGET_FILES if has_target(folder, info, name))
    geometry = read_tensors(folder / "geometry.safetensors", GEOMETRY)
    source = read_tensors(folder / "source.safetensors", SOURCE)
    check_values(folder, geometry, source, info)
    if "baked" in targets:
        path = folder / "targets" / "baked" / "baked.safetensors"
        baked = read_tensors(path, BAKED)
        check_indices(path, "triangles", baked["triangles"], len(baked["positions"]))
    return Avatar(
        folder=folder,
        name=info["name"],
        camera=Camera(**info["camera"], width=info["width"], height=info["height"]),
        lookahead_samples=info["lookahead_samples"],
        color_input=info["color_input"],
        composition=info["composition"],
        composition_size=info["composition_size"],
        template=geometry["template"],
        canonical=geometry["canonical"],
        triangles=geometry["triangles"],
        uv=geometry["uv"],
        regions=geometry["regions"],
        landmark_triangles=geometry["landmark_triangles"],
        landmark_barycentrics=geometry["landmark_barycentrics"],
        box=geometry["box"],
        rest_latent=geometry["rest_latent"],
        source_pose=source["pose"],
        source_box=source["box"],
        source_mask=source["mask"],
        targets=targets,
        info=info,
    )
