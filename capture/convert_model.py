"""Face models from their owners' files -> the layout of capture.morphable_model.

    python -m capture.convert_model ict FaceXModel/ model.npz
    python -m capture.convert_model flame generic_model.pkl model.npz --landmarks landmarks.txt
    python -m capture.convert_model basel model2019_face12.h5 model.npz --landmarks landmarks.txt

ICT-FaceKit's folder FaceXModel holds one mesh a shape, and its landmarks. FLAME and the Basel model come without all of
the 68 Multi-PIE landmarks: name their vertices in a text file, one a line. FLAME's jaw is a joint: its opening and its
turns to the sides become shapes of their own. FLAME's pickle is read without being executed (pickled_arrays.py).
Each model keeps its owner's licence.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture.morphable_model import WHERE_MODELS_ARE_TO_BE_HAD, model_of_arrays
from capture.pickled_arrays import Arrays, read_pickled_arrays
from realtime.arrays import Float64Array, FloatArray, IntArray
from realtime.errors import MiravoxError
from realtime.whole_file import replacing

# Vertex ranges of ICT-FaceKit's mesh, as its documentation gives them.
ICT_PARTS = (
    ("face", 0, 9409),
    ("head_and_neck", 9409, 11248),
    ("mouth_socket", 11248, 13294),
    ("eye_socket_left", 13294, 13678),
    ("eye_socket_right", 13678, 14062),
    ("gums_and_tongue", 14062, 17039),
    ("teeth", 17039, 21451),
)
FLAME_SKIN = 3931  # vertices; the eyeballs follow
FLAME_IDENTITY = 300  # of FLAME's shapes; its expressions follow
FLAME_JAW = 2  # joint
JAW_SHAPES = {"jawOpen": (0.5, 0, 0), "jawLeft": (0, 0.2, 0), "jawRight": (0, -0.2, 0)}  # radians at weight 1
DEVIATIONS = 3.0  # a principal component's weight runs from -1 to 1, which is so many standard deviations
MOST_MODES, MOST_EXPRESSIONS = 100, 50


def wrong(path: Path, found: str, wanted: str) -> MiravoxError:
    return MiravoxError(str(path), found=found, wanted=wanted, remedy=WHERE_MODELS_ARE_TO_BE_HAD)


# -- ICT-FaceKit ------------------------------------------------------------------------------------------------------


def ict(folder: Path) -> Arrays:
    """The model of ICT-FaceKit's folder FaceXModel."""
    index = folder / "vertex_indices.json"
    if not index.is_file():
        raise wrong(folder, "no vertex_indices.json", "ICT-FaceKit's folder FaceXModel")
    neutral, uv, triangles, uv_triangles = read_obj(folder / "generic_neutral_mesh.obj")
    modes = sorted(folder.glob("identity[0-9][0-9][0-9].obj"))
    others = (*modes, folder / "generic_neutral_mesh.obj")
    shapes = sorted(p for p in folder.glob("*.obj") if p not in others)
    if not modes or not shapes:
        raise wrong(
            folder, f"{len(modes)} identities, {len(shapes)} expressions", "identity000.obj .. and jawOpen.obj .."
        )

    def displacements(paths: Sequence[Path]) -> NDArray[Any]:
        return np.stack([read_vertices(p, len(neutral)) - neutral for p in paths]).astype(np.float32)

    parts = [p for p in ICT_PARTS if p[2] <= len(neutral)]
    return {
        "neutral": neutral.astype(np.float32),
        "identity": displacements(modes),
        "expression": displacements(shapes),
        "expression_names": np.array([p.stem for p in shapes]),
        "triangles": triangles,
        "uv": uv,
        "uv_triangles": uv_triangles,
        "landmarks_68": np.array(json.loads(index.read_text())["idx_to_landmark_verts"], np.int32),
        "part_names": np.array([p[0] for p in parts]),
        "part_ranges": np.array([p[1:] for p in parts], np.int32),
    }


def read_vertices(path: Path, count: int) -> Float64Array:
    """Vertices [count, 3] of a Wavefront file, the rest left alone."""
    try:
        lines = [line for line in path.read_text().splitlines() if line.startswith("v ")]
        return np.array([line.split()[1:4] for line in lines], np.float64).reshape(count, 3)
    except (OSError, ValueError) as error:
        raise wrong(path, f"no mesh of {count} vertices ({error})", "a Wavefront file of ICT-FaceKit") from error


def read_obj(path: Path) -> tuple[Float64Array, FloatArray, IntArray, IntArray]:
    """Vertices, chart, triangles and their chart's triangles of a Wavefront file; polygons become fans."""
    vertices, chart, corners = [], [], []
    try:
        for line in path.read_text().splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "v":
                vertices.append([float(x) for x in rest.split()[:3]])
            elif kind == "vt":
                chart.append([float(x) for x in rest.split()[:2]])
            elif kind == "f":
                polygon = [[int(i) - 1 for i in corner.split("/")[:2]] for corner in rest.split()]
                corners += [[polygon[0], b, c] for b, c in zip(polygon[1:-1], polygon[2:], strict=True)]
        faces = np.array(corners, np.int32)
        return np.array(vertices), np.array(chart, np.float32), faces[:, :, 0], faces[:, :, 1]
    except (OSError, ValueError, IndexError) as error:
        raise wrong(path, f"no mesh with a chart ({error})", "a Wavefront file of ICT-FaceKit") from error


# -- FLAME ------------------------------------------------------------------------------------------------------------


def flame(path: Path, landmarks_68: IntArray) -> Arrays:
    """The model of FLAME's pickle (or an npz of its arrays)."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            raw = {name: file[name] for name in file.files}
    else:
        raw = read_pickled_arrays(path, "FLAME's generic_model.pkl", WHERE_MODELS_ARE_TO_BE_HAD)
    missing = [k for k in ("v_template", "shapedirs", "f", "weights", "J_regressor") if k not in raw]
    if missing:
        raise wrong(path, f"no {', '.join(missing)}", "FLAME's generic_model.pkl")
    template, shapes = np.asarray(raw["v_template"], np.float64) * 100, np.asarray(raw["shapedirs"], np.float64) * 100
    joint = np.asarray(raw["J_regressor"], np.float64)[FLAME_JAW] @ template
    follows = np.asarray(raw["weights"], np.float64)[:, FLAME_JAW, None]
    jaw = [follows * ((template - joint) @ (_turn(angles) - np.eye(3)).T) for angles in JAW_SHAPES.values()]
    identity = np.moveaxis(shapes[..., : min(FLAME_IDENTITY, MOST_MODES)], -1, 0)
    expression = np.moveaxis(shapes[..., FLAME_IDENTITY : FLAME_IDENTITY + MOST_EXPRESSIONS], -1, 0) * DEVIATIONS
    limits = [[0.0, 1.0]] * len(jaw) + [[-1.0, 1.0]] * len(expression)
    skin = min(FLAME_SKIN, len(template))
    middle = template[landmarks_68].mean(0) - (0, 0, 8)  # cm: the origin lies in the head
    return {
        "neutral": (template - middle).astype(np.float32),
        "identity": identity.astype(np.float32),
        "expression": np.concatenate([jaw, expression]).astype(np.float32),
        "expression_names": np.array([*JAW_SHAPES, *(f"expression{k}" for k in range(len(expression)))]),
        "expression_range": np.array(limits, np.float32),
        "triangles": np.asarray(raw["f"]).astype(np.int32),
        "landmarks_68": landmarks_68,
        "part_names": np.array(["face"]),
        "part_ranges": np.array([[0, skin]], np.int32),
    }


def _turn(angles: tuple[float, float, float]) -> Float64Array:
    """Rotation by a vector of radians (Rodrigues)."""
    vector = np.array(angles, np.float64)
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross, np.float64)


# -- Basel ------------------------------------------------------------------------------------------------------------


def basel(path: Path, landmarks_68: IntArray) -> Arrays:
    """The Basel Face Model 2017 or 2019 (HDF5, millimetres)."""
    try:
        import h5py
    except ImportError as error:
        raise MiravoxError(
            "h5py", found="no such package", wanted="the optional extra `train`", remedy="pip install -e .[train]"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            mean = file["shape/model/mean"][:] + file["expression/model/mean"][:]
            identity = _components(file["shape/model"], MOST_MODES) / 10
            expression = _components(file["expression/model"], MOST_EXPRESSIONS) / 10 * DEVIATIONS
            albedo = file["color/model/mean"][:].reshape(-1, 3) if "color/model/mean" in file else None
            modes = _components(file["color/model"], MOST_MODES) if "color/model/mean" in file else None
            triangles = file["shape/representer/cells"][:].astype(np.int32)
    except (OSError, KeyError) as error:
        raise wrong(path, f"no such model ({error})", "model2019_face12.h5 or the like, with expressions") from error
    neutral = mean.reshape(-1, 3) / 10
    triangles = triangles.T if triangles.shape[0] == 3 else triangles
    middle = neutral[landmarks_68].mean(0) - (0, 0, 8)
    arrays = {
        "neutral": (neutral - middle).astype(np.float32),
        "identity": identity.astype(np.float32),
        "expression": expression.astype(np.float32),
        "expression_names": np.array([f"expression{k}" for k in range(len(expression))]),
        "expression_range": np.tile(np.array([-1.0, 1.0], np.float32), (len(expression), 1)),
        "triangles": np.ascontiguousarray(triangles),
        "landmarks_68": landmarks_68,
    }
    if albedo is not None and modes is not None:  # as encoded as photographs are: to linear light
        arrays["albedo"] = (np.clip(albedo, 0, 1) ** 2.2).astype(np.float32)
        slope = 2.2 * np.clip(albedo, 0.01, 1) ** 1.2
        arrays["albedo_modes"] = (modes * slope).astype(np.float32)
    return arrays


def _components(group: Any, most: int) -> NDArray[Any]:
    """Principal components [K, V, 3], one standard deviation each."""
    basis = group["pcaBasis"][:, :most] * np.sqrt(group["pcaVariance"][:most])
    return np.asarray(np.moveaxis(basis.reshape(-1, 3, basis.shape[1]), -1, 0))


# -- command ----------------------------------------------------------------------------------------------------------


def read_landmarks(path: Path | None) -> IntArray:
    """68 vertex numbers, one a line."""
    what = "the vertices of the 68 Multi-PIE landmarks, one number a line"
    if path is None:
        raise MiravoxError(
            "--landmarks", found="nothing", wanted=what, remedy="This model's file does not hold them all."
        )
    try:
        numbers = np.array(path.read_text().split(), np.int32)
    except (OSError, ValueError) as error:
        raise MiravoxError(str(path), found=str(error), wanted=what, remedy="Check the file.") from error
    if numbers.shape != (68,):
        raise MiravoxError(str(path), found=f"{len(numbers)} numbers", wanted=what, remedy="Complete the file.")
    return numbers


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m capture.convert_model",
        description="Converts a face model for capture.",
        epilog=WHERE_MODELS_ARE_TO_BE_HAD,
    )
    parser.add_argument("kind", choices=("ict", "flame", "basel"))
    parser.add_argument("model", type=Path, help="ICT-FaceKit's folder FaceXModel, FLAME's .pkl or Basel's .h5")
    parser.add_argument("out", type=Path, help="the npz")
    parser.add_argument("--landmarks", type=Path, help="for FLAME and Basel: vertices of the 68 landmarks, one a line")
    o = parser.parse_args(arguments)
    try:
        if not o.model.exists():
            raise wrong(o.model, "no such file", "the model's own files")
        if o.kind == "ict":
            arrays = ict(o.model)
        elif o.kind == "flame":
            arrays = flame(o.model, read_landmarks(o.landmarks))
        else:
            arrays = basel(o.model, read_landmarks(o.landmarks))
        model = model_of_arrays(arrays, str(o.model))
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        return 2
    with replacing(o.out) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    print(
        f"{o.out}: {len(model.neutral_V3)} vertices, {len(model.identity_IV3)} identity modes, "
        f"{len(model.expression_names)} expression shapes"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
