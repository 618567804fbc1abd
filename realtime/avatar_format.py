"""The format of an avatar's folder: what must be in it, and the checks that say so. A folder is data, never trusted.

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
are missing is an error. So a folder without its GPU files is a valid avatar. Files that are not listed are not opened.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .avatar_json import fault, grouped, shown
from .contract import LATENT, REGIONS

# name: (dtype, shape). V vertices, F triangles, M source frames and B, the mask's side, are free within LARGEST; they
# must agree.
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
# What a free extent may be. One more byte of a file is read only if it fits.
LARGEST = {"V": 1 << 16, "P": 1 << 16, "F": 1 << 18, "M": 1 << 14, "B": 512, "D": 256, "C": 256}
LARGEST |= dict.fromkeys("HWhw", 4096)
MAX_HEADER_BYTES = 1 << 16  # of a safetensors file
MAX_FILE_BYTES, MAX_FOLDER_BYTES = 256 << 20, 1 << 30
MIN_BOX_PIXELS = 16
MAX_VALUE, MIN_EXTENT = 1e4, 0.01  # cm: a face is twenty wide
DTYPES = {"F16": "float16", "F32": "float32", "I32": "int32", "U8": "uint8"}  # of safetensors, as NumPy calls them


def check_hashes(folder: Path, files: dict[str, str]) -> int:
    """How many bytes the files have. Raises MiravoxError unless every one is in the folder and as its hash says."""
    root = folder.resolve()
    total = 0
    for name, wanted in files.items():
        path = folder / name
        try:
            if not path.is_file():
                raise fault(path, "no such file", "every file that avatar.json lists")
            if root not in path.resolve().parents:
                raise fault(path, "a link that leads out of the folder", "a file in the avatar's own folder")
            size = path.stat().st_size
            total += size
            if size > MAX_FILE_BYTES or total > MAX_FOLDER_BYTES:
                raise fault(path, f"{size >> 20} MiB", f"at most {MAX_FILE_BYTES >> 20}, and 1 GiB in all")
            found = sha256(path)
        except OSError as error:
            raise fault(path, f"a file that cannot be read ({error.strerror})", "one that can") from error
        if found != wanted:
            raise fault(path, f"SHA-256 {found[:16]}...", f"{wanted[:16]}..., as avatar.json says")
    return total


def has_target(folder: Path, info: dict[str, Any], target: str) -> bool:
    """Whether all files of a target are there and as their hashes say; none of them is there if not."""
    files = info["targets"].get(target, {})
    if not any((folder / name).exists() for name in files):
        return False
    check_hashes(folder, files)
    return True


def read_tensors(path: Path, wanted: dict[str, tuple[str, tuple[int | str, ...]]]) -> dict[str, NDArray[Any]]:
    """A safetensors file that holds the wanted tensors and no others. Types and shapes are looked at before a tensor is
    read. Raises MiravoxError.
    """
    try:
        with path.open("rb") as start:
            if int.from_bytes(start.read(8), "little") > MAX_HEADER_BYTES:
                raise fault(path, "a header of more than 64 KiB", "safetensors as export writes them")
        with safe_open(path, "np") as file:
            _check_tensors(path, file, wanted)
            tensors = {name: file.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError, ValueError) as error:
        raise fault(path, f"a file that is not safetensors ({error})", "safetensors") from error
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "f":
            continue
        if not np.isfinite(tensor).all():
            raise fault(path, f"{name} with values that are not finite", "finite numbers")
        if tensor.dtype == np.float32 and (np.abs(tensor) > MAX_VALUE).any():
            raise fault(path, f"{name} with values beyond {MAX_VALUE:g}", "centimetres, and the like")
    return tensors


def _check_tensors(path: Path, file: Any, wanted: dict[str, tuple[str, tuple[int | str, ...]]]) -> None:
    """Names, types and shapes of an open safetensors file."""
    if odd := sorted(set(file.keys()) ^ set(wanted)):
        found = f"{'no' if odd[0] in wanted else 'unknown'} tensor {shown(odd[0])}"
        raise fault(path, found, f"the tensors {', '.join(wanted)}")
    extents: dict[str, int] = {}
    for name, (dtype, shape) in wanted.items():
        part = file.get_slice(name)
        kind, found_shape = DTYPES.get(part.get_dtype(), part.get_dtype()), part.get_shape()
        fits = kind == dtype and len(found_shape) == len(shape)
        for extent, want in zip(found_shape, shape, strict=False):
            fits = fits and extent == (extents.setdefault(want, extent) if isinstance(want, str) else want)
        if not fits:
            words = ", ".join(str(extents.get(w, w)) if isinstance(w, str) else str(w) for w in shape)
            raise fault(path, f"{name} as {kind} {found_shape[:8]}", f"{dtype} [{words}]")
    for letter, extent in extents.items():
        if not 1 <= extent <= LARGEST[letter]:
            named = next(name for name, (_, shape) in wanted.items() if letter in shape)
            raise fault(path, f"{named} with {extent} for {letter}", f"1 to {LARGEST[letter]}")


def check_values(
    folder: Path, geometry: dict[str, NDArray[Any]], source: dict[str, NDArray[Any]], info: dict[str, Any]
) -> None:
    """Raises MiravoxError for indices, a template's box, poses or inpaint boxes that cannot be."""
    path = folder / "geometry.safetensors"
    check_indices(path, "triangles", geometry["triangles"], len(geometry["template"]))
    check_indices(path, "landmark_triangles", geometry["landmark_triangles"], len(geometry["triangles"]))
    if (geometry["box"][1] - geometry["box"][0] < MIN_EXTENT).any():
        raise fault(path, f"box {geometry['box'].tolist()}", "a lower and an upper corner")
    path = folder / "source.safetensors"
    if (source["pose"][:, 3] != (0, 0, 0, 1)).any():
        raise fault(path, "a pose whose last row is not 0, 0, 0, 1", "rigid motions")
    boxes = source["box"].astype(np.int64)
    sizes = boxes[:, 2:] - boxes[:, :2]
    inside = (
        (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= info["width"]).all() and (boxes[:, 3] <= info["height"]).all()
    )
    if not inside or (sizes < MIN_BOX_PIXELS).any() or (sizes != sizes[0]).any():
        wanted = f"equal boxes inside, of {MIN_BOX_PIXELS} pixels or more"
        raise fault(path, "inpaint boxes that leave the frame, differ in size or are too small", wanted)


def check_indices(path: Path, name: str, indices: NDArray[Any], count: int) -> None:
    """Raises MiravoxError for indices, of which there is at least one, that are not from 0 to count - 1."""
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= count:
        raise fault(path, f"{name} from {low} to {high}", f"indices from 0 to {count - 1}")


def hashes(folder: Path) -> dict[str, Any]:
    """The entries `files` and `targets` of avatar.json for what lies in a folder: SHA-256 of every file but avatar.json
    itself and hidden ones, those of a target's own files in its group.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / "avatar.json"]
    named = {path.relative_to(folder): path for path in files}
    visible = {name: path for name, path in named.items() if not any(part.startswith(".") for part in name.parts)}
    return grouped({name.as_posix(): sha256(path) for name, path in visible.items()})


def sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
