"""The format of an avatar's folder: what must be in it, and the checks that say so.

avatar.json            what the avatar is; SHA-256 of every other file; unknown keys are an error
networks.safetensors   the reference weights, float16
geometry.safetensors   template, triangles, UV, regions, landmarks, box, rest latent
source.mp4             source loop, unrolled, all-intra
source.safetensors     pose, inpaint box and inpaint mask of each of its frames
sample.flac            a sample recording
targets/onnx/*.onnx    the networks as they are; the targets baked and onnx share those of speech and composition
targets/tensorrt/*.onnx  the networks in float16, what plans for a GPU are built from
targets/baked/*        the baked textures and the network of their coefficients

The hashes in avatar.json are grouped: `files` are needed whatever renders, `targets` holds those that one target needs
besides. A target of which every file is there is offered, one of which no file is there is not, and one of which some
are missing is an error. So a folder without its GPU files is a valid avatar.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from .contract import EMBEDDINGS, FRAME_RATE, LATENT, LOOKAHEAD_STEP, PLAN_NETWORKS, REGIONS
from .errors import MiravoxError

FORMAT_VERSION = 2  # 1 had all hashes in `files`; it still loads
KEYS = frozenset(
    "format_version name width height frame_rate window_embeddings lookahead_samples camera color_input frequencies "
    "composition composition_size provenance consent licence fidelity files targets".split()
)
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
COMMON_FILES = (
    "geometry.safetensors",
    "networks.safetensors",
    "source.safetensors",
    "source.mp4",
    *(f"targets/onnx/{name}.onnx" for name in ("audio_encoder", "projection", "composition")),
)
TARGET_FILES = {  # what each target needs besides
    "baked": ("targets/baked/baked.safetensors", "targets/baked/coefficients.onnx"),
    "onnx": ("targets/onnx/color.onnx", "targets/onnx/deformation.onnx"),
    "tensorrt": tuple(f"targets/tensorrt/{network.name}.onnx" for network in PLAN_NETWORKS),
}


def read_info(path: Path) -> dict[str, Any]:
    """avatar.json, checked, as FORMAT_VERSION has it. Raises MiravoxError."""
    if not path.is_file():
        raise _fault(path, "no such file", "an avatar folder with avatar.json", "Check --avatar.")
    try:
        info = json.loads(path.read_text())
    except ValueError as error:
        raise _fault(path, f"text that is not JSON ({error})", "JSON") from error
    if not isinstance(info, dict):
        raise _fault(path, f"a JSON {type(info).__name__}", "a JSON object")
    version = info.get("format_version")
    if version not in (1, FORMAT_VERSION):
        newer = isinstance(version, int) and version > FORMAT_VERSION
        remedy = "Update Miravox." if newer else REMEDY
        raise _fault(path, f"format version {version}", f"format version 1 or {FORMAT_VERSION}", remedy)
    keys = KEYS - {"targets"} if version == 1 else KEYS
    if unknown := sorted(set(info) - keys):
        raise _fault(path, f"unknown key {unknown[0]!r}", f"only {', '.join(sorted(keys))}")
    if missing := sorted(keys - set(info)):
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
    _check_group(path, info, "files", COMMON_FILES)
    if version == 1:
        info = {**info, "format_version": FORMAT_VERSION, **_grouped(info["files"])}
    targets = info["targets"]
    if not isinstance(targets, dict) or set(targets) - set(TARGET_FILES):
        found = repr(sorted(targets) if isinstance(targets, dict) else targets)
        raise _fault(path, f"targets = {found}", f"an object with some of {', '.join(TARGET_FILES)}")
    for target in targets:
        _check_group(path, targets, target, TARGET_FILES[target])
    return info


def _check_group(path: Path, groups: dict[str, Any], name: str, needed: tuple[str, ...]) -> None:
    """Raises MiravoxError unless groups[name] is {file: hash} and has every needed file."""
    group = groups[name]
    if not isinstance(group, dict) or not all(isinstance(value, str) for value in group.values()):
        raise _fault(path, f"{name} = {str(group)[:60]}", "an object with the SHA-256 of each file")
    if missing := [file for file in needed if file not in group]:
        raise _fault(path, f"no hash for {missing[0]}", "a hash of every file")


def check_hashes(folder: Path, files: dict[str, str]) -> None:
    """Raises MiravoxError unless every file is there and as its hash says."""
    for name, wanted in files.items():
        path = folder / name
        if not path.is_file():
            raise _fault(path, "no such file", "every file that avatar.json lists")
        if (found := sha256(path)) != wanted:
            raise _fault(path, f"SHA-256 {found[:16]}...", f"{wanted[:16]}..., as avatar.json says")


def has_target(folder: Path, info: dict[str, Any], target: str) -> bool:
    """Whether all files of a target are there and as their hashes say; none of them is there if not."""
    files = info["targets"].get(target, {})
    if not any((folder / name).exists() for name in files):
        return False
    check_hashes(folder, files)
    return True


def read_tensors(path: Path, wanted: dict[str, tuple[str, tuple[int | str, ...]]]) -> dict[str, NDArray[Any]]:
    """A safetensors file that holds the wanted tensors and no others. Raises MiravoxError."""
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


def check_values(
    folder: Path, geometry: dict[str, NDArray[Any]], source: dict[str, NDArray[Any]], info: dict[str, Any]
) -> None:
    """Raises MiravoxError for indices, a template's box or inpaint boxes that cannot be."""
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


def hashes(folder: Path) -> dict[str, Any]:
    """The entries `files` and `targets` of avatar.json for what lies in a folder: SHA-256 of every file but avatar.json
    itself and hidden ones, those of a target's own files in its group.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / "avatar.json"]
    named = {path.relative_to(folder): path for path in files}
    visible = {name: path for name, path in named.items() if not any(part.startswith(".") for part in name.parts)}
    return _grouped({name.as_posix(): sha256(path) for name, path in visible.items()})


def _grouped(files: dict[str, str]) -> dict[str, Any]:
    """{file: hash} of a whole folder -> the entries `files` and `targets` of avatar.json."""
    targets = {
        target: {name: files[name] for name in names if name in files}
        for target, names in TARGET_FILES.items()
        if any(name in files for name in names)
    }
    own = {name for group in targets.values() for name in group}
    return {"files": {name: value for name, value in files.items() if name not in own}, "targets": targets}


def sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _fault(path: Path, found: str, wanted: str, remedy: str = REMEDY) -> MiravoxError:
    return MiravoxError(str(path), found=found, wanted=wanted, remedy=remedy)
