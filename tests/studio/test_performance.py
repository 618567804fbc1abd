"""What the actor does besides speaking: within limits, and the same for the same seed."""

from __future__ import annotations

import numpy as np

from studio.actor import Actor
from studio.performance import perform


def test_performance_follows_from_its_seed(actor: Actor) -> None:
    names = actor.model.expression_names
    quiet = np.zeros(200)
    first, again, other = perform(quiet, 1, names), perform(quiet, 1, names), perform(quiet, 2, names)
    assert np.array_equal(first.pose_F44, again.pose_F44) and np.array_equal(first.expression_FC, again.expression_FC)
    assert not np.array_equal(first.pose_F44, other.pose_F44)


def test_performance_stays_within_its_limits(actor: Actor) -> None:
    names = actor.model.expression_names
    for still, limit in ((True, 3.01), (False, 8.01)):
        act = perform(np.zeros(1500), 5, names, still=still)
        yaw = np.degrees(np.arctan2(act.pose_F44[:, 0, 2], act.pose_F44[:, 2, 2]))
        assert np.abs(yaw).max() < limit and yaw.std() > 0.3
        blink = act.expression_FC[:, names.index("eyeBlink_L")]
        blinks = np.count_nonzero((blink[1:] > 0.5) & (blink[:-1] <= 0.5))
        assert 9 <= blinks <= 31  # a minute, one every 2 to 6 s
        mouth = [c for c, name in enumerate(names) if name.startswith(("mouth", "jaw"))]
        assert not act.expression_FC[:, mouth].any()
