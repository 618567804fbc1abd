"""Pairs that the composition network is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset.folder import load_dataset

pytestmark = pytest.mark.usefixtures("torch", "gl_context")


def test_sources_of_composition_pairs_have_a_near_pose(dataset_folder: Path) -> None:
    from training.composition import nearest_sources

    dataset = load_dataset(dataset_folder)
    silent, spoken = list(range(20)), list(range(dataset.takes[1].first, dataset.takes[1].end))
    assert nearest_sources(dataset, spoken, silent, largest_shift=1e-3) == {}
    nearest = nearest_sources(dataset, spoken, silent, largest_shift=1e3)
    assert all(abs(s - t) >= 25 for t, s in nearest.items())
