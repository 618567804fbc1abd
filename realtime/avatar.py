"""Avatar: one folder, validated on load (hashes, versions, shapes, dtypes, ranges). Loads without torch.

avatar.json            what the avatar is; SHA-256 of every other file; unknown keys are an error
networks.safetensors   the reference weights, float16
geometry.safetensors   template, triangles, UV, regions, landmarks, box, rest latent
source.mp4             source loop, unrolled, all-intra
source.safetensors     pose, inpaint box and inpaint mask of each of its frames
sample.flac            a sample recording
targets/onnx/*.onnx    the networks as they are
targets/tensorrt/*.onnx  the networks in float16, what plans for a GPU are built from
targets/baked/*        the baked textures and the network of their coefficients
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from networks.contract import EMBEDDINGS, FRAME_RATE, LATENT, LOOKAHEAD_STEP, REGIONS
from realtime.errors import MiravoxError
from realtime.rasteriser import Camera

T = TypeVar("T")

FORMAT_VERSION = 1
KEYS = frozenset(
    {
        "format_version", "name", "width", "height", "frame_rate", "window_embeddings", "lookahead_samples", "camera",
        "color_input", "frequencies", "composition", "composition_size", "provenance", "consent", "licence", "fidelity",
        "files",
    }
)  # fmt: skip
REMEDY = "Get the avatar again, or pack it again with `python -m export`."

# name: (dtype, shape); V vertices, F triangles, M source frames and B, the mask's side, are free but must agree.
GEOMETRY: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "template": ("float32", ("V", 3)),
    "canonical": ("float32", ("V", 3)),
    "triangles": ("int32", ("F", 3)),
    "uv": ("float32", ("V", 2)),
    "grid": ("int32", (2,)),
    "regions": ("float32", (len(REGIONS), "V")),
    "landmark_triangles": ("int32", (68,)),
    "landmark_barycentrics": ("float32", (68, 3)),
    "box": ("float32", (2, 3)),
    "rest_latent": ("float32", (LATENT,)),
}
SOURCE: dict[str, tuple[str, tuple[int | str, ...]]] = {
    "pose": ("float32", ("M", 4, 4)),
    "box": ("int32", ("M", 4)),
    "mask": ("uint8", ("M", "B", "B")),
}
BAKED: dict[str, tuple[str, tuple[int | str, ...]]] = {  # P vertices, D and C components, texels h x w and H x W
    "positions": ("float32", ("P", 3)),
    "uv": ("float32", ("P", 2)),
    "triangles": ("int32", ("F", 3)),
    "displacement_components": ("float16", ("D", "P", 3)),
    "color_mean": ("float16", ("H", "W", 3)),
    "color_components": ("float16", ("C", "h", "w", 3)),
}
NEEDED = (
    "geometry.safetensors", "networks.safetensors", "source.safetensors", "source.mp4",
    *(f"targets/onnx/{name}.onnx" for name in ("audio_encoder", "projection", "composition")),
)  # fmt: skip


@dataclass(frozen=True)
class Avatar:
    """A validated avatar folder in memory; the source loop's pixels stay on disk. Units: cm, pixels."""

    folder: Path
    name: str
    camera: Camera
    lookahead_samples: int
    color_input: str  # 3D point that the colour network sees: "canonical" or "deformed"
    composition: str
    composition_size: int  # side of the square that the inpaint box is resampled to, pixels
    template: NDArray[np.float32]  # [V, 3] neutral
    canonical: NDArray[np.float32]  # [V, 3] lips parted
    triangles: NDArray[np.int32]  # [F, 3]
    uv: NDArray[np.float32]  # [V, 2]
    regions: NDArray[np.float32]  # [5, V], contract.REGIONS
    landmark_triangles: NDArray[np.int32]  # [68]
    landmark_barycentrics: NDArray[np.float32]  # [68, 3]
    box: NDArray[np.float32]  # [2, 3] corners that networks see as -1 and 1
    rest_latent: NDArray[np.float32]  # [64]
    source_pose: NDArray[np.float32]  # [M, 4, 4]
    source_box: NDArray[np.int32]  # [M, 4]: left, top, right, bottom, pixels; the same size in all frames
    source_mask: NDArray[np.uint8]  # [M, B, B]: how much of the box is painted, 255 is all
    info: dict[str, Any]  # avatar.json
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _making: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` returned when it was first asked for by that name: networks and textures that nobody changes, of
        which many sessions on many threads need no more than one copy. That spares memory, and the cores' caches.
        """
        with self._making:
            if name not in self._made:
                self._made[name] = make()
            made: T = self._made[name]
            return made

    @property
    def width(self) -> int:
        return self.camera.width

    @property
    def height(self) -> int:
        return self.camera.height

    @property
    def sample(self) -> Path:
        return self.folder / "sample.flac"

    @property
    def marking(self) -> str:
        """What everybody must be told who sees the avatar: that it is synthetic, and whose consent there is."""
        return f"Synthetic: {self.name} is an avatar, what it says was never filmed. Consent: {self.info['consent']}."

    @property
    def targets(self) -> tuple[str, ...]:
        """What the avatar is exported for."""
        return tuple(t for t in ("baked", "onnx", "tensorrt") if (self.folder / "targets" / t).is_dir())

    def scale(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Object space -> the networks' [-1, 1]."""
        low, high = self.box
        return np.asarray((points - low) / (high - low) * 2 - 1, np.float32)

    def landmarks(self, vertices: NDArray[np.float32]) -> NDArray[np.float32]:
        """The 68 landmarks [68, 3] on displaced vertices [V, 3]."""
        corners = vertices[self.triangles[self.landmark_triangles]]
        return np.asarray(np.einsum("lk,lkx->lx", self.landmark_barycentrics, corners), np.float32)


def load_avatar(folder: Path) -> Avatar:
    """Reads and validates an avatar folder.

    Raises MiravoxError naming the file, what was found, what was wanted and the remedy.
    """
    info = _read_info(folder / "avatar.json")
    _check_files(folder, info)
    geometry = _read_tensors(folder / "geometry.safetensors", GEOMETRY)
    source = _read_tensors(folder / "source.safetensors", SOURCE)
    _check_values(folder, geometry, source, info)
    if (folder / "targets" / "baked").is_dir():
        _read_tensors(folder / "targets" / "baked" / "baked.safetensors", BAKED)
    camera = Camera(**info["camera"], width=info["width"], height=info["height"])
    return Avatar(
        folder, info["name"], camera, info["lookahead_samples"], info["color_input"], info["composition"],
        info["composition_size"], geometry["template"], geometry["canonical"], geometry["triangles"], geometry["uv"],
        geometry["regions"], geometry["landmark_triangles"], geometry["landmark_barycentrics"], geometry["box"],
        geometry["rest_latent"], source["pose"], source["box"], source["mask"], info,
    )  # fmt: skip


def sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _fault(path: Path, found: str, wanted: str, remedy: str = REMEDY) -> MiravoxError:
    return MiravoxError(str(path), found=found, wanted=wanted, remedy=remedy)


def _read_info(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise _fault(path, "no such file", "an avatar folder with avatar.json", "Check --avatar.")
    try:
        info = json.loads(path.read_text())
    except ValueError as error:
        raise _fault(path, f"text that is not JSON ({error})", "JSON") from error
    if not isinstance(info, dict):
        raise _fault(path, f"a JSON {type(info).__name__}", "a JSON object")
    version = info.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        remedy = "Update Miravox." if newer else REMEDY
        raise _fault(path, f"format version {version}", f"format version {FORMAT_VERSION}", remedy)
    if unknown := sorted(set(info) - KEYS):
        raise _fault(path, f"unknown key {unknown[0]!r}", f"only {', '.join(sorted(KEYS))}")
    if missing := sorted(KEYS - set(info)):
        raise _fault(path, f"no key {missing[0]!r}", "every key of the format")
    fixed = {"frame_rate": FRAME_RATE, "window_embeddings": EMBEDDINGS}
    for key, value in fixed.items():
        if info[key] != value:
            raise _fault(path, f"{key} = {info[key]!r}", f"{key} = {value}")
    lookahead = info["lookahead_samples"]
    if not isinstance(lookahead, int) or lookahead < 0 or lookahead % LOOKAHEAD_STEP:
        raise _fault(path, f"lookahead_samples = {lookahead!r}", f"a multiple of {LOOKAHEAD_STEP}, 0 or more")
    if info["color_input"] not in ("canonical", "deformed"):
        raise _fault(path, f"color_input = {info['color_input']!r}", "canonical or deformed")
    numbers = ("fx", "fy", "cx", "cy")
    camera = info["camera"]
    if not isinstance(camera, dict) or set(camera) != set(numbers):
        raise _fault(path, f"camera = {camera!r}", f"an object with {', '.join(numbers)}")
    return info


def _check_files(folder: Path, info: dict[str, Any]) -> None:
    for name, wanted in info["files"].items():
        path = folder / name
        if not path.is_file():
            raise _fault(path, "no such file", "every file that avatar.json lists")
        if (found := sha256(path)) != wanted:
            raise _fault(path, f"SHA-256 {found[:16]}...", f"{wanted[:16]}..., as avatar.json says")
    if missing := [n for n in NEEDED if n not in info["files"]]:
        raise _fault(folder / "avatar.json", f"no hash for {missing[0]}", "a hash of every file")


def _read_tensors(path: Path, wanted: dict[str, tuple[str, tuple[int | str, ...]]]) -> dict[str, NDArray[Any]]:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _fault(path, f"a file that is not safetensors ({error})", "safetensors") from error
    if set(tensors) != set(wanted):
        odd = sorted(set(tensors) ^ set(wanted))[0]
        raise _fault(path, f"{'no' if odd in wanted else 'unknown'} tensor {odd!r}", f"the tensors {', '.join(wanted)}")
    extents: dict[str, int] = {}
    for name, (dtype, shape) in wanted.items():
        found = tensors[name]
        fits = found.dtype == dtype and found.ndim == len(shape)
        for extent, want in zip(found.shape, shape, strict=False):
            fits = fits and extent == (extents.setdefault(want, extent) if isinstance(want, str) else want)
        if not fits:
            words = ", ".join(str(extents.get(w, w)) if isinstance(w, str) else str(w) for w in shape)
            raise _fault(path, f"{name} as {found.dtype} {list(found.shape)}", f"{dtype} [{words}]")
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise _fault(path, f"{name} with values that are not finite", "finite numbers")
    return tensors


def _check_values(
    folder: Path, geometry: dict[str, NDArray[Any]], source: dict[str, NDArray[Any]], info: dict[str, Any]
) -> None:
    path = folder / "geometry.safetensors"
    vertices = len(geometry["template"])
    for name, limit in (("triangles", vertices), ("landmark_triangles", len(geometry["triangles"]))):
        low, high = int(geometry[name].min()), int(geometry[name].max())
        if low < 0 or high >= limit:
            raise _fault(path, f"{name} from {low} to {high}", f"indices from 0 to {limit - 1}")
    if (geometry["box"][1] <= geometry["box"][0]).any():
        raise _fault(path, f"box {geometry['box'].tolist()}", "a lower and an upper corner")
    boxes = source["box"]
    sizes = boxes[:, 2:] - boxes[:, :2]
    inside = (
        (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= info["width"]).all() and (boxes[:, 3] <= info["height"]).all()
    )
    if not inside or (sizes <= 0).any() or (sizes != sizes[0]).any():
        raise _fault(
            folder / "source.safetensors", "inpaint boxes that leave the frame or differ in size", "equal boxes inside"
        )
