"""What peers did to aiortc, tried on two connections of this process: reports that cannot be written, and the like."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aioice.ice
import aiortc.rtcrtpreceiver
import aiortc.rtcrtpsender
import pytest
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection
from aiortc.rtp import RtpPacket

from realtime.web import aiortc_guards, aiortc_patches
from realtime.web.aiortc_guards import CLOSE_SECONDS, MAX_CHECKED, MAX_SOURCES, MAX_WAITING_PACKETS
from tests.live_server import Tone

PATIENCE_SECONDS = 30.0
TWENTY_DAYS, YEAR_2037 = 20 * 86_400.0, 2_114_380_800
SHORTEST_REPORT = -0.49  # added to half a second: aiortc's pause between two reports


@pytest.fixture(autouse=True)
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiortc as the server uses it, and reports every 10 ms."""
    aiortc_patches.install(loopback_only=True)
    for module in (aiortc.rtcrtpreceiver, aiortc.rtcrtpsender):
        monkeypatch.setattr(module, "random", SimpleNamespace(random=lambda: SHORTEST_REPORT, randint=lambda a, b: a))


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[RTCPeerConnection, RTCPeerConnection]]:
    """A peer whose microphone hums, and who listens; both send."""
    none = RTCConfiguration(iceServers=[])
    speaker, listener = RTCPeerConnection(none), RTCPeerConnection(none)
    speaker.addTrack(Tone())
    listener.addTrack(Tone())
    await speaker.setLocalDescription(await speaker.createOffer())
    await listener.setRemoteDescription(speaker.localDescription)
    await listener.setLocalDescription(await listener.createAnswer())
    await speaker.setRemoteDescription(listener.localDescription)
    await until(lambda: listener.connectionState == speaker.connectionState == "connected")
    await until(lambda: sources(listener))
    try:
        yield speaker, listener
    finally:
        await asyncio.wait_for(asyncio.gather(*map(aiortc_guards.close, (speaker, listener))), PATIENCE_SECONDS)


def sources(connection: RTCPeerConnection) -> dict[int, Any]:
    found: dict[int, Any] = connection.getReceivers()[0]._RTCRtpReceiver__remote_streams  # type: ignore[attr-defined]
    return found


def reports(connection: RTCPeerConnection) -> list[int]:
    """Counts, from now on, what the connection's receiver and sender report."""
    sent = [0, 0]

    def counted(index: int, send: Any) -> Any:
        async def send_counted(packets: Any) -> None:
            await send(packets)
            sent[index] += 1

        return send_counted

    for index, one in enumerate((connection.getReceivers()[0], connection.getSenders()[0])):
        kind: Any = one
        kind._send_rtcp = counted(index, kind._send_rtcp)
    return sent


async def many_sources(speaker: RTCPeerConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    sender: Any = speaker.getSenders()[0]
    codec: Any = speaker.getTransceivers()[0]._codecs[0]
    for ssrc in range(1, 64):
        packet = RtpPacket(payload_type=codec.payloadType, sequence_number=ssrc, timestamp=960)
        packet.ssrc, packet.payload = ssrc, b"\xf8\xff\xfe"
        await sender.transport._send_rtp(packet.serialize(sender._RTCRtpSender__rtp_header_extensions_map))


async def clock_step(speaker: RTCPeerConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    later = SimpleNamespace(time=lambda: time.time() + TWENTY_DAYS)
    monkeypatch.setattr(aiortc.rtcrtpreceiver, "time", later)


async def year_2037(speaker: RTCPeerConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiortc_patches, "time", SimpleNamespace(time_ns=lambda: YEAR_2037 * 1_000_000_000))


@pytest.mark.parametrize("lie", [many_sources, clock_step, year_2037])
def test_reports_go_on_and_the_connection_closes(lie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """63 sources in one session, a clock set by 20 days, and the year 2037 each ended aiortc's reports: closing the
    connection then waited for ever, and the session's threads stayed.
    """

    async def meet() -> None:
        async with pair() as (speaker, listener):
            await lie(speaker, monkeypatch)
            before = len(sources(listener))
            sent = reports(listener)
            await until(lambda: min(sent) >= 5)
            assert len(sources(listener)) <= MAX_SOURCES and len(sources(listener)) >= before
            assert await asyncio.wait_for(aiortc_guards.close(listener), PATIENCE_SECONDS)

    asyncio.run(meet())


def test_closing_is_bounded_whatever_dies(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that cannot say goodbye is cut off: its sockets are closed."""
    monkeypatch.setattr(aiortc_guards, "CLOSE_SECONDS", 0.1)

    async def for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    async def meet() -> None:
        async with pair() as (_, listener):
            receiver: Any = listener.getReceivers()[0]
            ice = receiver.transport.transport._connection
            monkeypatch.setattr(receiver, "stop", for_ever)
            assert ice._protocols
            assert not await asyncio.wait_for(aiortc_guards.close(listener), PATIENCE_SECONDS)
            assert not ice._protocols, "the socket is closed"
            assert receiver._RTCRtpReceiver__decoder_thread is None

    asyncio.run(meet())
    assert CLOSE_SECONDS <= 5


def test_a_loop_that_fails_tells_that_it_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever ends aiortc's loop of reports, closing does not wait for it."""
    caplog.set_level(logging.CRITICAL)

    async def meet() -> None:
        async with pair() as (_, listener):
            receiver: Any = listener.getReceivers()[0]
            failed = []

            async def send(packet: Any) -> None:
                failed.append(packet)
                raise RuntimeError("no report")

            receiver._send_rtcp = send
            await until(lambda: len(failed) >= 3)
            assert await asyncio.wait_for(aiortc_guards.close(listener), PATIENCE_SECONDS)

    asyncio.run(meet())


def test_packets_that_nobody_reads_are_bounded() -> None:
    """Datagrams that come before the connection is up wait in memory."""

    async def receive() -> None:
        connection: Any = aioice.ice.Connection(ice_controlling=False)
        for _ in range(10 * MAX_WAITING_PACKETS):
            connection.data_received(b"x", 1)
        assert connection._queue.qsize() == MAX_WAITING_PACKETS

    asyncio.run(receive())


def test_addresses_that_a_peer_is_found_at_are_bounded() -> None:
    """Whoever knows the password may send checks from as many ports as there are."""

    async def check() -> None:
        connection: Any = aioice.ice.Connection(ice_controlling=False)
        connection.check_start_task = lambda pair: None
        local = SimpleNamespace(component=1, priority=1, foundation="1", type="host", host="127.0.0.1", port=1)
        message, protocol = SimpleNamespace(attributes={"PRIORITY": 1}), SimpleNamespace(local_candidate=local)
        for port in [*range(1000, 3000), 1000]:
            connection.check_incoming(message, ("127.0.0.1", port), protocol)
        assert len(connection._remote_candidates) == len(connection._check_list) == MAX_CHECKED

    asyncio.run(check())


@pytest.mark.parametrize("url", ["stun:127.0.0.1:9", "turn:127.0.0.1:9"])
def test_a_stun_or_turn_server_that_does_not_answer_delays_an_answer_by_a_second(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It delayed every answer by five. Nothing is waited for here: only how long would be is looked at."""
    waited: list[float] = []
    wait = asyncio.wait

    async def noting(tasks: Any, *, timeout: float | None = None, **options: Any) -> Any:
        waited.append(timeout or 0)
        return await wait(tasks, timeout=0.01, **options)

    async def gather() -> None:
        monkeypatch.setattr(aioice.ice.asyncio, "wait", noting)
        servers = [RTCIceServer(url, "me", "secret")]
        connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        connection.addTransceiver("audio")
        await connection.setLocalDescription(await connection.createOffer())
        monkeypatch.undo()
        await connection.close()

    asyncio.run(gather())
    assert waited == [aiortc_guards.GATHER_SECONDS] and waited[0] <= 1


def test_a_connection_closed_as_its_checks_succeed_asks_for_consent_no_more() -> None:
    """The task that asks began after the close, and ran for as long as the process."""

    async def meet() -> None:
        ours, peer = aioice.ice.Connection(ice_controlling=True), aioice.ice.Connection(ice_controlling=False)
        for connection in (ours, peer):
            await connection.gather_candidates()
        for one, other in ((ours, peer), (peer, ours)):
            for candidate in one.local_candidates:
                await other.add_remote_candidate(candidate)
            await other.add_remote_candidate(None)
            other.remote_username, other.remote_password = one.local_username, one.local_password
        state: Any = ours._check_list_state
        put, closing = state.put_nowait, list[asyncio.Task[None]]()

        def completed(value: Any) -> None:
            put(value)
            closing.append(asyncio.ensure_future(ours.close()))  # before `connect` has woken up

        state.put_nowait = completed
        results = await asyncio.gather(ours.connect(), peer.connect(), return_exceptions=True)
        assert isinstance(results[0], ConnectionError)
        await asyncio.gather(*closing, peer.close())
        await until(lambda: not [t for t in asyncio.all_tasks() if "query_consent" in str(t.get_coro())])

    asyncio.run(meet())
