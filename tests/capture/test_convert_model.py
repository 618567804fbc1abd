"""Face models in the files of their owners: the same model comes out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from capture import convert_model
from capture.morphable_model import MorphableModel, load_morphable_model
from dataset.template import build_template
from realtime.arrays import FloatArray


def write_obj(path: Path, vertices: NDArray[np.floating], uv: FloatArray, faces: list[str]) -> None:
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices] + [f"vt {u:.6f} {v:.6f}" for u, v in uv] + faces
    path.write_text("\n".join(lines) + "\n")


def test_ict_facekits_own_files(model: MorphableModel, tmp_path: Path) -> None:
    """A folder of meshes as ICT-FaceKit has them, cut down to the face: the same model comes out."""
    count = 9409
    chosen = (model.triangles_T3 < count).all(1)
    faces = [
        "f " + " ".join(f"{v + 1}/{t + 1}" for v, t in zip(vs, ts, strict=True))
        for vs, ts in zip(model.triangles_T3[chosen], model.uv_triangles_T3[chosen], strict=True)
    ]
    folder = tmp_path / "FaceXModel"
    folder.mkdir()
    jaw = model.expression_names.index("jawOpen")
    neutral = model.neutral_V3[:count].astype(np.float64)
    for name, shape in (
        ("generic_neutral_mesh", 0 * neutral),
        ("identity000", model.identity_IV3[0, :count]),
        ("identity001", model.identity_IV3[1, :count]),
        ("jawOpen", model.expression_CV3[jaw, :count]),
    ):
        write_obj(folder / f"{name}.obj", neutral + shape, model.uv_U2, faces)
    index = {"idx_to_landmark_verts": model.landmarks_68.tolist()}
    (folder / "vertex_indices.json").write_text(json.dumps(index))
    assert convert_model.main(["ict", str(folder), str(tmp_path / "model.npz")]) == 0
    found = load_morphable_model(tmp_path / "model.npz")
    assert np.allclose(found.neutral_V3, neutral, atol=1e-5) and found.parts["face"] == slice(0, count)
    assert np.allclose(found.identity_IV3[1], model.identity_IV3[1, :count], atol=1e-5)
    assert found.expression_names == ("jawOpen",)
    assert np.allclose(found.expression_CV3[0], model.expression_CV3[jaw, :count], atol=1e-5)
    assert np.array_equal(found.triangles_T3, model.triangles_T3[chosen])
    assert build_template(found, found.neutral_V3).used_V.sum() > 10_000


def test_flames_pickle_is_read_and_not_run(model: MorphableModel, tmp_path: Path) -> None:
    """Arrays in a pickled dictionary, with a sparse joint regressor; the jaw joint becomes shapes."""
    rng = np.random.default_rng(7)
    count = 6706
    metres = model.neutral_V3[:count].astype(np.float64) / 100
    shapes = np.zeros((count, 3, 305))
    shapes[:, :, [3, 301]] = rng.normal(size=(count, 3, 2)) * 1e-3
    jaw_row = np.zeros((5, count))
    jaw_row[convert_model.FLAME_JAW, model.landmarks_68[[1, 15]]] = 0.5  # between the ears
    weights = np.zeros((count, 5))
    weights[metres[:, 1] < -0.035, convert_model.FLAME_JAW] = 1
    faces = model.triangles_T3[(model.triangles_T3 < count).all(1)].astype(np.uint32)
    content = {
        "v_template": metres,
        "shapedirs": shapes,
        "f": faces,
        "weights": weights,
        "J_regressor": csc_matrix(jaw_row),
    }
    (tmp_path / "flame.pkl").write_bytes(np.array(content, object).dumps())
    (tmp_path / "landmarks.txt").write_text("\n".join(map(str, model.landmarks_68)))
    command = ["flame", str(tmp_path / "flame.pkl"), str(tmp_path / "model.npz")]
    assert convert_model.main(command) == 2  # without landmarks
    assert convert_model.main([*command, "--landmarks", str(tmp_path / "landmarks.txt")]) == 0
    found = load_morphable_model(tmp_path / "model.npz")
    assert np.allclose(np.ptp(found.neutral_V3, axis=0), 100 * np.ptp(metres, axis=0), atol=1e-3)
    assert np.allclose(found.identity_IV3[3], 100 * shapes[:, :, 3], atol=1e-4)
    assert np.allclose(found.expression_CV3[4], 300 * shapes[:, :, 301], atol=1e-3)
    assert found.expression_names[0] == "jawOpen"
    chin = found.expression_CV3[0, model.landmarks_68[8]]
    assert chin[1] < -2 and np.abs(found.expression_CV3[0, model.landmarks_68[27]]).max() == 0


def test_basels_file(model: MorphableModel, tmp_path: Path) -> None:
    import h5py

    rng = np.random.default_rng(8)
    count = 6706
    mean = 10 * model.neutral_V3[:count].astype(np.float64).ravel()
    faces = model.triangles_T3[(model.triangles_T3 < count).all(1)]
    basis, variance = np.linalg.qr(rng.normal(size=(3 * count, 4)))[0], np.array([400.0, 100.0, 25.0, 4.0])
    with h5py.File(tmp_path / "basel.h5", "w") as file:
        for group, centre in (("shape", mean), ("expression", 0 * mean), ("color", 0 * mean + 0.5)):
            file[f"{group}/model/mean"], file[f"{group}/model/pcaBasis"] = centre, basis
            file[f"{group}/model/pcaVariance"] = variance
        file["shape/representer/cells"] = faces.T
    (tmp_path / "landmarks.txt").write_text("\n".join(map(str, model.landmarks_68)))
    out = tmp_path / "model.npz"
    options = ["--landmarks", str(tmp_path / "landmarks.txt")]
    assert convert_model.main(["basel", str(tmp_path / "basel.h5"), str(out), *options]) == 0
    found = load_morphable_model(out)
    assert np.allclose(found.identity_IV3[0].ravel(), 2 * basis[:, 0], atol=1e-4)  # 20 mm, in cm
    assert np.allclose(found.expression_CV3[1].ravel(), 3 * basis[:, 1], atol=1e-4)
    assert found.expression_range_C2.tolist() == [[-1, 1]] * 4
    assert np.array_equal(found.triangles_T3, faces)
    assert found.albedo_V3 is not None and np.allclose(found.albedo_V3, 0.5**2.2)
