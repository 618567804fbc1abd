"""The bitrate follows what networks carry: down soon, up slowly, in steps."""

from __future__ import annotations

import numpy as np

from realtime.stream.rate_control import BITRATES, FRAMES_BEFORE_LOWER, FRAMES_BEFORE_RAISE, START_BITRATE, RateControl


def control(rate: RateControl, frames: range, estimate: int, sent: float = 1.0) -> list[int]:
    """The bitrate of each frame while browsers estimate so much and so much of the bitrate is sent."""
    found = []
    for k in frames:
        found.append(rate.update(estimate, k))
        rate.sent(round(sent * found[-1] / 8 / 25), k)
    return found


def test_bitrate_falls_soon_and_rises_slowly_in_steps() -> None:
    rate = RateControl()
    assert rate.update(None, 0) == START_BITRATE
    assert set(control(rate, range(FRAMES_BEFORE_LOWER), 900_000)) == {START_BITRATE}
    assert control(rate, range(FRAMES_BEFORE_LOWER, 200), 900_000)[-1] == 820_000
    rising = control(rate, range(200, 400 + 2 * FRAMES_BEFORE_RAISE), 5_000_000)
    assert rising[FRAMES_BEFORE_RAISE - 1] == 820_000
    assert list(dict.fromkeys(rising)) == [820_000, 1_150_000, 1_600_000]


def test_bitrate_does_not_follow_every_report() -> None:
    rate, rng = RateControl(), np.random.default_rng(0)
    seen = {control(rate, range(k, k + 1), int(rng.uniform(1.5e6, 2.0e6)))[0] for k in range(2000)}
    assert seen == {START_BITRATE}


def test_little_that_is_sent_is_no_congestion() -> None:
    """A still picture or a busy machine: the estimate is low, because little is sent."""
    assert set(control(RateControl(), range(1000), 450_000, sent=0.2)) == {START_BITRATE}


def test_bitrate_has_a_floor() -> None:
    assert control(RateControl(), range(2000), 1000)[-1] == BITRATES[0]
