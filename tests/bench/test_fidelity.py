"""Fidelity: painted frames whose errors are known give their figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from realtime.avatar import load_avatar
from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch", "gl_context")


def test_fidelity_measures_every_network_and_the_thesis_stands_beside(measured_lips: dict[str, Any]) -> None:
    """A run painted wrongly by ten grey levels, and displaced by a millimetre back and forth."""
    from bench.fidelity_table import table
    from bench.frame_figures import Rows, measure_run
    from bench.reenactment import Painted

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
        Painted(
            image=(t + 10 * inside[..., None]).astype(np.uint8),
            mask=mask,
            covered=inside,
            vertices=still + 0.1 * (k % 2),
        )
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


def test_a_captured_persons_lips_are_held_against_the_tracked_ones(ada: Path, data_folder: Path) -> None:
    """On held-out takes alone; closures only where phones are known."""
    from bench.articulation import LipTracker, template_basis
    from bench.fidelity import geometry
    from bench.held_out import widest_expression
    from dataset.phones import load_utterances
    from dataset.speech_curves import expression_curves
    from studio.face_model import load_face_model

    avatar = load_avatar(ada)
    captured = replace(avatar, info={**avatar.info, "provenance": {"dataset": {"generator": "capture"}}})
    with pytest.raises(MiravoxError, match="captured, whose true lips nobody knows"):
        template_basis(captured)
    utterance = next(u for u in load_utterances(data_folder) if u.corpus == "grid_s1" and u.held_out)
    basis, names = template_basis(avatar), load_face_model().expression_names
    curves = expression_curves(utterance.phones, 75, names)
    take = SimpleNamespace(
        corpus="capture",
        name="a",
        first=10,
        end=85,
        frames=75,
        held_out=True,
        phones=utterance.phones,
        speech=utterance.path(data_folder),
    )
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
