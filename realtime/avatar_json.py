"""avatar.json: what an avatar is, and what every entry of it may be.

The file may come from a stranger. Nothing in it is used before it was found to be of the right type and within bounds,
and the files that it names lie in its own folder.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .contract import EMBEDDINGS, FRAME_RATE, LOOKAHEAD_STEP, PLAN_NETWORKS, SAMPLE_RATE
from .errors import MiravoxError

FORMAT_VERSION = 2  # 1 had all hashes in `files`; it still loads
KEYS = frozenset(
    "format_version name width height frame_rate window_embeddings lookahead_samples camera color_input frequencies "
    "composition composition_size provenance consent licence fidelity files targets".split()
)
REMEDY = "Get the avatar again, or pack it again with `python -m export`."
MAX_BYTES = 1 << 20
MAX_DEPTH = 32  # of objects and lists in one another
MAX_FILES = 64  # of one group
MAX_SHOWN = 60  # letters of a wrong value that a message repeats
MIN_SIZE, MAX_SIZE = 64, 2048  # pixels, of the source loop's frames

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

Fits = Callable[[Any], bool]


def _whole(low: int, high: int, step: int = 1) -> tuple[Fits, str]:
    words = "a whole number" if step == 1 else f"a multiple of {step}"
    return lambda v: type(v) is int and low <= v <= high and v % step == 0, f"{words} from {low} to {high}"


def _line(longest: int) -> tuple[Fits, str]:
    return (
        lambda v: isinstance(v, str) and 0 < len(v) <= longest and v.isprintable() and not v.isspace(),
        f"a line of 1 to {longest} letters",
    )


def _object(value: Any) -> bool:
    return isinstance(value, dict)


VALUES: dict[str, tuple[Fits, str]] = {
    "name": _line(100),
    "width": _whole(MIN_SIZE, MAX_SIZE, 2),
    "height": _whole(MIN_SIZE, MAX_SIZE, 2),
    "frame_rate": _whole(FRAME_RATE, FRAME_RATE),
    "window_embeddings": _whole(EMBEDDINGS, EMBEDDINGS),
    "lookahead_samples": _whole(0, SAMPLE_RATE, LOOKAHEAD_STEP),
    "color_input": (lambda v: v in ("canonical", "deformed"), "canonical or deformed"),
    "frequencies": _whole(1, 32),
    "composition": _line(100),
    "composition_size": _whole(16, 1024, 16),
    "provenance": (_object, "an object"),
    "consent": _line(2000),
    "licence": (lambda v: isinstance(v, dict) or _line(2000)[0](v), "an object or a line"),
    "fidelity": (_object, "an object"),
}
CAMERA = {"fx": (1.0, 1e5), "fy": (1.0, 1e5), "cx": (-1e4, 1e4), "cy": (-1e4, 1e4)}  # pixels


def read_info(path: Path) -> dict[str, Any]:
    """avatar.json, checked, as FORMAT_VERSION has it. Raises MiravoxError."""
    info = _read(path)
    version = info.get("format_version")
    if type(version) is not int or version not in (1, FORMAT_VERSION):
        newer = isinstance(version, int) and version > FORMAT_VERSION
        remedy = "Update Miravox." if newer else REMEDY
        wanted = f"format version 1 or {FORMAT_VERSION}"
        raise fault(path, f"format version {shown(version).strip(chr(39))}", wanted, remedy)
    keys = KEYS - {"targets"} if version == 1 else KEYS
    if unknown := sorted(set(info) - keys):
        raise fault(path, f"unknown key {shown(unknown[0])}", f"only {', '.join(sorted(keys))}")
    if missing := sorted(keys - set(info)):
        raise fault(path, f"no key {missing[0]!r}", "every key of the format")
    for key, (fits, words) in VALUES.items():
        if not fits(info[key]):
            raise fault(path, f"{key} = {shown(info[key])}", words)
    if info["width"] != info["height"]:
        raise fault(path, f"{info['width']} x {info['height']} pixels", "a square")
    _check_camera(path, info["camera"])
    _check_group(path, info, "files", COMMON_FILES)
    if version == 1:
        info = {**info, "format_version": FORMAT_VERSION, **grouped(info["files"])}
    targets = info["targets"]
    if not isinstance(targets, dict) or set(targets) - set(TARGET_FILES):
        found = shown(sorted(targets) if isinstance(targets, dict) else targets)
        raise fault(path, f"targets = {found}", f"an object with some of {', '.join(TARGET_FILES)}")
    for target in targets:
        _check_group(path, targets, target, TARGET_FILES[target])
    return info


def _read(path: Path) -> dict[str, Any]:
    """The object in the file, which is JSON in the strict sense. Raises MiravoxError."""
    if not path.is_file():
        raise fault(path, "no such file", "an avatar folder with avatar.json", "Check --avatar.")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise fault(path, "a file of more than 1 MiB", "a description")
        info = json.loads(data.decode(), object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_number)
        deep = isinstance(info, (dict, list)) and _depth(info) > MAX_DEPTH
    except RecursionError:
        deep = True
    except OSError as error:
        raise fault(path, f"a file that cannot be read ({error.strerror})", "a description") from error
    except ValueError as error:
        raise fault(path, f"text that is not JSON ({str(error)[:MAX_SHOWN]})", "JSON") from error
    if deep:
        raise fault(path, "objects in one another without end", f"at most {MAX_DEPTH}")
    if not isinstance(info, dict):
        raise fault(path, f"a JSON {type(info).__name__}", "a JSON object")
    return info


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is there twice")
    return made


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no number that a float can be")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _depth(value: dict[str, Any] | list[Any]) -> int:
    """How many objects and lists lie in one another."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        inner = [v for outer in level for v in (outer.values() if isinstance(outer, dict) else outer)]
        level = [v for v in inner if isinstance(v, (dict, list))]
    return depth


def _check_camera(path: Path, camera: Any) -> None:
    words = f"an object with {', '.join(CAMERA)}, numbers of pixels"
    if not isinstance(camera, dict) or set(camera) != set(CAMERA):
        raise fault(path, f"camera = {shown(camera)}", words)
    for key, (low, high) in CAMERA.items():
        if type(camera[key]) not in (int, float) or not low <= camera[key] <= high:
            raise fault(path, f"camera.{key} = {shown(camera[key])}", f"a number from {low:g} to {high:g}")


def _check_group(path: Path, groups: dict[str, Any], name: str, needed: tuple[str, ...]) -> None:
    """Raises MiravoxError unless groups[name] is {file: hash} and has every needed file."""
    group = groups[name]
    if not isinstance(group, dict) or not all(
        isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in group.values()
    ):
        raise fault(path, f"{name} = {shown(group).strip(chr(39))}", "an object with the SHA-256 of each file")
    if len(group) > MAX_FILES:
        raise fault(path, f"{len(group)} files in {name}", f"at most {MAX_FILES}")
    for file in group:
        if not is_inside(file):
            raise fault(path, f"the file {shown(file)} in {name}", "names of files in the avatar's own folder")
    if missing := [file for file in needed if file not in group]:
        raise fault(path, f"no hash for {missing[0]}", "a hash of every file")


def is_inside(name: str) -> bool:
    """Whether a name leads, on every system, to a file within the folder, and not to avatar.json itself."""
    parts = name.split("/")
    return (
        len(name) <= 200
        and name.isprintable()
        and not set(name) & set('\\:*?"<>|')
        and all(part and not part.startswith(".") and part == part.strip() for part in parts)
        and name != "avatar.json"
    )


def grouped(files: dict[str, str]) -> dict[str, Any]:
    """{file: hash} of a whole folder -> the entries `files` and `targets` of avatar.json."""
    targets = {
        target: {name: files[name] for name in names if name in files}
        for target, names in TARGET_FILES.items()
        if any(name in files for name in names)
    }
    own = {name for group in targets.values() for name in group}
    return {"files": {name: value for name, value in files.items() if name not in own}, "targets": targets}


def shown(value: Any) -> str:
    """A wrong value in a message: its beginning."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def fault(path: Path, found: str, wanted: str, remedy: str = REMEDY) -> MiravoxError:
    return MiravoxError(str(path), found=found, wanted=wanted, remedy=remedy)
