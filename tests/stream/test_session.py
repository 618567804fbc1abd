"""A session's sources against its end: what is opened is closed, whatever comes first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from realtime.audio.sources import SourceState
from realtime.avatar import load_avatar
from realtime.errors import MiravoxError
from realtime.stream import live_avatar
from realtime.stream.session import Session
from realtime.stream.status import ArrivalStatus, SampleCounts, SessionStatus, SourceStatus
from tests.fake_pipeline import SIZE, FakePipeline


class SlowSource:
    """A sound card that takes long to open."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def state(self) -> SourceState:
        return SourceState("mic", "slow", "live")

    def close(self) -> None:
        self.closed.set()


class Bench:
    """A session whose sources open when they are let to."""

    def __init__(self, ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_avatar, "open_pipeline", lambda *_: FakePipeline())
        self.session = Session(load_avatar(ada), "baked", SIZE, None)
        self.opening, self.let = threading.Event(), threading.Event()
        self.opened: list[SlowSource] = []
        monkeypatch.setattr(self.session, "_make_source", self.make_source)

    def make_source(self, *_: object) -> SlowSource:
        self.opening.set()
        assert self.let.wait(60)
        self.opened.append(SlowSource())
        return self.opened[-1]

    async def is_opening(self) -> None:
        assert await asyncio.to_thread(self.opening.wait, 60)


@pytest.fixture
def bench(ada: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Bench]:
    return lambda: Bench(ada, monkeypatch)


def test_a_microphone_that_is_being_opened_while_its_page_leaves_is_closed(bench: Callable[[], Bench]) -> None:
    async def leave() -> None:
        b = bench()
        await b.session.load()
        opening = asyncio.ensure_future(b.session.open_source("mic"))
        await b.is_opening()
        await asyncio.wait_for(b.session.close(), 30)  # does not wait for the sound card
        b.let.set()
        with pytest.raises(MiravoxError, match="closed meanwhile"):
            await opening
        assert b.opened[0].closed.is_set() and b.session.source is None

    asyncio.run(leave())


def test_a_closed_session_opens_no_source(bench: Callable[[], Bench]) -> None:
    async def open_after() -> None:
        b = bench()
        b.let.set()
        await b.session.load()
        await b.session.close()
        with pytest.raises(MiravoxError, match="closed meanwhile"):
            await b.session.open_source("mic")
        assert [source.closed.is_set() for source in b.opened] == [True]

    asyncio.run(open_after())


def test_the_source_before_is_closed_and_the_last_one_with_the_session(bench: Callable[[], Bench]) -> None:
    async def switch() -> None:
        b = bench()
        b.let.set()
        await b.session.load()
        b.session.start()
        await asyncio.gather(*(b.session.open_source("mic") for _ in range(3)))
        assert [source.closed.is_set() for source in b.opened] == [True, True, False]
        await asyncio.gather(b.session.close(), b.session.close())
        assert b.opened[-1].closed.is_set()

    asyncio.run(switch())


def test_the_status_has_the_fields_of_its_type(bench: Callable[[], Bench]) -> None:
    async def ask() -> dict[str, Any]:
        b = bench()
        b.let.set()
        await b.session.load()
        await b.session.open_source("mic")
        status: Any = b.session.status()
        await b.session.close()
        return dict(status)

    status = asyncio.run(ask())
    assert set(status) == set(SessionStatus.__annotations__)
    assert set(status["source"]) == set(SourceStatus.__annotations__) and status["source"]["name"] == "slow"
    assert set(status["arrival"]) == set(ArrivalStatus.__annotations__)
    assert set(status["samples"]) == set(SampleCounts.__annotations__)


def test_a_recording_is_decoded_no_further_when_its_sender_hangs_up_or_the_session_ends(
    ada: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording of 1.3 MB that decodes to an hour went on after its sender had hung up, and after the session."""
    decoding, threads = threading.Event(), []

    def decode(path: Path, max_seconds: float | None, cancelled: Callable[[], bool]) -> None:
        threads.append(threading.current_thread().name)
        decoding.set()
        while not cancelled():
            pass
        raise MiravoxError(str(path), found="nobody who waits for it", wanted="somebody", remedy="Send it again.")

    monkeypatch.setattr(live_avatar, "open_pipeline", lambda *_: FakePipeline())
    monkeypatch.setattr("realtime.stream.session.open_speech", decode)

    async def send() -> None:
        session, hung_up = Session(load_avatar(ada), "baked", SIZE, None), threading.Event()
        await session.load()
        with ThreadPoolExecutor(1, thread_name_prefix="decode") as executor:
            for end in (hung_up.set, None):
                decoding.clear()
                opening = asyncio.ensure_future(
                    session.open_source("file", ada / "sample.flac", executor=executor, hung_up=hung_up.is_set)
                )
                assert await asyncio.to_thread(decoding.wait, 60)
                if end is not None:
                    end()
                else:
                    await session.close()
                with pytest.raises(MiravoxError, match="nobody who waits"):
                    await asyncio.wait_for(opening, 60)
                hung_up.clear()
        assert session.source is None

    asyncio.run(send())
    assert all(name.startswith("decode") for name in threads)


def test_a_source_that_cannot_be_opened_is_told_in_the_status(ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_avatar, "open_pipeline", lambda *_: FakePipeline())

    async def lack() -> None:
        session = Session(load_avatar(ada), "baked", SIZE, None)
        await session.load()
        session.lack_source("mic", "no sound card")
        source = session.status()["source"]
        assert (source["kind"], source["state"], source["message"]) == ("mic", "lost", "no sound card")
        await session.close()

    asyncio.run(lack())
