"""An avatar that speaks in real time, on a pipeline that draws nothing: what comes out, and that it ends."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime.audio.block import Block
from realtime.audio.playback import PlaybackFinished, PlaybackStarted
from realtime.avatar import load_avatar
from realtime.errors import MiravoxError
from realtime.frames import Frame
from realtime.stream import live_avatar
from realtime.stream.live_avatar import LiveAvatar
from tests.fake_pipeline import SIZE, FakePipeline


class Taken:
    """What a live avatar gave."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.blocks: list[Block] = []
        self.news: list[Any] = []
        self.enough = threading.Event()

    def frame(self, frame: Frame) -> None:
        self.frames.append(frame)
        if len(self.frames) >= 5:
            self.enough.set()


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    made = FakePipeline()
    monkeypatch.setattr(live_avatar, "open_pipeline", lambda *_: made)
    return made


def make(ada: Path, taken: Taken, **options: Any) -> LiveAvatar:
    avatar = load_avatar(ada)
    return LiveAvatar(
        avatar,
        "baked",
        SIZE,
        on_speech=taken.blocks.append,
        on_frame=taken.frame,
        on_playback=taken.news.append,
        **options,
    )


def test_frames_and_speech_come_out_and_every_thread_ends(ada: Path, pipeline: FakePipeline) -> None:
    before, taken = set(threading.enumerate()), Taken()
    live = make(ada, taken)
    live.start()
    feed = live.input.attach(live=False)
    feed.push(np.full(3200, 0.5, np.float32))
    feed.end_segment()
    assert taken.enough.wait(60)
    live.close()
    assert [frame.index for frame in taken.frames] == sorted({frame.index for frame in taken.frames})
    speech = np.concatenate([block.samples for block in taken.blocks])
    assert np.count_nonzero(speech) > 0 and taken.blocks[0].start == 0
    assert pipeline.closed and live.failure is None
    assert set(threading.enumerate()) <= before
    count = len(taken.frames)
    live.close()
    assert len(taken.frames) == count, "closing again does nothing"


def test_playback_is_told(ada: Path, pipeline: FakePipeline) -> None:
    taken = Taken()
    live = make(ada, taken)
    feed = live.input.attach(live=False)
    feed.push(np.full(640, 0.5, np.float32))
    feed.end_segment()
    live.start()
    assert taken.enough.wait(60)
    live.input.played(100_000)
    live.close()
    assert taken.news == [PlaybackStarted(), PlaybackFinished(0.04, interrupted=False)]


def test_nothing_is_made_while_nobody_takes_it(ada: Path, pipeline: FakePipeline) -> None:
    taken = Taken()
    live = make(ada, taken, wanted=lambda: False)
    live.start()
    live.input.attach(live=False)
    assert not taken.enough.wait(0.5) and not pipeline.painted
    live.close()


def test_an_avatar_that_was_never_started_closes(ada: Path, pipeline: FakePipeline) -> None:
    live = make(ada, Taken())
    live.wait_until_ready()
    live.close()
    assert pipeline.closed


def test_what_stands_in_the_way_is_raised_and_nothing_stays(ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MiravoxError("OpenGL", found="none", wanted="3.3", remedy="Install it.")

    monkeypatch.setattr(live_avatar, "open_pipeline", fails)
    before = set(threading.enumerate())
    live = make(ada, Taken())
    with pytest.raises(MiravoxError, match="OpenGL"):
        live.start()
    live.close()
    assert isinstance(live.failure, MiravoxError) and set(threading.enumerate()) <= before
