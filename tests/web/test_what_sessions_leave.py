"""Sessions that ended leave nothing: no threads, memory or descriptors, without Python's search for circles."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import psutil
import pytest

from realtime.web import aiortc_patches
from tests.live_server import LiveServer, Peer

pytestmark = pytest.mark.usefixtures("ada", "gl_context")

SESSIONS, WARM = 10, 3
MORE_THREADS, MORE_MIB = 2, 5.0


@dataclass(frozen=True)
class Held:
    threads: int
    descriptors: int
    mib: float


def held(process: psutil.Process) -> Held:
    return Held(process.num_threads(), process.num_fds(), process.memory_info().rss / 2**20)


def test_sessions_leave_nothing() -> None:
    """Two hundred sessions left up to 71 native threads, of encoders and resamplers, and 170 MiB, until circles were
    collected.
    """
    aiortc_patches.install(loopback_only=True)

    async def view(server: LiveServer) -> None:
        peer = Peer(server)
        await peer.connect("browser")
        await peer.wait_for(lambda: len(peer.pictures) >= 3)
        await asyncio.to_thread(server.request, "DELETE", f"/viewers/{peer.viewer}")
        await peer.close()

    with LiveServer("--size", "256") as server:
        process = psutil.Process(server.process.pid)
        for _ in range(WARM):
            asyncio.run(view(server))
        after_one = held(process)
        for _ in range(SESSIONS):
            asyncio.run(view(server))
        server.wait_for(lambda: held(process).threads <= after_one.threads + MORE_THREADS, 5)
        after_all = held(process)
        assert after_all.descriptors <= after_one.descriptors + 2
        assert after_all.mib <= after_one.mib + MORE_MIB, (after_one, after_all)
        assert server.get("/stats")[1]["unclosed"] == 0
