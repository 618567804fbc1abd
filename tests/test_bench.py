"""The measuring code: known inputs give known figures, and every result says where it comes from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from realtime.avatar import load_avatar
from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch", "gl_context")


def test_lips_part_at_the_widest_jaw(ada: Path, data_folder: Path) -> None:
    """The deformation network's aperture, driven by the speech, is within 2 mm of the truth."""
    from bench.articulation import LipTracker, template_basis, widest_jaw
    from realtime.avatar import load_avatar

    avatar = load_avatar(ada)
    widest = widest_jaw(avatar, LipTracker(avatar, template_basis(avatar)))
    true, predicted = widest["true_mm"], widest["predicted_mm"]
    assert isinstance(true, float) and isinstance(predicted, float)
    assert true > 12 and abs(predicted - true) < 2, widest


def test_runs_are_consecutive_and_of_one_take() -> None:
    from bench.fidelity import RUN, runs

    takes: Any = [
        SimpleNamespace(first=0, end=23),
        SimpleNamespace(first=23, end=25),
        SimpleNamespace(first=25, end=60),
    ]
    pieces = runs(takes, 25)
    assert len(pieces) == 5 and all(np.diff(piece).tolist() == [1] * (RUN - 1) for piece in pieces)
    assert pieces[0][0] == 0 and pieces[-1][-1] == 59
    assert all(piece[-1] < 23 or piece[0] >= 25 for piece in pieces)


def test_fidelity_measures_every_network_and_the_thesis_stands_beside(measured_lips: dict[str, Any]) -> None:
    """A run painted wrongly by ten grey levels, and displaced by a millimetre back and forth."""
    from bench.fidelity import Painted, Rows, measure_run, table

    rng = np.random.default_rng(0)
    size = (64, 64)
    mask = np.zeros(size, np.float32)
    mask[16:48, 16:48] = 1
    inside = mask == 1
    still = np.zeros((3, 3), np.float32)

    class Watched:
        dataset = SimpleNamespace(geometry={"triangles": np.array([[0, 1, 2]])})

        def regions(self, frame: int, painted: Painted) -> dict[str, np.ndarray]:
            return {"face": inside, "lower_face": inside, "mouth": np.zeros(size, bool)}

        def teeth(self, frame: int, size: tuple[int, int]) -> np.ndarray:
            return inside if frame < 2 else np.zeros(size, bool)

        def steady(self, frame: int, painted: Painted) -> tuple[np.ndarray, np.ndarray]:
            return np.array([[30.5, 30.5], [5.5, 5.5]]), np.array([True, False])

        def vertices(self, frame: int) -> np.ndarray:
            return still

    true = [rng.integers(60, 200, (*size, 3)).astype(np.uint8) for _ in range(4)]
    painted = [
        Painted((t + 10 * inside[..., None]).astype(np.uint8), mask, inside, still + 0.1 * (k % 2))
        for k, t in enumerate(true)
    ]
    rows, watched = Rows(), Watched()
    measure_run(rows, cast(Any, watched), [0, 1, 2, 3], painted, true)
    figures = rows.figures()
    face, frame = (cast(dict[str, float], figures[k]) for k in ("face", "frame"))
    assert face["psnr"] == pytest.approx(20 * np.log10(25.5), abs=0.01) and "mouth" not in figures
    assert frame["mse"] == pytest.approx((10 / 255) ** 2 / 4)
    assert figures["teeth_sharpness"] == pytest.approx(1, abs=0.1) and len(rows.teeth) == 2
    assert figures["flicker_ratio"] == pytest.approx(1), "ten levels more are as steady"
    jitter = cast(dict[str, float], figures["jitter_mm"])
    assert jitter["predicted"] == pytest.approx(20 * 0.1 * np.sqrt(3)) and jitter["true"] == 0

    spoken = {"own_voice": measured_lips, "never_heard": measured_lips}
    known = {"aperture_mm": 1.2, "width_mm": 0.5, "closure": 0.9, **spoken}
    text = table({"onnx": figures, "geometry": known, "lse": None, "lse_reason": "no weights"}, 0.08)
    assert "Table 4.5, six actors | not said | 37.79" in text and "| onnx | face | 28.13 |" in text
    assert "| own voice | 1.20 (1.00 to 1.40) | 0.80 | 0.50 | 90 % of 19 (69 to 97) | 5.0 % of 60 |" in text
    assert "LSE: no weights" in text and "8.0 % of the frame" in text
    nothing = {"share": None, "of": 0, "interval": (0, 1)}
    unlabelled = {**measured_lips, "counts": {"closures": nothing, "vowels": nothing}}
    captured = {"own_voice": unlabelled, "never_heard": None}
    text = table({"onnx": figures, "geometry": captured, "lse": None, "lse_reason": "no weights"}, 0.08)
    assert "| own voice | 1.20 (1.00 to 1.40) | 0.80 | 0.50 | not known | not known |" in text
    assert "never heard" not in text and "8.0 % of the frame" in text


def test_a_sheet_without_footage_shows_what_was_painted(tmp_path: Path) -> None:
    from bench.fidelity import save_sheet

    true, painted = np.full((8, 8, 3), 200, np.uint8), np.full((8, 8, 3), 100, np.uint8)
    region = np.zeros((8, 8), bool)
    region[4:] = True
    mesh = np.full((8, 8, 3), 50, np.uint8)
    save_sheet({7: true}, {"baked": {7: painted}, "other": {}}, [{7: mesh}, {}], [7], tmp_path / "a.png")
    save_sheet({7: true}, {"baked": {7: painted}}, [{7: mesh}], [7], tmp_path / "b.png", {7: region})
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        shown, hidden = np.asarray(a), np.asarray(b)
    assert shown.shape == (32, 8, 3) and (shown[:8] == 200).all() and (shown[8:16] == 100).all()
    assert hidden.shape == (24, 8, 3) and not hidden[:4].any() and (hidden[4:8] == 100).all()
    assert np.array_equal(hidden[8:], shown[16:])


def test_errors_are_coloured_by_size() -> None:
    from bench.fidelity import heat_map

    true = np.full((4, 4, 3), 100, np.uint8)
    painted = true.copy()
    painted[0, 0] += 100
    heat = heat_map(painted, true)
    assert heat[0, 0, 0] > heat[0, 0, 2] and heat[1, 1, 2] > heat[1, 1, 0] == 0, "red and blue"


def test_closures_are_found_within_the_phone() -> None:
    from bench.articulation import interval, phone_minima
    from training.phones import Utterance

    phones = (("AA", 0, 20), ("M", 20, 8), ("AA", 28, 20), ("P", 48, 4))
    utterance = Utterance("test", "test", 0.52, "", phones, True)
    gaps = np.full(13, 9.0, np.float32)
    gaps[6] = 1.0  # at 240 ms, within the M
    assert phone_minima(gaps, utterance, ("P", "B", "M")) == [1.0, 9.0]
    low, high = interval(9, 10)
    assert 0.55 < low < 0.9 < high < 1 and interval(0, 0) == (0.0, 1.0)


def test_open_vowels_count_as_closed_only_if_never_open() -> None:
    from bench.articulation import OPEN, phone_maxima
    from training.phones import Utterance

    utterance = Utterance("test", "test", 0.6, "", (("M", 0, 12), ("AH1", 12, 12), ("P", 24, 36)), True)
    gaps = np.array([0.5] * 4 + [6.0] + [0.5] * 10, np.float32)
    assert phone_maxima(gaps, utterance, OPEN) == [6.0]
    assert phone_maxima(np.full(15, 0.5, np.float32), utterance, OPEN) == [0.5]


def test_silence_is_long_and_quiet() -> None:
    """Far enough from its ends, and not a word that the labels lack."""
    from bench.articulation import is_loud, silent_frames
    from training.phones import Utterance

    phones = (("AA", 0, 100), ("SIL", 100, 60), ("AA", 160, 20), ("SIL", 180, 20))
    utterance = Utterance("test", "test", 2.0, "", phones, True)
    assert silent_frames(utterance, 50) == list(range(28, 37)), "from 1120 to 1480 ms; the second is too short"
    speech = np.zeros(32_000, np.float32)
    speech[:16_000] = 0.1
    speech[640 * 33 : 640 * 34] = 0.1
    assert [k for k in silent_frames(utterance, 50) if is_loud(speech, k)] == [32, 33, 34]


def test_evenly_spaced_frames_reach_both_ends() -> None:
    from bench.fidelity import evenly

    assert evenly(list(range(100)), 5) == [0, 25, 50, 74, 99]
    assert evenly([3, 4], 5) == [3, 4]


def test_results_say_where_they_come_from(tmp_path: Path) -> None:
    from bench.record import save

    save({"fps": 1.0}, {"size": 512}, tmp_path / "new" / "result.json")
    result = json.loads((tmp_path / "new" / "result.json").read_text())
    assert result["fps"] == 1.0 and result["config"] == {"size": 512}
    assert result["hardware"]["cores"] >= 1 and result["hardware"]["opengl"]
    assert {"python", "numpy", "torch"} <= set(result["versions"]) and result["commit"]


def test_held_out_takes_are_masked_for_the_widest_jaw_of_training(ada: Path, data_folder: Path) -> None:
    """Takes filmed again lack the training speech, so its widest jaw comes from the provenance."""
    from bench.articulation import template_basis
    from bench.fidelity import widest_expression
    from realtime.avatar import load_avatar
    from training.inpaint import chin_heights

    avatar = load_avatar(ada)
    geometry = {"triangles": avatar.triangles, "landmark_triangles": avatar.landmark_triangles}
    spoken = SimpleNamespace(held_out=True, phones=(("AA", 0, 10),))
    dataset: Any = SimpleNamespace(takes=[spoken], geometry=geometry, basis=template_basis(avatar))
    widest = widest_expression(avatar, dataset)
    assert widest is not None and float(chin_heights(dataset, widest[None])[0]) < -0.8
    dataset.takes = [SimpleNamespace(held_out=False, phones=spoken.phones)]
    assert widest_expression(avatar, dataset) is None


def test_a_captured_persons_lips_are_held_against_the_tracked_ones(ada: Path, data_folder: Path) -> None:
    """On held-out takes alone; closures only where phones are known."""
    from bench.articulation import LipTracker, template_basis
    from bench.fidelity import geometry, widest_expression
    from studio.face_model import load_face_model
    from studio.speech_curves import expression_curves
    from training.phones import load_utterances

    avatar = load_avatar(ada)
    captured = replace(avatar, info={**avatar.info, "provenance": {"dataset": {"generator": "capture"}}})
    with pytest.raises(MiravoxError, match="captured, whose true lips nobody knows"):
        template_basis(captured)
    utterance = next(u for u in load_utterances(data_folder) if u.corpus == "grid_s1" and u.held_out)
    basis, names = template_basis(avatar), load_face_model().expression_names
    curves = expression_curves(utterance.phones, 75, names)
    take = SimpleNamespace(
        corpus="capture", name="a", first=10, end=85, frames=75, held_out=True, phones=utterance.phones,
        speech=utterance.path(data_folder),
    )  # fmt: skip
    silent = SimpleNamespace(first=0, end=10, held_out=False, phones=())
    whole = np.concatenate([np.zeros((10, len(names)), np.float32), curves])
    dataset: Any = SimpleNamespace(takes=[silent, take], basis=basis, expression=whole)
    found: Any = geometry(captured, dataset)
    assert found["never_heard"] is None and found["own_voice"]["counts"]["closures"]["of"] > 0
    assert found["own_voice"]["recordings"] == 1 and found["own_voice"]["frames"] == 75
    assert found["aperture_mm"] < 3 and found["own_voice"]["aperture_correlation"] > 0.5
    # Without phones there is nothing to close on.
    take.phones = ()
    found = geometry(captured, dataset)
    assert found["closure"] is None and found["own_voice"]["open_vowel_mm"] is None and found["aperture_mm"] < 3
    # Another truth, another error: the jaw hangs.
    jaw = np.zeros(len(names), np.float32)
    jaw[names.index("jawOpen")] = 0.3
    tracker = LipTracker(avatar, basis)
    further = tracker.true(jaw).gap - tracker.rest_gap
    dataset.expression = np.linspace(0.9, 1.1, 85, dtype=np.float32)[:, None] * jaw
    hanging: Any = geometry(captured, dataset)
    assert further > 3 and hanging["aperture_mm"] > found["aperture_mm"]
    assert widest_expression(captured, dataset) is None


def test_own_voice_is_that_of_most_filmed_speech(ada: Path) -> None:
    from bench.articulation import own_corpus

    avatar = load_avatar(ada)
    assert own_corpus(avatar) == "ljspeech"
    recipe = avatar.info["provenance"]["dataset"]
    info = {**avatar.info, "provenance": {"dataset": {**recipe, "speech": ["grid_s1/a", "ljspeech/b", "grid_s1/c"]}}}
    assert own_corpus(replace(avatar, info=info)) == "grid_s1"


def test_every_command_is_a_module_with_options(capsys: pytest.CaptureFixture[str]) -> None:
    import importlib

    from bench.__main__ import COMMANDS, WITHOUT_RESULT, parse

    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            parse([name, "--help"])
        text = capsys.readouterr().out
        assert ended.value.code == 0 and f"python -m bench {name}" in text
        assert ("--json" in text) == (name not in WITHOUT_RESULT)
        assert callable(importlib.import_module(f"bench.{name}").run)
    assert parse(["stages", "--seconds", "2"]).avatar.name == "ada"
