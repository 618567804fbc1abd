"""The frames of a recording: the pipeline's own, on any thread, and nothing is left when they are closed."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from realtime import Avatar, MiravoxError, load
from realtime.audio.sound_file import read_speech
from realtime.avatar import load_avatar
from realtime.face.pipeline import FacePipeline
from realtime.face.yuv import RgbConverter
from realtime.frames import FULL_QUALITY, Quality
from realtime.stream.offline import render_frames
from tests.conftest import ROOT, lacking

SIZE = 128
RATE = 16_000
THREADS = ("render", "read ahead")


@pytest.fixture(scope="module")
def avatar(ada: Path) -> Avatar:
    return load(ada, target="baked")


@pytest.fixture(scope="module")
def speech(avatar: Avatar) -> np.ndarray:
    """From the first words of her sample: ten frames and a half."""
    return read_speech(avatar.sample).samples[8_000 : 8_000 + 6_720]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith(THREADS):
            thread.join(10)
            assert not thread.is_alive(), thread.name


def test_frames_are_the_pipelines_own(avatar: Avatar, speech: np.ndarray) -> None:
    frames = list(avatar.render(speech, RATE, size=SIZE))
    with ThreadPoolExecutor(1) as background:
        rendered = list(render_frames(load_avatar(avatar.folder), speech, "baked", SIZE, background))
    to_rgb = RgbConverter()
    assert [frame.index for frame in frames] == list(range(11))
    for frame, (picture, _) in zip(frames, rendered, strict=True):
        assert frame.rgb.dtype == np.uint8 and frame.rgb.shape == (SIZE, SIZE, 3)
        assert np.array_equal(frame.rgb, to_rgb(picture))
    said = np.concatenate([frame.samples for frame in frames])
    assert said.dtype == np.float32 and len(said) == 11 * 640
    assert np.array_equal(said[: len(speech)], speech) and not said[len(speech) :].any()
    mouth = np.stack([frame.rgb for frame in frames])[:, 70:110, 35:95].astype(int)
    assert np.abs(mouth - mouth[0]).max() > 30, "the mouth moves"


def test_a_file_says_what_its_samples_say(avatar: Avatar) -> None:
    samples = read_speech(avatar.sample).samples
    with avatar.render(avatar.sample) as by_path, avatar.render(str(avatar.sample)) as by_name:
        with avatar.render(samples, RATE) as by_samples:
            assert len(by_path) == len(by_name) == len(by_samples) == -(-len(samples) // 640)
            for one, other, third in zip(by_path, by_name, by_samples, strict=False):
                assert one.rgb.shape == (512, 512, 3)
                assert np.array_equal(one.rgb, other.rgb) and np.array_equal(one.rgb, third.rgb)
                assert np.array_equal(one.samples, third.samples)
                if one.index == 3:
                    break


def test_another_rate_is_the_same_speech(avatar: Avatar) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(12_000) / 48_000)
    stereo = np.stack([tone, tone], 1)
    with avatar.render((stereo * 32767).astype(np.int16), 48_000, size=SIZE) as frames:
        said = np.concatenate([frame.samples for frame in frames])
    assert len(said) == 7 * 640  # a quarter of a second, and what is missing in the last frame
    assert np.abs(said[200:3800] - 0.5 * np.sin(2 * np.pi * 200 * np.arange(200, 3800) / RATE)).max() < 0.01


def test_one_sample_is_a_frame(avatar: Avatar) -> None:
    (frame,) = avatar.render([0.5], RATE, size=SIZE)
    assert frame.samples[0] == 0.5 and not frame.samples[1:].any()


def test_what_is_given_out_is_the_callers_own(avatar: Avatar, speech: np.ndarray) -> None:
    kept = [frame.rgb.copy() for frame in avatar.render(speech, RATE, size=SIZE)]
    for frame in avatar.render(speech, RATE, size=SIZE):
        assert np.array_equal(frame.rgb, kept[frame.index])
        frame.rgb[:], frame.samples[:] = 0, 0


def test_any_thread_may_ask(avatar: Avatar, speech: np.ndarray) -> None:
    frames = avatar.render(speech, RATE, size=SIZE)
    kept = list(avatar.render(speech, RATE, size=SIZE))
    for wanted in kept:
        with ThreadPoolExecutor(1) as another:
            assert np.array_equal(another.submit(next, frames).result().rgb, wanted.rgb)
    with ThreadPoolExecutor(1) as another:
        another.submit(frames.close).result()


def test_two_at_once(avatar: Avatar, speech: np.ndarray) -> None:
    pairs = zip(avatar.render(speech, RATE, size=SIZE), avatar.render(speech, RATE, size=SIZE), strict=True)
    assert all(np.array_equal(one.rgb, other.rgb) for one, other in pairs)


# Leaving early


def leave_by_close(avatar: Avatar, speech: np.ndarray) -> None:
    frames = avatar.render(speech, RATE, size=SIZE)
    next(frames)
    frames.close()
    frames.close()
    assert list(frames) == []


def leave_by_break(avatar: Avatar, speech: np.ndarray) -> None:
    for _ in avatar.render(speech, RATE, size=SIZE):
        break


def leave_by_with(avatar: Avatar, speech: np.ndarray) -> None:
    with avatar.render(speech, RATE, size=SIZE) as frames:
        next(frames)
    assert next(frames, None) is None


def leave_by_exception(avatar: Avatar, speech: np.ndarray) -> None:
    with pytest.raises(ZeroDivisionError), avatar.render(speech, RATE, size=SIZE) as frames:
        for _ in frames:
            raise ZeroDivisionError


def leave_before_the_first_frame(avatar: Avatar, speech: np.ndarray) -> None:
    avatar.render(speech, RATE, size=SIZE)
    avatar.render(speech, RATE, size=SIZE).close()


def leave_in_a_circle(avatar: Avatar, speech: np.ndarray) -> None:
    """Only the garbage collector finds it."""

    class Holder:
        pass

    holder, frames = Holder(), avatar.render(speech, RATE, size=SIZE)
    next(frames)
    holder.me, holder.frames = holder, frames  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_close,
        leave_by_break,
        leave_by_with,
        leave_by_exception,
        leave_before_the_first_frame,
        leave_in_a_circle,
    ],
)
def test_leaving_early_closes_the_pipeline(
    avatar: Avatar, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch, leave: Callable[[Avatar, np.ndarray], None]
) -> None:
    opened: list[weakref.ref[FacePipeline]] = []
    closed: list[str] = []
    make, close = FacePipeline.__init__, FacePipeline.close

    def counted(self: FacePipeline, *arguments: object, **named: object) -> None:
        opened.append(weakref.ref(self))
        make(self, *arguments, **named)  # type: ignore[arg-type]

    def noted(self: FacePipeline) -> None:
        closed.append(threading.current_thread().name)
        close(self)

    monkeypatch.setattr(FacePipeline, "__init__", counted)
    monkeypatch.setattr(FacePipeline, "close", noted)
    leave(avatar, speech)
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith(THREADS):
            thread.join(10)
    gc.collect()
    assert [name.partition("_")[0] for name in closed] == ["render"] * len(opened)  # on the thread that owns OpenGL
    assert all(pipeline() is None for pipeline in opened)


def test_what_goes_wrong_is_told_and_closes(
    avatar: Avatar, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint = FacePipeline.paint

    def broken(self: FacePipeline, frame_index: int, quality: Quality = FULL_QUALITY) -> np.ndarray:
        if frame_index == 2:
            raise MiravoxError("frame 2", found="a fault", wanted="none", remedy="Plant none.")
        return paint(self, frame_index, quality)

    monkeypatch.setattr(FacePipeline, "paint", broken)
    frames = avatar.render(speech, RATE, size=SIZE)
    assert [next(frames).index, next(frames).index] == [0, 1]
    with pytest.raises(MiravoxError, match="frame 2"):
        next(frames)
    assert list(frames) == []


def test_twenty_leave_nothing_behind(ada: Path) -> None:
    """Threads, files and memory of a process of its own; with one heap, so that only what is kept counts. Of each
    OpenGL context moderngl keeps 40 kB.
    """
    code = """
import asyncio, gc, json, os, sys
import numpy as np
from realtime import load
from realtime.process import prepare_process
prepare_process()
avatar, speech = load(sys.argv[1], target="baked"), np.full(3200, 0.1, np.float32)
def state():
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), resident
def render():
    with avatar.render(speech, 16_000, size=128) as frames:
        next(frames)
async def stream():
    async with avatar.stream(size=128) as opened:
        opened.push(speech, 16_000)
        async for frame in opened:
            break
async def streams(number):
    found = []
    for i in range(number):
        await stream()
        found.append(state())
    return found
rendered = [(render(), state())[1] for _ in range(26)]
print(json.dumps([rendered, asyncio.run(streams(26))]))
"""
    if not Path("/proc/self/statm").exists():
        lacking("/proc")
    done = subprocess.run(
        [sys.executable, "-c", code, str(ada)],
        cwd=ROOT,
        env={"PATH": "", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for kind, states in zip(("render", "stream"), json.loads(done.stdout), strict=True):
        (threads, files, memory), (threads_after, files_after, memory_after) = states[5], states[-1]
        assert (threads_after, files_after) == (threads, files), kind
        assert memory_after - memory < 4, kind  # megabytes; a pipeline that stays takes more than that
