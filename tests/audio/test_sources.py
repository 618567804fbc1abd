"""A recording as a source: a short one is queued at once, a long one is read a few seconds ahead by its own thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from realtime.arrays import FloatArray
from realtime.audio.input import AudioInput
from realtime.audio.sound_file import open_speech, read_speech
from realtime.audio.sources import AHEAD_SAMPLES, Recording
from tests.sounds import chunk, form, pcm16, riff, voice, write_pcm16

PATIENCE = 30.0  # seconds, for another thread


class Input:
    """What a recording needs of an AudioInput; a test says when little is queued."""

    def __init__(self) -> None:
        self.pieces: list[FloatArray] = []
        self.ends = 0
        self.on_low: Callable[[], None] | None = None
        self.state = SimpleNamespace(queued_seconds=1.0)
        self._changed = threading.Condition()

    def attach(self, live: bool, on_low: Callable[[], None] | None = None) -> Input:
        assert not live
        self.on_low = on_low
        return self

    def push(self, samples: FloatArray) -> None:
        with self._changed:
            self.pieces.append(samples)
            self._changed.notify_all()

    def end_segment(self) -> None:
        with self._changed:
            self.ends += 1
            self._changed.notify_all()

    @property
    def samples(self) -> int:
        return sum(map(len, self.pieces))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE)

    def wait_for_more(self, before: int, ends: int) -> None:
        self.wait_for(lambda: self.samples > before or self.ends == ends)

    def low(self) -> None:
        assert self.on_low is not None
        self.on_low()


def recording(path: Path, heard: Input, loop: bool) -> Recording:
    return Recording(cast(AudioInput, heard), open_speech(path), path.name, "file", loop)


def ended(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_a_short_one_is_queued_at_once(tmp_path: Path) -> None:
    path, heard = write_pcm16(tmp_path / "a.wav", 16_000, voice(1.0)[:, None]), Input()
    source = recording(path, heard, loop=True)
    np.testing.assert_allclose(np.concatenate(heard.pieces), voice(1.0), atol=1e-4)
    assert heard.ends == 1
    heard.low()
    assert heard.ends == 2 and heard.samples == 32_000
    source.close()


@pytest.fixture
def long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve seconds, and all that is longer than two counts as long."""
    monkeypatch.setattr("realtime.audio.sound_file.HELD_SECONDS", 2.0)
    return write_pcm16(tmp_path / "a.wav", 16_000, voice(12.0)[:, None])


def test_a_long_one_is_read_a_few_seconds_ahead(long: Path) -> None:
    """Hours of speech lay in memory."""
    wanted, heard = read_speech(long).samples, Input()
    source = recording(long, heard, loop=False)
    heard.wait_for(lambda: heard.samples >= AHEAD_SAMPLES)
    assert heard.samples < AHEAD_SAMPLES + 32_000 and source.state().state == "live"
    long.unlink()  # what was sent to a server is removed once it is open
    while heard.ends == 0:
        before = heard.samples
        heard.low()
        heard.wait_for_more(before, ends=1)
        assert heard.samples < before + AHEAD_SAMPLES + 48_000
    ended("recording")
    np.testing.assert_allclose(np.concatenate(heard.pieces), wanted, atol=1e-6)
    assert source.state().state == "live", "the last seconds are queued"
    heard.state.queued_seconds = 0.0
    assert source.state().state == "ended"


def test_a_long_one_is_said_again_and_again(long: Path) -> None:
    heard = Input()
    source = recording(long, heard, loop=True)
    while heard.ends < 2:
        before = heard.samples
        heard.low()
        heard.wait_for_more(before, ends=2)
    whole = np.concatenate(heard.pieces)
    np.testing.assert_allclose(whole[12 * 16_000 : 24 * 16_000], whole[: 12 * 16_000], atol=1e-6)
    source.close()
    ended("recording")
    assert source.state().state == "live"


def test_closing_ends_the_thread_and_gives_the_file_back(long: Path) -> None:
    heard = Input()
    source = recording(long, heard, loop=True)
    heard.wait_for(lambda: heard.samples >= AHEAD_SAMPLES)
    source.close()
    source.close()
    ended("recording")
    assert heard.samples < AHEAD_SAMPLES + 48_000


def test_a_long_one_that_is_changed_meanwhile_is_told(long: Path) -> None:
    heard = Input()
    source = recording(long, heard, loop=True)
    heard.wait_for(lambda: heard.samples >= AHEAD_SAMPLES)
    long.write_bytes(b"no sound any more")
    while source.state().state == "live" and any(t.name == "recording" for t in threading.enumerate()):
        heard.low()
    state = source.state()
    assert state.state == "lost" and state.message is not None and "no recording" in state.message


def test_what_was_repaired_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, heard = tmp_path / "a.wav", Input()
    path.write_bytes(riff(form(), chunk(b"data", pcm16(voice(1.0)), 0)))
    told = "its header promises 0 bytes of sound where 32000 are: they are read"
    assert recording(path, heard, loop=True).state().message == told
    assert caplog.messages == [f"a.wav: {told}"]
