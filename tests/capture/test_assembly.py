"""A tracked video becomes a dataset folder that training reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from capture.assembly import labelled, within, write_dataset
from capture.morphable_model import MorphableModel
from dataset.folder import Dataset, load_dataset
from realtime.errors import MiravoxError
from tests.capture.conftest import Tracked


def test_a_dataset_is_read_by_training(tracked: Tracked, model: MorphableModel, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    summary = write_dataset(
        out,
        name="Somebody",
        takes=tracked.takes,
        landmarks=tracked.landmarks,
        track=tracked.track,
        model=model,
        provenance={"videos": ["a.mp4"]},
        licence={"frames": "none"},
        held_out=("take1",),
        phones=[(), (("M", 3, 5),)],
    )
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
    found = labelled(tmp_path, labels)
    assert found == [(("AH1", 0, 20), ("SIL", 20, 60), ("M", 80, 20)), ()]
    assert within(found[0], 10, 22) == (("SIL", 0, 40), ("M", 40, 8))
    labels.write_text(json.dumps({"id": "c", "seconds": 3, "phones": []}))
    with pytest.raises(MiravoxError, match="found labels of c; wanted some of a, b"):
        labelled(tmp_path, labels)
