"""Rendering as fast as it goes: frames of a recording that is read piece by piece are those of one in memory."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from realtime import load
from realtime.audio.sound_file import open_speech, read_speech
from realtime.avatar import load_avatar
from realtime.stream.offline import frame_count, render_frames
from tests.sounds import write_pcm16

SIZE = 128


@pytest.fixture
def long(tmp_path: Path, ada: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A second and a half of her sample, which counts as long."""
    monkeypatch.setattr("realtime.audio.sound_file.HELD_SECONDS", 0.5)
    monkeypatch.setattr("realtime.audio.sound_decoder.PIECE_SECONDS", 0.19)  # no whole number of frames
    speech = read_speech(load_avatar(ada).sample).samples[8_000 : 8_000 + 24_100]
    return write_pcm16(tmp_path / "a.wav", 16_000, speech[:, None])


def test_a_long_recording_is_rendered_as_it_is_read(ada: Path, gl_context: object, long: Path) -> None:
    """Hours of speech lay in memory, twice."""
    avatar, samples = load_avatar(ada), read_speech(long).samples
    with ThreadPoolExecutor(1) as background, open_speech(long) as speech:
        assert not speech.is_held and frame_count(speech) == frame_count(samples) == 38
        with contextlib.closing(render_frames(avatar, samples, "baked", SIZE, background)) as frames:
            wanted = [(picture.to_ndarray(), block) for picture, block in frames]
        with contextlib.closing(render_frames(avatar, speech, "baked", SIZE, background)) as frames:
            for (picture, block), (wanted_picture, wanted_block) in zip(frames, wanted, strict=True):
                assert np.array_equal(picture.to_ndarray(), wanted_picture)
                assert block.start == wanted_block.start and np.array_equal(block.samples, wanted_block.samples)
    said = np.concatenate([block.samples for _, block in wanted])
    assert np.array_equal(said[: len(samples)], samples) and not said[len(samples) :].any()


def test_a_long_recording_through_the_python_interface(ada: Path, gl_context: object, long: Path) -> None:
    avatar, samples = load(ada, target="baked"), read_speech(long).samples
    with avatar.render(long, size=SIZE) as frames:
        assert len(frames) == 38
        said = np.concatenate([frame.samples for frame in frames])
    assert np.array_equal(said[: len(samples)], samples)
    with avatar.render(long, size=SIZE) as frames:  # left early
        assert next(frames).index == 0
