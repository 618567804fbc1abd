"""Frames show the actor, where pose and camera say."""

from __future__ import annotations

import numpy as np

from studio.actor import Actor, camera, head_pose, rigid_weight
from studio.renderer import Studio

UPPER, LOWER = 62, 66  # landmarks on the inner lip rims


def test_face_moves_rigidly_with_the_head(actor: Actor) -> None:
    assert rigid_weight(actor.neutral_V3[:6706]).min() == 1


def test_a_frame_shows_the_face_and_the_mouth_moves(studio: Studio) -> None:
    names = studio.actor.model.expression_names
    weights = np.zeros(len(names), np.float32)
    rest = studio.draw(weights, head_pose())
    weights[names.index("jawOpen")] = 0.36
    open_mouth = studio.draw(weights, head_pose())
    assert studio.context.error == "GL_NO_ERROR"
    assert rest.shape == (512, 512, 3) and rest.dtype == np.uint8
    assert 40 < rest.mean() < 200 and rest.std() > 25
    change = np.abs(rest.astype(int) - open_mouth).max(2)
    mouth = change[270:400, 190:320]
    assert (mouth > 30).mean() > 0.1
    assert (change[:150] > 8).mean() < 0.002  # forehead and hair hardly know about the jaw


def test_drawing_is_deterministic(studio: Studio) -> None:
    weights = np.zeros(57, np.float32)
    assert np.array_equal(studio.draw(weights, head_pose(0.05)), studio.draw(weights, head_pose(0.05)))


def test_the_pose_and_camera_of_the_track_say_where_the_mouth_is(studio: Studio) -> None:
    names = studio.actor.model.expression_names
    weights = np.zeros(len(names), np.float32)
    pose = head_pose(0.1, 0.03, 0.02, (0.4, 0.2, 0.0))
    closed = studio.draw(weights, pose).astype(int)
    weights[names.index("jawOpen")] = 0.15
    changed = np.abs(studio.draw(weights, pose) - closed).max(2)
    view = camera()
    lips = studio.actor.landmark(UPPER) * 0.5 + studio.actor.landmark(LOWER) * 0.5
    x, y, z = pose[:3, :3] @ lips + pose[:3, 3]
    column, row = view.cx - view.fx * x / z, view.cy + view.fy * y / z
    near = changed[int(row) - 4 : int(row) + 8, int(column) - 6 : int(column) + 7]
    assert near.max() > 60
