"""A stream says what is pushed and reports it; it can be interrupted, left in any way, and used wrongly.

Most of them are of a pipeline that draws nothing, so that a busy machine has no say in it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime import Avatar, Frame, MiravoxError, PlaybackFinished, PlaybackStarted, Stream, load
from realtime.arrays import FloatArray
from realtime.stream import live_avatar
from tests.fake_pipeline import FakePipeline

SIZE = 128
RATE = 16_000
PATIENCE_SECONDS = 20.0  # for what should take less than one
THREADS = ("render", "compose", "audio input")


@pytest.fixture(scope="module")
def loaded(ada: Path) -> Avatar:
    return load(ada, target="baked")


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> list[FakePipeline]:
    """What every stream that is opened draws with."""
    made: list[FakePipeline] = []

    def make(*_: object) -> FakePipeline:
        made.append(FakePipeline())
        return made[-1]

    monkeypatch.setattr(live_avatar, "open_pipeline", make)
    return made


@pytest.fixture
def avatar(loaded: Avatar, pipelines: list[FakePipeline]) -> Avatar:
    """It draws nothing."""
    return loaded


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Runs it, not for ever; then no thread of a live avatar is left."""

    async def patiently() -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await main

    try:
        return asyncio.run(patiently())
    finally:
        assert not [t.name for t in threading.enumerate() if t.name in THREADS]


def wave(samples: int) -> FloatArray:
    """No value of it is 0."""
    return np.asarray(0.3 + 0.1 * np.sin(np.arange(samples) / 9), np.float32)


async def until(stream: Stream, enough: Callable[[Frame], bool]) -> list[Frame]:
    """Frames up to the first one that is enough."""
    frames = []
    async for frame in stream:
        frames.append(frame)
        if enough(frame):
            break
    return frames


def said(frames: list[Frame]) -> FloatArray:
    return np.concatenate([frame.samples for frame in frames])


def test_what_is_pushed_is_said(avatar: Avatar) -> None:
    """All of it, in its order, beside frames that follow one another; silence comes before and after it."""
    speech = wave(4_000)

    async def main() -> list[Frame]:
        async with avatar.stream(size=SIZE) as stream:
            stream.push(speech[:1_234], RATE)
            stream.push(speech[1_234:], RATE)
            stream.end_segment()
            frames = await until(stream, lambda frame: bool(frame.samples.any()))
            return frames + await until(stream, lambda frame: not frame.samples.any())

    frames = run(main())
    first = frames[0].index
    assert [frame.index for frame in frames] == list(range(first, first + len(frames)))
    for frame in frames:
        assert frame.rgb.shape == (SIZE, SIZE, 3) and frame.rgb.dtype == np.uint8
        assert frame.samples.shape == (640,) and frame.samples.dtype == np.float32
    samples = said(frames)
    at = np.flatnonzero(samples)
    assert len(at) == len(speech) and np.array_equal(samples[at[0] : at[-1] + 1], speech)


def test_nobody_speaks_and_she_idles(loaded: Avatar) -> None:
    """Really drawn."""

    async def main() -> list[Frame]:
        async with loaded.stream() as stream:
            return await until(stream, lambda frame: frame.index >= 3)

    frames = run(main())
    assert [frame.index for frame in frames] == list(range(frames[0].index, frames[0].index + len(frames)))
    assert frames[0].rgb.shape == (512, 512, 3) and not said(frames).any()
    (wanted,) = loaded.render(np.zeros(1), RATE)
    difference = np.abs(frames[0].rgb.astype(int) - wanted.rgb)
    assert difference.mean() < 1, "her face at rest"


def test_the_clock_is_the_samples(avatar: Avatar) -> None:
    """25 frames of speech take a second, however fast it was pushed (and more on a busy machine)."""

    async def main() -> float:
        async with avatar.stream(size=SIZE) as stream:
            stream.push(wave(3 * RATE), RATE)
            await until(stream, lambda frame: frame.index >= 4)
            begun = asyncio.get_running_loop().time()
            await until(stream, lambda frame: frame.index >= 29)
            return asyncio.get_running_loop().time() - begun

    assert run(main()) > 0.9


def test_all_kinds_of_samples(avatar: Avatar) -> None:
    """A tenth of a second of each, one after another."""
    kinds: list[tuple[Any, int]] = [
        ((wave(2_400) * 2**15).astype(np.int16), 24_000),
        (wave(2_400).astype(np.float64), 24_000),
        (np.stack([wave(4_800), wave(4_800)], 1), 48_000),
        (np.repeat(wave(1_600), 2)[::2], 16_000),
        (np.where(np.arange(1_600) % 4 == 0, np.nan, 0.4), 16_000),
        (np.full(1_600, 7.0), 16_000),
    ]

    async def main() -> FloatArray:
        async with avatar.stream(size=SIZE) as stream:
            for samples, rate in kinds:
                stream.push(np.zeros((0, 2), np.int16), rate)
                stream.push(samples, rate)
                stream.push([], rate)
            stream.end_segment()
            frames = await until(stream, lambda frame: bool(frame.samples.any()))
            return said(frames + await until(stream, lambda frame: not frame.samples.any()))

    heard = run(main())
    assert np.isfinite(heard).all() and np.abs(heard).max() == 1
    assert abs(heard.sum() / RATE - (5 * 0.3 + 1) * 0.1) < 0.005


def test_bad_samples_are_refused_and_the_stream_goes_on(avatar: Avatar) -> None:
    bad: list[tuple[Any, int, str]] = [
        (np.zeros(10), 0, "sample rate: found 0"),
        (np.zeros(10), -16_000, "sample rate: found -16000"),
        (np.zeros((2, 100)), 16_000, "Transpose them"),
        (np.zeros(10, np.int64), 16_000, "values of type int64"),
    ]

    async def main() -> None:
        async with avatar.stream(size=SIZE) as stream:
            for samples, rate, words in bad:
                with pytest.raises(MiravoxError) as fault:
                    stream.push(samples, rate)
                assert words in str(fault.value)
            stream.push(wave(640), RATE)
            await until(stream, lambda frame: bool(frame.samples.any()))

    run(main())


# Events


async def next_event(stream: Stream) -> Any:
    async with aclosing(stream.events()) as events:
        async for event in events:
            return event


def test_playback_is_told(avatar: Avatar) -> None:
    """Whether the frames are read or not."""

    async def main(read: bool) -> list[Any]:
        async with avatar.stream(size=SIZE) as stream:
            reading = asyncio.create_task(until(stream, lambda frame: False)) if read else None
            stream.push(wave(4_000), RATE)
            stream.end_segment()
            stream.push(wave(1_600), RATE)
            stream.end_segment()
            events = [await next_event(stream) for _ in range(4)]
        if reading is not None:
            await reading  # ends with the stream
        return events

    for read in (True, False):
        assert run(main(read)) == [
            PlaybackStarted(),
            PlaybackFinished(0.25, interrupted=False),
            PlaybackStarted(),
            PlaybackFinished(0.1, interrupted=False),
        ]


def test_an_interruption(avatar: Avatar) -> None:
    """What was read is reported as said, within a frame; from then on there is silence, and the next words are said."""

    async def main() -> None:
        async with avatar.stream(size=SIZE) as stream:
            stream.push(wave(5 * RATE), RATE)
            frames = await until(stream, lambda frame: np.count_nonzero(frame.samples) == 640)
            frames += await until(stream, lambda frame: frame.index == frames[-1].index + 5)
            stream.interrupt()
            assert await next_event(stream) == PlaybackStarted()
            finished = await next_event(stream)
            assert finished == PlaybackFinished(np.count_nonzero(said(frames)) / RATE, interrupted=True)
            after = await until(stream, lambda frame: frame.index >= frames[-1].index + 8)
            assert after[0].index > frames[-1].index and not said(after).any()
            stream.push(wave(320), RATE)
            stream.end_segment()
            await until(stream, lambda frame: bool(frame.samples.any()))
            assert await next_event(stream) == PlaybackStarted()

    run(main())


def test_frames_that_wait_are_not_shown_after_an_interruption(avatar: Avatar) -> None:
    async def main() -> None:
        async with avatar.stream(size=SIZE) as stream:
            stream.push(wave(5 * RATE), RATE)
            await until(stream, lambda frame: bool(frame.samples.any()))
            while len(stream._waiting) < 3:  # nobody reads
                await asyncio.sleep(0.01)
            stream.interrupt()
            assert not said(await until(stream, lambda frame: frame.index >= 10)).any()

    run(main())


def test_interrupting_nothing_is_nothing(avatar: Avatar) -> None:
    async def main() -> None:
        async with avatar.stream(size=SIZE) as stream:
            stream.interrupt()
            stream.push(wave(640), RATE)
            stream.end_segment()
            reading = asyncio.create_task(until(stream, lambda frame: False))
            assert await next_event(stream) == PlaybackStarted()
        await reading

    run(main())


def test_a_reader_who_is_late_loses_the_oldest_frames(avatar: Avatar) -> None:
    async def main() -> None:
        async with avatar.stream(size=SIZE) as stream:
            (first,) = await until(stream, lambda frame: True)
            while stream._missed < 5:
                await asyncio.sleep(0.01)
            missed = stream._missed
            (frame,) = await until(stream, lambda frame: True)
            assert frame.index == first.index + missed + 1 and stream.dropped >= missed

    run(main())


def test_any_thread_may_speak(avatar: Avatar) -> None:
    async def main() -> None:
        async with avatar.stream(size=SIZE) as stream:
            await asyncio.to_thread(stream.push, wave(64_000), RATE)
            await until(stream, lambda frame: bool(frame.samples.any()))
            await asyncio.to_thread(stream.interrupt)
            await until(stream, lambda frame: not frame.samples.any())

    run(main())


def test_several_at_once(avatar: Avatar) -> None:
    async def one(level: float) -> None:
        async with avatar.stream(size=SIZE) as stream:
            stream.push(np.full(3_200, level), RATE)
            stream.end_segment()
            frames = await until(stream, lambda frame: bool(frame.samples.any()))
            samples = said(frames + await until(stream, lambda frame: not frame.samples.any()))
            assert np.allclose(samples[samples != 0], level)

    async def main() -> None:
        await asyncio.gather(one(0.1), one(0.2))

    run(main())


# Leaving


async def leave_by_break(stream: Stream) -> None:
    async with stream:
        async for _ in stream:
            break


async def leave_without_a_frame(stream: Stream) -> None:
    async with stream:
        pass


async def leave_by_exception(stream: Stream) -> None:
    with pytest.raises(ZeroDivisionError):
        async with stream:
            async for _ in stream:
                raise ZeroDivisionError


async def leave_by_cancelling(stream: Stream) -> None:
    shown = asyncio.Event()

    async def show() -> None:
        async with stream:
            async for _ in stream:
                shown.set()

    showing = asyncio.create_task(show())
    await shown.wait()
    showing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await showing


async def leave_while_it_opens(stream: Stream) -> None:
    opening = asyncio.create_task(stream.__aenter__())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening


async def leave_while_others_read(stream: Stream) -> None:
    async def events() -> list[Any]:
        return [event async for event in stream.events()]

    async with stream:
        reading = [asyncio.create_task(until(stream, lambda frame: False)), asyncio.create_task(events())]
        await until(stream, lambda frame: True)
    await asyncio.gather(*reading)


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_break,
        leave_without_a_frame,
        leave_by_exception,
        leave_by_cancelling,
        leave_while_it_opens,
        leave_while_others_read,
    ],
)
def test_leaving_ends_its_threads(
    avatar: Avatar, pipelines: list[FakePipeline], leave: Callable[[Stream], Awaitable[None]]
) -> None:
    async def main() -> None:
        stream = avatar.stream(size=SIZE)
        await leave(stream)
        assert not [t.name for t in threading.enumerate() if t.name in THREADS]
        assert [frame async for frame in stream] == []

    run(main())
    assert [pipeline.closed for pipeline in pipelines] == [True]


def test_a_stream_that_is_not_open(avatar: Avatar) -> None:
    async def main() -> None:
        stream = avatar.stream(size=SIZE)
        for call in (lambda: stream.push([0.0], RATE), stream.end_segment, stream.interrupt):
            with pytest.raises(MiravoxError, match="not open yet; wanted an open stream"):
                call()
        async with stream:
            stream.push([0.0], RATE)
        for call in (lambda: stream.push([0.0], RATE), stream.end_segment, stream.interrupt):
            with pytest.raises(MiravoxError, match="was closed; wanted an open stream"):
                call()
        with pytest.raises(MiravoxError, match="opened before"):
            await stream.__aenter__()

    run(main())


# Faults


def test_a_fault_while_it_opens_is_told(loaded: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise MiravoxError("OpenGL", found="none", wanted="one", remedy="Install it.")

    monkeypatch.setattr(live_avatar, "open_pipeline", broken)

    async def main() -> None:
        with pytest.raises(MiravoxError, match="OpenGL"):
            async with loaded.stream(size=SIZE):
                raise AssertionError("it cannot be open")

    run(main())


def test_a_fault_while_it_runs_is_told(avatar: Avatar, pipelines: list[FakePipeline]) -> None:
    async def main() -> None:
        async with avatar.stream(size=SIZE) as stream:
            await until(stream, lambda frame: True)
            pipelines[0].error = MiravoxError("a frame", found="a fault", wanted="none", remedy="Plant none.")
            for read in (until(stream, lambda frame: False), next_event(stream)):
                with pytest.raises(MiravoxError, match="a frame"):
                    await read

    run(main())
    assert pipelines[0].closed
