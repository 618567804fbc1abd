"""A synthetic actor, filmed, coded and tracked as if it were a real person, against the truth."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from capture.energy import TrackConfig, View, vector_of
from capture.landmarks import POINTS, Landmarks
from capture.morphable_model import MorphableModel
from capture.track import load_track
from capture.tracker import track
from realtime.errors import MiravoxError
from tests.capture.conftest import VIEW, Tracked


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
    lost = Landmarks(points=points, found=np.isfinite(points[:, 0, 0]), depth=first.depth, blendshapes=None)
    config = TrackConfig(keyframes=8, photometric=False)
    found = track(tracked.takes[:1], [lost], model, View(600.0, 256.0, 256.0), config)
    assert np.isnan(found.reprojection_N[10:13]).all() and np.isfinite(found.reprojection_N[[9, 13]]).all()
    jump = np.linalg.norm(np.diff(found.pose_N44[8:15, :3, 3], axis=0), axis=1)
    assert jump.max() < 0.3  # cm a frame
    turns = [vector_of(p[:3, :3]) for p in found.pose_N44[8:15].astype(np.float64)]
    assert np.degrees(np.linalg.norm(np.diff(turns, axis=0), axis=1)).max() < 1.5


def test_a_video_without_faces_is_refused(model: MorphableModel) -> None:
    nothing = Landmarks(
        points=np.full((30, POINTS, 2), np.nan, np.float32),
        found=np.zeros(30, bool),
        depth=np.zeros((30, POINTS), np.float32),
        blendshapes=None,
    )
    take = SimpleNamespace(frames=[], frame_count=30)
    with pytest.raises(MiravoxError, match="a face in 0 of 30 frames"):
        track([take], [nothing], model, VIEW)
