"""What no peer may do to aiortc: seven bounds at private names, whose version realtime/web/aiortc_patches.py checks.

1. Sources: packets of at most 16 SSRCs are taken on a connection. More of them make a report too long to be written,
   and each costs memory.
2. Reports: what cannot be written (a clock that was set by weeks, the year 2037) is left out. aiortc's loop would end
   there, and closing the connection wait for it for ever.
3. Gathering: a STUN or TURN server that does not answer delays an answer by one second, not five.
4. Checks: addresses that a peer is found at by its own checks count as candidates, of which there are few.
5. Arrivals: packets that wait for their reader are bounded.
6. Closing takes a few seconds at most: then the connection's sockets are closed all the same.
7. A connection that is closed just when its checks have succeeded asks its peer for consent no more: aioice would begin
   to ask after the close, and never stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import aioice.ice
from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCRtpSender
from aiortc.rtcdtlstransport import RtpRouter
from aiortc.rtcrtpreceiver import StreamStatistics

log = logging.getLogger("miravox")

MAX_SOURCES = 16  # SSRCs on a connection; a report holds 31, a browser uses one or two
MAX_CHECKED = 60  # addresses of a peer: those it offers, and those that its checks come from
MAX_WAITING_PACKETS = 1000  # of a connection, for their reader: a second of a fast one
GATHER_SECONDS = 1  # for STUN and TURN servers to answer
CLOSE_SECONDS = 3.0  # for a connection's goodbye
CUT_OFF_SECONDS = 1.0  # for its sockets, after that
LARGEST_JITTER = (1 << 32) - 1  # as a report can say it
UNWRITABLE = (struct.error, ValueError, OverflowError)  # of a report with a number that its field cannot hold

_installed = False


def install() -> None:
    """Applies all that is global. May be called again."""
    global _installed
    if _installed:
        return
    _installed = True
    router: Any = RtpRouter
    router.route_rtp = _route_rtp
    statistics: Any = StreamStatistics
    statistics.jitter = property(lambda self: min(self._jitter_q4 >> 4, LARGEST_JITTER))
    for kind in (RTCRtpReceiver, RTCRtpSender):
        _keep_reporting(kind)
    connection: Any = aioice.ice.Connection
    gather, check, receive = connection.get_component_candidates, connection.check_incoming, connection.data_received
    connect = connection.connect

    async def gather_soon(self: Any, component: int, addresses: list[str], timeout: float = GATHER_SECONDS) -> Any:
        return await gather(self, component, addresses, timeout)

    def check_few(self: Any, message: Any, addr: tuple[str, int], protocol: Any) -> None:
        if len(self._remote_candidates) < MAX_CHECKED or any(
            (c._network_host, c.port) == addr[:2] for c in self._remote_candidates
        ):
            check(self, message, addr, protocol)

    def receive_few(self: Any, data: bytes, component: int) -> None:
        if self._queue.qsize() < MAX_WAITING_PACKETS:
            receive(self, data, component)

    async def connect_unless_closed(self: Any) -> None:
        await connect(self)
        if self._closing and self._query_consent_task is not None:
            self._query_consent_task.cancel()
            self._query_consent_task = None
            raise ConnectionError("the connection was closed meanwhile")

    connection.connect = connect_unless_closed
    connection.get_component_candidates = gather_soon
    connection.check_incoming = check_few
    connection.data_received = receive_few


def _route_rtp(self: Any, packet: Any) -> Any:
    """As aiortc routes packets, but new sources are taken only while there are few."""
    receivers = self.payload_type_table.get(packet.payload_type, ())
    known = self.ssrc_table.get(packet.ssrc)
    if known is not None:
        return known if known in receivers else None
    if len(receivers) != 1 or len(self.ssrc_table) >= MAX_SOURCES:
        return None
    (receiver,) = receivers
    self.ssrc_table[packet.ssrc] = receiver
    return receiver


def _keep_reporting(kind: Any) -> None:
    """The RTCP loop of senders or receivers goes on after a report that cannot be written; its end is always told."""
    name = kind.__name__
    run, send = kind._run_rtcp, kind._send_rtcp

    async def send_what_can_be(self: Any, packets: Any) -> None:
        with contextlib.suppress(*UNWRITABLE):
            await send(self, packets)

    async def run_to_the_end(self: Any) -> None:
        exited = getattr(self, f"_{name}__rtcp_exited")
        while not exited.is_set():
            try:
                await run(self)
            except Exception as error:  # whatever it is: without that event, stop() waits for ever
                log.error("a report of %s was not sent: %s", name, error, exc_info=True)
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    exited.set()

    kind._send_rtcp, kind._run_rtcp = send_what_can_be, run_to_the_end


async def close(connection: RTCPeerConnection) -> bool:
    """Says goodbye and closes; False if that did not end in time, so that its sockets were closed without."""
    if await _within(connection.close, CLOSE_SECONDS):
        return True
    for transceiver in connection.getTransceivers():
        transceiver.receiver._handle_disconnect()  # ends the thread that decodes
    transports = {transceiver.receiver.transport for transceiver in connection.getTransceivers()}
    for transport in transports:
        for stop in (transport.stop, transport.transport.stop):
            await _within(stop, CUT_OFF_SECONDS)
    return False


async def _within(work: Callable[[], Awaitable[None]], seconds: float) -> bool:
    """Whether it ended well in so long; what does not end is cancelled, and not waited for."""
    task = asyncio.ensure_future(work())
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        task.add_done_callback(_ended)
        return False
    return not _ended(task)


def _ended(task: asyncio.Future[None]) -> bool:
    """Looks at how a task ended, so that nobody is told that nobody did; whether it failed."""
    if task.cancelled():
        return True
    error = task.exception()
    if error is not None:
        log.info("a connection's end: %s: %s", type(error).__name__, error)
    return error is not None
