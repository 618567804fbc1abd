"""Which frames become which take, and which are the source loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from capture.landmarks import POINTS, Landmarks
from capture.morphable_model import MorphableModel
from capture.plan import GAP, plan
from capture.track import Track
from capture.video import Take
from realtime.contract import SAMPLES_PER_FRAME
from realtime.errors import MiravoxError
from tests.capture.conftest import VIEW


def plain(lengths: list[int], model: MorphableModel) -> tuple[list[Take], list[Landmarks], Track]:
    """Takes of so many frames, all with a face that speaks and moves; numbers only."""
    total = sum(lengths)
    rng = np.random.default_rng(0)
    pose = np.tile(np.eye(4, dtype=np.float32), (total, 1, 1))
    pose[:, :3, 3] = (0, 0, -60) + np.cumsum(rng.normal(size=(total, 3)) * 0.1, 0)
    delta = np.zeros((total, len(model.expression_names)), np.float32)
    delta[:, model.expression_names.index("jawOpen")] = rng.uniform(0.1, 0.4, total)
    nowhere: Any = None
    takes, marks = [], []
    for k, frames in enumerate(lengths):
        speech = rng.normal(size=frames * SAMPLES_PER_FRAME).astype(np.float32) * 0.1
        takes.append(Take(name=f"t{k}", recording=nowhere, first=0, end=frames, speech=speech))
        marks.append(
            Landmarks(
                points=np.zeros((frames, POINTS, 2), np.float32),
                found=np.ones(frames, bool),
                depth=np.zeros((frames, POINTS), np.float32),
                blendshapes=None,
            )
        )
    track = Track(
        alpha_I=np.zeros(50, np.float32),
        view=VIEW,
        pose_N44=pose,
        delta_NC=delta,
        reprojection_N=np.zeros(total, np.float32),
    )
    return takes, marks, track


def test_the_silent_still_stretch_becomes_the_source(model: MorphableModel) -> None:
    takes, marks, found = plain([500, 600, 150], model)
    still = slice(100, 260)  # of the second take: 6 s and a bit
    takes[1].speech[still.start * SAMPLES_PER_FRAME : still.stop * SAMPLES_PER_FRAME] = 0
    found.pose_N44[600:760, :3, 3] = (0, 0, -60)
    found.delta_NC[600:760] = 0
    pieces, silent = plan(takes, marks, found, model)
    source = pieces[0]
    assert silent and source.source and source.take == 1
    assert source.first >= 95 and source.end <= 265 and source.frames > 110
    rest = [(p.take, p.first, p.end) for p in pieces[1:] if p.take == 1]
    assert (1, 0, source.first) in rest and (1, source.end, 600) in rest
    assert [p.take for p in pieces if p.held_out] == [2]


def test_without_silence_the_stillest_stretch_is_chosen(model: MorphableModel) -> None:
    takes, marks, found = plain([400, 60], model)
    found.pose_N44[100:220, :3, 3] = (0, 0, -60)
    pieces, silent = plan(takes, marks, found, model)
    assert not silent and pieces[0].source
    assert 90 <= pieces[0].first and pieces[0].end <= 230


def test_one_long_take_is_cut_for_the_last_tenth(model: MorphableModel) -> None:
    takes, marks, found = plain([1000], model)
    pieces, _ = plan(takes, marks, found, model)
    held = [p for p in pieces if p.held_out]
    assert len(held) == 1 and held[0].end == 1000 and held[0].frames == 100
    assert all(p.end <= 900 - GAP for p in pieces if not p.held_out)
    trained = np.concatenate([np.arange(p.first, p.end) for p in pieces])
    assert len(set(trained.tolist())) == len(trained)  # no frame twice


def test_takes_end_where_the_face_is_lost(model: MorphableModel) -> None:
    takes, marks, found = plain([300, 100], model)
    marks[0].found[100:120] = False
    marks[0].found[200:203] = False  # too short to cut
    pieces, _ = plan(takes, marks, found, model)
    assert not any(p.take == 0 and p.first < 120 and p.end > 100 for p in pieces)
    assert any(p.take == 0 and p.first <= 199 and p.end >= 204 for p in pieces)


def test_unknown_held_out_takes_and_too_short_videos_are_refused(model: MorphableModel) -> None:
    takes, marks, found = plain([300, 100], model)
    with pytest.raises(MiravoxError, match="nobody"):
        plan(takes, marks, found, model, held_out=("nobody",))
    takes, marks, found = plain([40], model)
    with pytest.raises(MiravoxError, match="enough to train on"):
        plan(takes, marks, found, model)
