"""Who gets a place: offers that connect against offers that never do, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from realtime.avatar import load_avatar
from realtime.config import StreamConfig
from realtime.web import sessions as sessions_module
from realtime.web.half_open import HALF_OPEN_PLACES, HALF_OPEN_SECONDS
from realtime.web.sessions import MAX_VIEWERS, AllTaken, Sessions

OFFER: Any = SimpleNamespace(codec="H264")
CONNECT_SECONDS = 1.0  # that an honest browser takes, at most


class FakeSession:
    """As much of a session as viewers need."""

    def __init__(self) -> None:
        self.id, self.is_shared, self.viewers, self.closed = "", False, 0, False
        self.failure: Exception | None = None

    async def open_source(self, source: str) -> None:
        pass

    def start(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


class FakeViewer:
    """A viewer whose connection is up when the test says so."""

    def __init__(
        self, codec: str, source: str, session_id: str, ice_servers: list[Any], connected: Any, gone: Any
    ) -> None:
        self.codec, self.source, self.session_id, self.id = codec, source, session_id, session_id + "v"
        self.connect, self.leave = lambda: connected(self), lambda: gone(self)
        self.session: Any = None
        self.joined: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.closed, self.closes = False, True

    async def answer(self, offer: object, size: int) -> str:
        return "answer"

    def join(self, session: Any) -> None:
        self.session = session
        session.viewers += 1
        self.joined.set_result(session)

    async def close(self) -> bool:
        self.closed = True
        if not self.joined.done():
            self.joined.set_result(None)
        return self.closes


class House:
    """A server's sessions, and its clock."""

    def __init__(self, ada: Path, places: int) -> None:
        self.now = 0.0
        config = StreamConfig(max_sessions=places, size_pixels=128)
        self.sessions = Sessions(config, load_avatar(ada), clock=lambda: self.now)
        self.made: list[FakeSession] = []
        self.failing: Exception | None = None

        async def load() -> Any:
            if self.failing is not None:
                raise self.failing
            self.made.append(FakeSession())
            return self.made[-1]

        self.sessions._load_session = load  # type: ignore[method-assign]

    async def offer(self, source: str = "browser", address: str = "192.0.2.1") -> Any:
        return (await self.sessions.add_viewer(OFFER, source, address))[0]

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
def house(ada: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], House]:
    monkeypatch.setattr(sessions_module, "Viewer", FakeViewer)
    monkeypatch.setattr(sessions_module, "LOOK_SECONDS", 0)
    return lambda places: House(ada, places)


@pytest.mark.parametrize(("own", "others"), [("192.0.2.1", "192.0.2.9"), ("192.0.2.1", "192.0.2.1")])
def test_offers_that_never_connect_lock_nobody_out(house: Callable[[int], House], own: str, others: str) -> None:
    """An offer that never connects, three times a second, let 2 of 45 honest ones in; behind a proxy all look alike."""

    async def storm() -> int:
        home, entered = house(3), 0
        for _ in range(45):
            for _ in range(3):  # a second
                await home.offer(address=others)
                home.now += 1 / 3
            honest = await home.offer(address=own)
            for _ in range(round(3 * CONNECT_SECONDS)):
                await home.offer(address=others)
                home.now += 1 / 3
            honest.connect()
            await home.settle()
            entered += honest.session is not None
            assert len(home.sessions.half_open) <= HALF_OPEN_PLACES and len(home.made) == entered
            honest.leave()
            await home.settle()
        return entered

    assert asyncio.run(storm()) == 45


def test_a_flood_from_one_address_pushes_out_its_own_offers_first(house: Callable[[int], House]) -> None:
    async def flood() -> None:
        home = house(3)
        honest = await home.offer(address="192.0.2.1")
        for _ in range(10 * HALF_OPEN_PLACES):
            await home.offer(address="192.0.2.9")
        honest.connect()
        await home.settle()
        assert honest.session is not None

    asyncio.run(flood())


def test_offers_that_never_connect_hold_nothing_and_go_within_seconds(house: Callable[[int], House]) -> None:
    """A storm of reloads took all places for 15 to 17 seconds."""

    async def storm() -> None:
        home = house(3)
        viewers = [await home.offer() for _ in range(6)]
        assert home.made == [] and len(home.sessions.half_open) == 6
        home.now += HALF_OPEN_SECONDS
        watching = asyncio.ensure_future(home.sessions.watch())
        await home.settle()
        watching.cancel()
        assert len(home.sessions.half_open) == 0 and all(viewer.closed for viewer in viewers)
        assert await home.sessions.find(viewers[0].session_id) is None
        assert HALF_OPEN_SECONDS <= 10

    asyncio.run(storm())


def test_places_are_taken_in_the_order_of_connecting(house: Callable[[int], House]) -> None:
    async def crowd() -> None:
        home = house(2)
        viewers = [await home.offer() for _ in range(4)]
        for viewer in reversed(viewers):
            viewer.connect()
        await home.settle()
        assert [viewer.session is not None for viewer in viewers] == [False, False, True, True]
        assert [viewer.closed for viewer in viewers] == [True, True, False, False]
        with pytest.raises(AllTaken, match="2 sessions"):
            await home.offer()
        viewers[3].leave()
        await home.settle()
        assert home.made[0].closed
        assert await home.offer()

    asyncio.run(crowd())


def test_a_request_about_a_session_waits_until_it_is_there(house: Callable[[int], House]) -> None:
    async def ask() -> None:
        home = house(2)
        viewer, lost = await home.offer(), await home.offer()
        asking = [asyncio.ensure_future(home.sessions.find(v.session_id)) for v in (viewer, lost)]
        await home.settle()
        assert not any(task.done() for task in asking)
        viewer.connect()
        lost.leave()
        session, none = await asyncio.gather(*asking)
        assert none is None and session is not None and session.id == viewer.session_id
        assert await home.sessions.find_viewer(viewer.id) is viewer

    asyncio.run(ask())


def test_a_viewer_that_leaves_while_its_session_is_opened_leaves_none_behind(house: Callable[[int], House]) -> None:
    async def leave() -> None:
        home = house(2)
        viewer = await home.offer()
        viewer.connect()
        viewer.leave()
        await home.settle()
        assert viewer.session is None and all(session.closed for session in home.made)
        assert not home.sessions.joining and not home.sessions.viewers

    asyncio.run(leave())


def test_a_session_that_cannot_be_loaded_gives_its_place_back(house: Callable[[int], House]) -> None:
    async def fail() -> None:
        home = house(1)
        home.failing = RuntimeError("no memory")
        viewer = await home.offer()
        viewer.connect()
        await home.settle()
        assert viewer.closed and not home.sessions.joining
        home.failing = None
        again = await home.offer()
        again.connect()
        await home.settle()
        assert again.session is not None

    asyncio.run(fail())


def test_the_shared_sessions_viewers_are_bounded(house: Callable[[int], House]) -> None:
    """200 offers to a shared session were all accepted."""

    async def crowd() -> None:
        home, shared = house(1), FakeSession()
        shared.is_shared = True
        home.sessions.shared = shared  # type: ignore[assignment]
        entered = 0
        with pytest.raises(AllTaken, match=str(MAX_VIEWERS)):
            for _ in range(2 * MAX_VIEWERS):
                viewer = await home.offer("shared")
                viewer.connect()
                await home.settle()
                entered += 1
        assert entered == MAX_VIEWERS == shared.viewers
        for viewer in list(home.sessions.viewers.values()):
            await home.sessions.remove_viewer(viewer)
        assert not shared.closed

    asyncio.run(crowd())


def test_a_connection_that_does_not_close_is_counted_and_its_session_ends(house: Callable[[int], House]) -> None:
    """Nine sessions were left running beside a limit of three, and the statistics showed none."""

    async def hang() -> None:
        home = house(1)
        viewer = await home.offer()
        viewer.connect()
        await home.settle()
        viewer.closes = False
        await home.sessions.remove_viewer(viewer)
        assert home.sessions.unclosed == 1 and home.made[0].closed

    asyncio.run(hang())
