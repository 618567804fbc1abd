"""Capture from landmarks to dataset: the energy against slow twins, tracking against a synthetic actor's truth."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import moderngl
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from bench.capture import Errors, code_film, compare, similarity
from bench.landmarks import table as landmark_points
from capture import convert_model
from capture import dataset as capture_dataset
from capture.energy import (
    POSE,
    Points,
    Pose,
    Rows,
    TrackConfig,
    View,
    project,
    rotation_of,
    sample,
    shared_jacobian,
    vector_of,
)
from capture.landmark_table import landmark_table
from capture.landmarks import POINTS, Landmarks, detect
from capture.morphable_model import (
    MorphableModel,
    Surface,
    closest_points,
    load_morphable_model,
    model_of_arrays,
    point_weights,
)
from capture.skin import Skin, explain, harmonics
from capture.solver import State, bundle_step, expression_prior, smooth_step
from capture.track import BLENDSHAPE_NAMES, Track, expressions_of_blendshapes, load_track, track
from capture.video import Take, open_take
from networks.contract import SAMPLES_PER_FRAME
from networks.template import ROWS_BELOW, ROWS_INSIDE, build_template
from realtime.errors import MiravoxError
from studio.actor import identity_vertices
from studio.dataset import FilmConfig, Script, film
from studio.face_model import load_face_model
from training.dataset import Dataset, load_dataset
from training.dataset_files import write_wav

FloatArray = NDArray[np.float32]

VIEW = View(900.0, 250.0, 260.0)
POSE_AT = Pose(rotation_of(np.array([0.1, -0.2, 0.05])), np.array([0.5, -0.3, -60.0]))


@pytest.fixture(scope="module")
def model(data_folder: Path) -> MorphableModel:
    return load_morphable_model(data_folder / "face_model" / "ict_facekit_light.npz")


@pytest.fixture(scope="module")
def few(model: MorphableModel) -> Surface:
    """Forty points of the face, five identity modes."""
    rng = np.random.default_rng(0)
    face = model.triangles_T3[(model.triangles_T3 < 6706).all(1)]
    weights = rng.dirichlet(np.ones(3), 40)
    matrix = point_weights(face, rng.choice(len(face), 40), weights, len(model.neutral_V3))
    return Surface.at(model, matrix, 5)


# -- the energy -------------------------------------------------------------------------------------------------------


def test_jacobian_of_the_projection(few: Surface) -> None:
    """Against differences, for every unknown of a frame and every shared one."""
    rng = np.random.default_rng(1)
    alpha, delta = rng.normal(size=5), rng.uniform(0, 0.3, len(few.expression_CP3))
    points = Points.of(few, alpha)
    seen = project(points, delta, POSE_AT, VIEW)
    for unknown in range(POSE + len(delta)):
        step = np.zeros(POSE + len(delta))
        step[unknown] = 1e-2
        ends = [
            project(points, delta + s * step[POSE:], POSE_AT.moved(s * step), VIEW).pixels_P2.astype(np.float64)
            for s in (-1, 1)
        ]
        numeric = ((ends[1] - ends[0]) / 2e-2).T
        assert np.allclose(seen.jacobian_2DP[:, unknown], numeric, atol=0.02 + 0.01 * np.abs(numeric).max()), unknown
    shared = shared_jacobian(points, seen, VIEW)
    for unknown in range(6):
        step = np.zeros(6)
        step[unknown] = 1e-2
        before, after = (
            project(
                Points.of(few, alpha + s * step[:5]), delta, POSE_AT,
                replace(VIEW, focal=VIEW.focal * float(np.exp(s * step[5]))),
            ).pixels_P2.astype(np.float64)
            for s in (-1, 1)
        )  # fmt: skip
        numeric = ((after - before) / 2e-2).T
        assert np.allclose(shared[:, unknown], numeric, atol=0.02 + 0.01 * np.abs(numeric).max()), unknown


def test_a_sample_lies_at_pixel_centres_of_a_half() -> None:
    rows, columns = np.mgrid[:20, :30].astype(np.float32)
    picture = np.stack([columns + 0.5, rows + 0.5, columns + rows], -1)
    color, gradient = sample(picture, np.array([[7.25, 9.5], [12.0, 3.75]], np.float32))
    assert np.allclose(color[:, :2], [[7.25, 9.5], [12.0, 3.75]], atol=0.02)
    assert np.allclose(gradient[0], [[1, 0, 1], [0, 1, 1]], atol=0.1)


def test_frames_are_solved_together_as_a_dense_solver_would() -> None:
    rng = np.random.default_rng(2)
    frames, unknowns = 7, 4
    roots = rng.normal(size=(frames, unknowns, unknowns))
    hessian = roots @ roots.transpose(0, 2, 1) + np.eye(unknowns)
    gradient, value = rng.normal(size=(2, frames, unknowns))
    change = np.full(unknowns, 100.0)  # everything is far below it: all weights are one
    second = np.zeros((frames - 2, frames))
    for k in range(frames - 2):
        second[k, k : k + 3] = 1, -2, 1
    prior = np.kron(second.T @ second, np.eye(unknowns)) / change[0] ** 2
    dense = prior.copy()
    for k in range(frames):
        dense[k * unknowns : (k + 1) * unknowns, k * unknowns : (k + 1) * unknowns] += hessian[k]
    wanted = -np.linalg.solve(dense, gradient.ravel() + prior @ value.ravel()).reshape(frames, unknowns)
    assert np.allclose(smooth_step(hessian, gradient, value, change), wanted, atol=1e-4)
    held = smooth_step(hessian, gradient, value, change, held=2)
    assert np.abs(held[:2]).max() < 1e-6 and np.abs(held[2:]).max() > 1e-2


def test_smoothing_takes_noise_off_and_leaves_a_jump() -> None:
    rng = np.random.default_rng(3)
    truth = np.where(np.arange(40) < 20, 0.0, 1.0)[:, None]  # lips that snap shut
    measured = truth + rng.normal(size=truth.shape) * 0.02
    precision = np.full((40, 1, 1), 0.02**-2)
    value = measured.copy()
    for _ in range(8):
        value += smooth_step(precision, precision[:, :, 0] * (value - measured), value, np.array([0.005]))
    assert np.abs(value - truth)[[*range(17), *range(23, 40)]].mean() < 0.6 * np.abs(measured - truth).mean()
    assert value[22, 0] - value[17, 0] > 0.85


def test_what_all_frames_have_in_common_is_eliminated(model: MorphableModel) -> None:
    """A bundle step equals that of a system in which every row's constant is an unknown of its own."""
    rng = np.random.default_rng(4)
    shapes, modes, rows_count, keys = len(model.expression_names), 3, 90, [0, 1]
    rows = [
        Rows(
            rng.normal(size=rows_count).astype(np.float32), rng.uniform(0.5, 2, rows_count).astype(np.float32),
            rng.normal(size=(POSE + shapes, rows_count)).astype(np.float32),
            rng.normal(size=(modes + 1, rows_count)).astype(np.float32),
        )
        for _ in keys
    ]  # fmt: skip
    config, free = TrackConfig(modes=modes), rng.uniform(0.5, 2, rows_count)
    state = State(np.zeros(modes), VIEW, [POSE_AT] * 2, np.zeros((2, shapes)))
    frame, shared = POSE + shapes, modes + 1
    size = shared + 2 * frame + rows_count
    dense, right = np.zeros((size, size)), np.zeros(size)
    for k, r in enumerate(rows):
        assert r.shared_SR is not None
        jacobian = np.zeros((size, rows_count))
        jacobian[:shared], jacobian[shared + k * frame : shared + (k + 1) * frame] = r.shared_SR, r.frame_DR
        jacobian[-rows_count:] = -np.eye(rows_count)
        dense += (jacobian * r.weight_R) @ jacobian.T
        right += (jacobian * r.weight_R) @ r.residual_R
    precision, _ = expression_prior(model, config, np.zeros(shapes))
    prior = np.concatenate([np.ones(modes), [config.focal**-2], *[[0.0] * POSE, precision] * 2])
    dense[np.arange(len(prior)), np.arange(len(prior))] += prior
    dense[-rows_count:, -rows_count:] += np.diag(free)
    wanted = -np.linalg.solve(dense, right)
    constants, _ = bundle_step(rows, free, state, keys, model, config, VIEW.focal)
    assert np.allclose(state.alpha_I, wanted[:modes], atol=2e-3)
    assert np.allclose(state.delta_NC[1], wanted[shared + frame + POSE : shared + 2 * frame], atol=2e-3)
    assert np.allclose(constants, wanted[-rows_count:], atol=5e-3)


def test_weights_outside_their_range_are_held_back(model: MorphableModel) -> None:
    delta = np.array([-0.2, 0.5, 1.3] + [0.0] * (len(model.expression_names) - 3))
    precision, gradient = expression_prior(model, TrackConfig(), delta)
    assert precision[0] > 100 * precision[1] and precision[2] > 100 * precision[1]
    assert gradient[0] < 0 < gradient[1] < gradient[2]


def test_albedo_and_light_explain_colours() -> None:
    """Colours made of a known albedo and light, of a head that turns: both are found, up to their common factor."""
    rng = np.random.default_rng(5)
    normals = rng.normal(size=(300, 3)) + (0, 0, 2)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    skin = Skin(
        Surface(*(np.zeros((1, 300, 3), np.float32),) * 3),
        normals.astype(np.float32),
        np.zeros((1, 300, 3), np.float32),
        None,
        None,
    )
    albedo = rng.uniform(0.3, 0.5, (300, 3))
    light = np.zeros((9, 3))
    light[0], light[1], light[3] = 0.7, 0.2, 0.3  # from the left and the front
    poses = [Pose(rotation_of(np.array([0, yaw, 0])), np.array([0, 0, -60.0])) for yaw in np.linspace(-0.6, 0.6, 9)]
    shades = [np.maximum(harmonics(skin.normals(np.zeros(1), p)) @ light, 0.05) for p in poses]
    colors = np.stack([(albedo * s) ** (1 / 2.2) for s in shades])
    found = explain(skin, colors, np.zeros((9, 1)), poses, 0.02)
    again = np.stack([found.albedo_P3 * found.lit(skin, np.zeros(1), p).shade_P3 for p in poses])
    front = normals[:, 2] > 0.8
    assert np.abs(again - colors)[:, front].mean() < 0.012
    assert np.corrcoef(found.albedo_P3[front].ravel(), (albedo[front] ** (1 / 2.2)).ravel())[0, 1] > 0.9
    flat = np.abs(colors.mean(0)[front] - colors[:, front]).mean()
    assert np.abs(again - colors)[:, front].mean() < flat / 2  # light tells more than a colour for each point would


# -- models -----------------------------------------------------------------------------------------------------------


def arrays_of(model: MorphableModel, vertices: int) -> dict[str, NDArray[np.generic]]:
    """The face alone, without a chart, its shapes under other names."""
    face = model.triangles_T3[(model.triangles_T3 < vertices).all(1)]
    return {
        "neutral": model.neutral_V3[:vertices], "identity": model.identity_IV3[:8, :vertices],
        "expression": model.expression_CV3[:, :vertices], "triangles": face, "landmarks_68": model.landmarks_68,
        "expression_names": np.array([f"shape{c}" for c in range(len(model.expression_names))]),
    }  # fmt: skip


def test_a_model_without_chart_gets_a_template(model: MorphableModel) -> None:
    """Lips sewn, parted in the canonical pose; the landmarks of mouth and nose about where the model has them."""
    other = model_of_arrays(arrays_of(model, 6706), "other")
    template = build_template(other, other.neutral_V3)
    corners = template.neutral_V3[template.triangles_F3[template.landmark_triangles_68]]
    found = np.einsum("lk,lkx->lx", template.landmark_barycentrics_683, corners)
    off = np.linalg.norm(found - other.neutral_V3[other.landmarks_68], axis=1)
    assert np.median(off[[30, 33, *range(48, 68)]]) < 0.15
    lower, upper = ROWS_BELOW, ROWS_BELOW + ROWS_INSIDE + 1
    neutral, canonical = (
        v.reshape(*template.grid, 3)[:, template.grid[1] // 2] for v in (template.neutral_V3, template.canonical_V3)
    )
    assert np.linalg.norm(neutral[upper] - neutral[lower]) < 0.3
    assert canonical[upper, 1] - canonical[lower, 1] > 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neutral": None}, "neutral.*no such array"),
        ({"landmarks_68": np.zeros(51, np.int32)}, "landmarks_68.*shape"),
        ({"triangles": np.array([[0, 1, 99_999]])}, "triangles.*99999"),
        ({"neutral": "metres"}, "centimetres"),
        ({"identity": "nan"}, "identity.*not finite"),
    ],
)
def test_a_malformed_model_is_refused(model: MorphableModel, change: dict[str, object], message: str) -> None:
    arrays = arrays_of(model, 6706)
    for key, value in change.items():
        if value is None:
            del arrays[key]
        elif isinstance(value, str) and value == "metres":
            arrays[key] = arrays[key].astype(np.float64) / 100
        elif isinstance(value, str):
            arrays[key] = np.full_like(arrays[key], np.nan)
        else:
            arrays[key] = np.asarray(value)
    with pytest.raises(MiravoxError, match=message):
        model_of_arrays(arrays, "model")


def test_without_a_model_the_error_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(MiravoxError, match=r"ICT-FaceKit.*FLAME.*Basel"):
        load_morphable_model(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no model")
    with pytest.raises(MiravoxError, match="no npz"):
        load_morphable_model(tmp_path / "text.npz")


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
        ("generic_neutral_mesh", 0 * neutral), ("identity000", model.identity_IV3[0, :count]),
        ("identity001", model.identity_IV3[1, :count]), ("jawOpen", model.expression_CV3[jaw, :count]),
    ):  # fmt: skip
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
        "v_template": metres, "shapedirs": shapes, "f": faces, "weights": weights, "J_regressor": csc_matrix(jaw_row),
    }  # fmt: skip
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


@pytest.mark.parametrize("data", [b"no pickle", b"cos\nsystem\n(S'touch ran'\ntR.", b""])
def test_a_pickle_of_something_else_is_refused(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flame.pkl").write_bytes(data)
    with pytest.raises(MiravoxError, match="pickle|dictionary"):
        convert_model.numbers_of_pickle(tmp_path / "flame.pkl")
    assert not (tmp_path / "ran").exists()


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


def test_landmarks_lie_on_the_face(model: MorphableModel) -> None:
    """On the mean face: MediaPipe's lip corners, nose tip and chin near the model's own landmarks."""
    table = landmark_table(model)
    points = dict(zip(table.index_L.tolist(), table.weights_LV @ model.neutral_V3, strict=True))
    for mediapipe, multi_pie, most in (
        (61, 48, 0.3),
        (291, 54, 0.3),
        (4, 30, 0.5),
        (0, 51, 0.3),
        (17, 57, 0.3),
        (33, 36, 0.4),
    ):
        assert np.linalg.norm(points[mediapipe] - model.neutral_V3[model.landmarks_68[multi_pie]]) < most, mediapipe
    assert len(points) > 300 and table.noise_L.max() < 0.31


def test_closest_points(model: MorphableModel) -> None:
    """Against the nearest of many points of the surface."""
    face = model.triangles_T3[(model.triangles_T3 < 6706).all(1)]
    rng = np.random.default_rng(6)
    wanted = model.neutral_V3[rng.choice(6706, 20)] + rng.normal(size=(20, 3)) * 0.1
    triangle, weights, distance = closest_points(wanted, model.neutral_V3, face)
    found = point_weights(face, triangle, weights, len(model.neutral_V3)) @ model.neutral_V3
    assert np.allclose(np.linalg.norm(found - wanted, axis=1), distance, atol=1e-4)
    shares = rng.dirichlet(np.ones(3), 40)
    middles = model.neutral_V3[face].mean(1)
    for point, nearest in zip(wanted, distance, strict=True):
        near = face[np.linalg.norm(middles - point, axis=1) < 1]
        many = np.einsum("kc,tcx->tkx", shares, model.neutral_V3[near]).reshape(-1, 3)
        slow = np.linalg.norm(many - point, axis=1).min()
        assert nearest <= slow + 1e-4 and slow - nearest < 0.05


def test_landmarks_that_scatter_are_left_out(model: MorphableModel) -> None:
    """The table's median, noise and bias, of points that are known; mirrored ones come out as mirrors."""
    rng = np.random.default_rng(9)
    known = {0: 36, 1: 45, 2: 48, 3: 54, 4: 30, 5: 0, 6: 16}  # row: one of the 68
    actors, renderings = 6, 8
    points = np.full((actors, renderings, POINTS, 3), np.nan)
    for index, landmark in known.items():
        slide = 1.0 if index >= 5 else 0.05  # cm; the jaw line's ends do
        own = rng.normal(size=(actors, 1, 3)) * 0.03
        scatter = rng.normal(size=(actors, renderings, 3)) * slide
        points[:, :, index] = model.neutral_V3[model.landmarks_68[landmark]] + own + scatter
    points[0, :, 2] = np.nan  # one actor never shows it
    table = landmark_points(points, load_face_model())
    found_P3, noise, bias = (np.asarray(table[name], np.float32) for name in ("points", "noise", "bias"))
    assert table["index"].tolist() == [0, 1, 2, 3, 4]
    assert np.allclose(found_P3[0], found_P3[1] * np.array([-1, 1, 1]), atol=1e-4)
    wanted = model.neutral_V3[model.landmarks_68[[36, 45, 48, 54, 30]]]
    assert np.linalg.norm(found_P3 - wanted, axis=1).max() < 0.06
    assert noise.min() > 0.03 and noise.max() < 0.1 and bias.max() < 0.1


def test_blendshape_scores_become_weights() -> None:
    scores = np.zeros((2, 52), np.float32)
    scores[0, BLENDSHAPE_NAMES.index("jawOpen")] = 0.4
    scores[0, BLENDSHAPE_NAMES.index("browInnerUp")] = 0.3
    scores[0, BLENDSHAPE_NAMES.index("mouthSmileLeft")] = 0.2
    scores[1] = np.nan
    weights = expressions_of_blendshapes(
        scores, ("jawOpen", "browInnerUp_L", "browInnerUp_R", "mouthSmile_L", "mouthSmile_R", "other")
    )
    assert np.allclose(weights, np.array([[0.4, 0.3, 0.3, 0.2, 0, 0], [0, 0, 0, 0, 0, 0]]))


# -- an actor, tracked ------------------------------------------------------------------------------------------------

IDENTITY = 33
PHONES = (
    (("SIL", 0, 20), ("M", 20, 10), ("AA", 30, 30), ("P", 60, 12), ("IY", 72, 24), ("W", 96, 16), ("SIL", 112, 16)),
    (("SIL", 0, 10), ("F", 10, 12), ("AE", 22, 26), ("B", 48, 10), ("OW", 58, 30), ("SIL", 88, 24)),
)


@dataclass(frozen=True)
class Tracked:
    takes: list[Take]
    landmarks: list[Landmarks]
    track: Track
    errors: dict[str, Errors]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, gl_context: moderngl.Context, model: MorphableModel) -> Tracked:
    """Two short takes of an actor, filmed, coded and tracked as if they were real."""
    folder = tmp_path_factory.mktemp("capture")
    scripts = []
    rng = np.random.default_rng(0)
    for k, phones in enumerate(PHONES):
        samples = (phones[-1][1] + phones[-1][2]) * 160
        wav = folder / f"speech{k}.wav"
        write_wav(wav, (rng.normal(size=samples) * 0.05).astype(np.float32))
        scripts.append(Script(f"take{k}", "ljspeech", f"take{k}", "train", wav, phones))
    with gl_context:
        film(folder / "film", FilmConfig(identity=IDENTITY), scripts, gl_context)
    truth = load_dataset(folder / "film")
    takes = [open_take(path) for path in code_film(truth, folder)]
    landmarks = [detect(take.frames) for take in takes]
    actor = identity_vertices(load_face_model(), IDENTITY)
    errors: dict[str, Errors] = {}

    def watch(stage: str, found: Track) -> None:
        errors[stage] = compare(found, model, truth, actor)

    config = TrackConfig(keyframes=14, bundle_points=700, skin_points=1400)
    found = track(takes, landmarks, model, View(600.0, 256.0, 256.0), config, watch)
    return Tracked(takes, landmarks, found, errors)


def test_similarity_is_found() -> None:
    rng = np.random.default_rng(10)
    source = rng.normal(size=(50, 3))
    turn, shift = rotation_of(np.array([0.4, -1.0, 0.2])), np.array([1.0, -2.0, 3.0])
    scale, found_turn, found_shift = similarity(source, 1.3 * source @ turn.T + shift)
    assert scale == pytest.approx(1.3)
    assert np.allclose(found_turn, turn) and np.allclose(found_shift, shift)


def test_an_actor_is_tracked_as_well_as_promised(tracked: Tracked) -> None:
    errors = tracked.errors["fine"]
    assert errors.vertex_mm <= 2
    assert errors.lips_mm <= 0.8
    assert errors.rotation_degrees <= 1.5  # two seconds hardly turn the head; of longer films the bench says 1
    assert errors.jitter_seen <= 1.5 and errors.jitter_object <= 1.5


def test_colours_tell_more_than_landmarks(tracked: Tracked) -> None:
    before, after = tracked.errors["landmarks"], tracked.errors["fine"]
    assert after.lips_correlation > before.lips_correlation
    assert after.lips_mm < before.lips_mm
    assert after.vertex_mm < before.vertex_mm + 0.1


def test_landmarks_come_out_where_they_were_found(tracked: Tracked) -> None:
    eyes = np.concatenate([np.linalg.norm(m.points[:, 468] - m.points[:, 473], axis=1) for m in tracked.landmarks])
    assert (tracked.track.reprojection_N / eyes).max() < 0.025


def test_a_track_is_saved_and_loaded(tracked: Tracked, tmp_path: Path) -> None:
    tracked.track.save(tmp_path / "track.safetensors")
    again = load_track(tmp_path / "track.safetensors")
    assert again.view == tracked.track.view
    assert np.array_equal(again.pose_N44, tracked.track.pose_N44)
    assert np.array_equal(again.delta_NC, tracked.track.delta_NC)


def test_frames_without_a_face_are_bridged(tracked: Tracked, model: MorphableModel) -> None:
    """Landmarks alone: the pose of a few lost frames lies between that of their neighbours."""
    first = tracked.landmarks[0]
    points = first.points.copy()
    points[10:13] = np.nan
    lost = Landmarks(points, np.isfinite(points[:, 0, 0]), first.depth, None)
    config = TrackConfig(keyframes=8, photometric=False)
    found = track(tracked.takes[:1], [lost], model, View(600.0, 256.0, 256.0), config)
    assert np.isnan(found.reprojection_N[10:13]).all() and np.isfinite(found.reprojection_N[[9, 13]]).all()
    jump = np.linalg.norm(np.diff(found.pose_N44[8:15, :3, 3], axis=0), axis=1)
    assert jump.max() < 0.3  # cm a frame
    turns = [vector_of(p[:3, :3]) for p in found.pose_N44[8:15].astype(np.float64)]
    assert np.degrees(np.linalg.norm(np.diff(turns, axis=0), axis=1)).max() < 1.5


def test_a_video_without_faces_is_refused(model: MorphableModel) -> None:
    nothing = Landmarks(
        np.full((30, POINTS, 2), np.nan, np.float32), np.zeros(30, bool), np.zeros((30, POINTS), np.float32), None
    )
    take = SimpleNamespace(frames=[], frame_count=30)
    with pytest.raises(MiravoxError, match="a face in 0 of 30 frames"):
        track([take], [nothing], model, VIEW)


# -- the dataset ------------------------------------------------------------------------------------------------------


def test_a_dataset_is_read_by_training(tracked: Tracked, model: MorphableModel, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    summary = capture_dataset.write_dataset(
        out, "Somebody", tracked.takes, tracked.landmarks, tracked.track, model, {"videos": ["a.mp4"]},
        {"frames": "none"}, held_out=("take1",), phones=[(), (("M", 3, 5),)],
    )  # fmt: skip
    data: Dataset = load_dataset(out)
    assert [t.phones for t in data.takes] == [(), (("M", 3, 5),)]
    assert [t.held_out for t in data.takes] == [False, True]
    assert summary.frames == len(data.pose) == data.takes[-1].end and not summary.source_silent
    assert data.provenance["generator"] == "capture"
    images = dict(data.frames())
    assert len(images) == summary.frames
    wanted = next(iter(tracked.takes[1].frames))
    assert np.array_equal(images[data.takes[1].first], wanted)
    # The template's nose is where the frame's landmarks say.
    first = data.takes[1].first
    corners = np.asarray(data.geometry["triangles"])[np.asarray(data.geometry["landmark_triangles"])[30]]
    tip = np.asarray(data.geometry["landmark_barycentrics"])[30] @ (data.neutral + data.displacement(first))[corners]
    seen = data.camera.project(tip[None].astype(np.float32), data.pose[first])[0]
    assert np.linalg.norm(seen - tracked.landmarks[1].points[0, 4]) < 6  # 4 mm
    info = json.loads((out / "dataset.json").read_text())
    assert info["width"] == 512 and info["camera"]["fx"] == pytest.approx(tracked.track.view.focal)


def test_phones_are_those_of_the_take(tmp_path: Path) -> None:
    """A take that begins at frame 25 of its recording, whose sound was moved 0.1 s back."""
    rows = [
        {"name": "a", "recording": "/somewhere/a.mp4", "begin": 25, "first": 5, "end": 30},
        {"name": "b", "recording": "/somewhere/b.mp4", "begin": 0, "first": 0, "end": 25},
    ]
    (tmp_path / "takes.json").write_text(json.dumps({"correction": -0.1, "takes": rows}))
    labels = tmp_path / "labels.jsonl"
    phones = [["P", 90, 10], ["AH1", 100, 30], ["SIL", 130, 60], ["M", 190, 40], ["B", 230, 10]]
    labels.write_text(json.dumps({"id": "a", "seconds": 3, "phones": phones}))
    # Frame 25 is at 100 units: the sound moved, the first vowel begins at 90.
    found = capture_dataset.labelled(tmp_path, labels)
    assert found == [(("AH1", 0, 20), ("SIL", 20, 60), ("M", 80, 20)), ()]
    assert capture_dataset.within(found[0], 10, 22) == (("SIL", 0, 40), ("M", 40, 8))
    labels.write_text(json.dumps({"id": "c", "seconds": 3, "phones": []}))
    with pytest.raises(MiravoxError, match="found labels of c; wanted some of a, b"):
        capture_dataset.labelled(tmp_path, labels)


def plain(lengths: list[int], model: MorphableModel) -> tuple[list[Take], list[Landmarks], Track]:
    """Takes of so many frames, all with a face that speaks and moves; numbers only."""
    total = sum(lengths)
    rng = np.random.default_rng(0)
    pose = np.tile(np.eye(4, dtype=np.float32), (total, 1, 1))
    pose[:, :3, 3] = (0, 0, -60) + np.cumsum(rng.normal(size=(total, 3)) * 0.1, 0)
    delta = np.zeros((total, len(model.expression_names)), np.float32)
    delta[:, model.expression_names.index("jawOpen")] = rng.uniform(0.1, 0.4, total)
    takes, marks = [], []
    for k, frames in enumerate(lengths):
        speech = rng.normal(size=frames * SAMPLES_PER_FRAME).astype(np.float32) * 0.1
        takes.append(Take(f"t{k}", None, 0, frames, speech))  # type: ignore[arg-type]
        marks.append(
            Landmarks(
                np.zeros((frames, POINTS, 2), np.float32),
                np.ones(frames, bool),
                np.zeros((frames, POINTS), np.float32),
                None,
            )
        )
    return takes, marks, Track(np.zeros(50, np.float32), VIEW, pose, delta, np.zeros(total, np.float32))


def test_the_silent_still_stretch_becomes_the_source(model: MorphableModel) -> None:
    takes, marks, found = plain([500, 600, 150], model)
    still = slice(100, 260)  # of the second take: 6 s and a bit
    takes[1].speech[still.start * SAMPLES_PER_FRAME : still.stop * SAMPLES_PER_FRAME] = 0
    found.pose_N44[600:760, :3, 3] = (0, 0, -60)
    found.delta_NC[600:760] = 0
    pieces, silent = capture_dataset.plan(takes, marks, found, model)
    source = pieces[0]
    assert silent and source.source and source.take == 1
    assert source.first >= 95 and source.end <= 265 and source.frames > 110
    rest = [(p.take, p.first, p.end) for p in pieces[1:] if p.take == 1]
    assert (1, 0, source.first) in rest and (1, source.end, 600) in rest
    assert [p.take for p in pieces if p.held_out] == [2]


def test_without_silence_the_stillest_stretch_is_chosen(model: MorphableModel) -> None:
    takes, marks, found = plain([400, 60], model)
    found.pose_N44[100:220, :3, 3] = (0, 0, -60)
    pieces, silent = capture_dataset.plan(takes, marks, found, model)
    assert not silent and pieces[0].source
    assert 90 <= pieces[0].first and pieces[0].end <= 230


def test_one_long_take_is_cut_for_the_last_tenth(model: MorphableModel) -> None:
    takes, marks, found = plain([1000], model)
    pieces, _ = capture_dataset.plan(takes, marks, found, model)
    held = [p for p in pieces if p.held_out]
    assert len(held) == 1 and held[0].end == 1000 and held[0].frames == 100
    assert all(p.end <= 900 - capture_dataset.GAP for p in pieces if not p.held_out)
    trained = np.concatenate([np.arange(p.first, p.end) for p in pieces])
    assert len(set(trained.tolist())) == len(trained)  # no frame twice


def test_takes_end_where_the_face_is_lost(model: MorphableModel) -> None:
    takes, marks, found = plain([300, 100], model)
    marks[0].found[100:120] = False
    marks[0].found[200:203] = False  # too short to cut
    pieces, _ = capture_dataset.plan(takes, marks, found, model)
    assert not any(p.take == 0 and p.first < 120 and p.end > 100 for p in pieces)
    assert any(p.take == 0 and p.first <= 199 and p.end >= 204 for p in pieces)


def test_unknown_held_out_takes_and_too_short_videos_are_refused(model: MorphableModel) -> None:
    takes, marks, found = plain([300, 100], model)
    with pytest.raises(MiravoxError, match="nobody"):
        capture_dataset.plan(takes, marks, found, model, held_out=("nobody",))
    takes, marks, found = plain([40], model)
    with pytest.raises(MiravoxError, match="enough to train on"):
        capture_dataset.plan(takes, marks, found, model)
