"""Pictures of painted frames and of their errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.usefixtures("torch", "gl_context")


def test_a_sheet_without_footage_shows_what_was_painted(tmp_path: Path) -> None:
    from bench.fidelity_sheet import save_sheet

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
    from bench.fidelity_sheet import heat_map

    true = np.full((4, 4, 3), 100, np.uint8)
    painted = true.copy()
    painted[0, 0] += 100
    heat = heat_map(painted, true)
    assert heat[0, 0, 0] > heat[0, 0, 2] and heat[1, 1, 2] > heat[1, 1, 0] == 0, "red and blue"
