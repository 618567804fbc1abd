"""What is given up when frames come late: in order, counted, taken back, and not again at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.frames import FULL_QUALITY, FrameCount, Quality
from realtime.stream import degradation
from realtime.stream.degradation import LATE_FRAMES, PATIENCE_FRAMES, WATCHED_FRAMES, Degradation

QUALITIES = (FULL_QUALITY, Quality(refined=False), Quality(refined=False, halved=True))
BOTH: list[str] = [FrameCount.UNREFINED, FrameCount.HALVED]


def given_up(ladder: Degradation) -> list[str]:
    return list(ladder.quality.given_up)


def note(ladder: Degradation, *late: bool) -> None:
    for one in late:
        ladder.note(one)


def test_steps_are_given_up_in_order_and_taken_back() -> None:
    ladder = Degradation(QUALITIES)
    assert ladder.quality == FULL_QUALITY and given_up(ladder) == []
    note(ladder, *LATE_FRAMES * [True])
    assert given_up(ladder) == BOTH[:1]
    note(ladder, *2 * LATE_FRAMES * [True])
    assert given_up(ladder) == BOTH, "there is no third step"
    note(ladder, *PATIENCE_FRAMES * [False])
    assert given_up(ladder) == BOTH[:1]
    note(ladder, *PATIENCE_FRAMES * [False])
    assert given_up(ladder) == []


def test_a_pipeline_with_one_quality_keeps_it() -> None:
    ladder = Degradation((FULL_QUALITY,))
    note(ladder, *5 * LATE_FRAMES * [True])
    assert ladder.quality == FULL_QUALITY


def test_a_hiccup_gives_nothing_up() -> None:
    ladder = Degradation(QUALITIES)
    for _ in range(10):
        note(ladder, *(LATE_FRAMES - 1) * [True], *WATCHED_FRAMES * [False])
    assert given_up(ladder) == []


def test_taking_back_too_soon_makes_it_patient_until_it_lasts() -> None:
    """On a machine that is too slow for the whole frame the step is not tried every two seconds."""
    ladder = Degradation(QUALITIES)
    note(ladder, *LATE_FRAMES * [True], *PATIENCE_FRAMES * [False])
    assert given_up(ladder) == []
    note(ladder, *LATE_FRAMES * [True], *PATIENCE_FRAMES * [False])
    assert given_up(ladder) == BOTH[:1], "twice as long now"
    note(ladder, *PATIENCE_FRAMES * [False])
    assert given_up(ladder) == []
    note(ladder, *2 * PATIENCE_FRAMES * [False])  # this time it lasts
    note(ladder, *LATE_FRAMES * [True], *PATIENCE_FRAMES * [False])
    assert given_up(ladder) == [], "as quickly as at first"


class Frames:
    """A tap that only makes the session render."""

    def frame(self, frame: Any) -> None: ...

    def speech(self, block: Any) -> None: ...

    def close(self) -> None: ...


@pytest.mark.usefixtures("gl_context")
def test_a_session_that_is_held_up_gives_up_both_and_recovers(ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every face takes 60 ms, then hardly any time."""
    from realtime.avatar import load_avatar
    from realtime.face.pipeline import FacePipeline
    from realtime.stream.session import Session

    delay = 0.06

    def held_up(self: FacePipeline, frame_index: int, quality: Quality = FULL_QUALITY) -> Any:
        time.sleep(delay)
        return np.zeros((*self.inpaint.box_size[::-1], 4), np.uint8)  # a busy machine must not hold up the recovery

    monkeypatch.setattr(FacePipeline, "paint", held_up)
    monkeypatch.setattr(degradation, "PATIENCE_FRAMES", 5)

    async def watch() -> tuple[dict[str, Any], dict[str, Any]]:
        nonlocal delay
        session = Session(load_avatar(ada), "baked", 128, None)
        await session.load()
        session.taps.append(Frames())
        session.start()
        try:
            held = await wait_for(session, BOTH)
            delay = 0.0
            return held, await wait_for(session, [])
        finally:
            await session.close()

    async def wait_for(session: Any, given_up: list[str]) -> dict[str, Any]:
        for _ in range(1200):
            status: dict[str, Any] = session.status()
            if status["given_up"] == given_up and status["frames"]["rendered"] > 10:
                return status
            await asyncio.sleep(0.05)
        raise AssertionError(f"after a minute {status}")

    held, recovered = asyncio.run(watch())
    assert held["frames"]["unrefined"] > 0
    assert recovered["frames"]["halved"] > 0


@pytest.mark.usefixtures("gl_context")
@pytest.mark.parametrize("target", ["baked", "onnx"])
def test_what_is_given_up_hardly_shows(ada: Path, target: str) -> None:
    """A frame without refinement, and a face of half the resolution, are near the whole ones, and not the same."""
    from realtime.audio.block import Block
    from realtime.audio.ring import AudioRing
    from realtime.audio.sound_file import read_speech
    from realtime.avatar import load_avatar
    from realtime.contract import SAMPLE_RATE
    from realtime.face.pipeline import FacePipeline
    from realtime.face.yuv import RgbConverter

    avatar = load_avatar(ada)
    ring = AudioRing(2 * SAMPLE_RATE)
    ring.write(Block(0, read_speech(avatar.sample).samples[: 2 * SAMPLE_RATE]))
    with FacePipeline(avatar, ring, target) as pipeline:
        whole = pipeline.paint(20)
        halved = pipeline.paint(20, QUALITIES[2])
        assert whole.shape == halved.shape and not np.array_equal(whole, halved)
        both = (whole[..., 3] > 0) & (halved[..., 3] > 0)
        assert both.sum() > 0.97 * (whole[..., 3] > 0).sum()
        assert psnr(whole[both], halved[both]) > 24
        to_rgb = RgbConverter()
        refined, plain = (to_rgb(pipeline.finish(20, whole, q).picture) for q in QUALITIES[:2])
        assert psnr(refined, plain) > 34 and not np.array_equal(refined, plain)


def psnr(a: Any, b: Any) -> float:
    return float(-10 * np.log10(np.mean(((a.astype(np.float64) - b) / 255) ** 2)))
