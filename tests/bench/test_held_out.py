"""Held-out frames: evenly spaced runs within takes, masked for the widest jaw."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from realtime.avatar import load_avatar

pytestmark = pytest.mark.usefixtures("torch")


def test_runs_are_consecutive_and_of_one_take() -> None:
    from bench.held_out import RUN, runs

    takes: Any = [
        SimpleNamespace(first=0, end=23),
        SimpleNamespace(first=23, end=25),
        SimpleNamespace(first=25, end=60),
    ]
    pieces = runs(takes, 25)
    assert len(pieces) == 5 and all(np.diff(piece).tolist() == [1] * (RUN - 1) for piece in pieces)
    assert pieces[0][0] == 0 and pieces[-1][-1] == 59
    assert all(piece[-1] < 23 or piece[0] >= 25 for piece in pieces)


def test_evenly_spaced_frames_reach_both_ends() -> None:
    from bench.held_out import evenly

    assert evenly(list(range(100)), 5) == [0, 25, 50, 74, 99]
    assert evenly([3, 4], 5) == [3, 4]


def test_held_out_takes_are_masked_for_the_widest_jaw_of_training(ada: Path, data_folder: Path) -> None:
    """Takes filmed again lack the training speech, so its widest jaw comes from the provenance."""
    from bench.articulation import template_basis
    from bench.held_out import widest_expression
    from training.inpaint import chin_heights

    avatar = load_avatar(ada)
    geometry = {"triangles": avatar.triangles, "landmark_triangles": avatar.landmark_triangles}
    spoken = SimpleNamespace(held_out=True, phones=(("AA", 0, 10),))
    dataset: Any = SimpleNamespace(takes=[spoken], geometry=geometry, basis=template_basis(avatar))
    widest = widest_expression(avatar, dataset)
    assert widest is not None and float(chin_heights(dataset, widest[None])[0]) < -0.8
    dataset.takes = [SimpleNamespace(held_out=False, phones=spoken.phones)]
    assert widest_expression(avatar, dataset) is None
