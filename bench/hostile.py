"""Viewers that mean harm, by a seeded script, against a server on this machine.

    python -m bench.hostile PORT SECONDS [--seed N] [--workers N]

A few of them act at once. Each chooses what to do next by a generator of its own, so that the same seed gives the same
sequence of deeds, though not at the same moments. They keep to loopback. At the end it prints JSON: how many inputs of
each kind were sent, what was answered to how many, and which of the answers no server should give.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection

from bench.hostile_deeds import DEEDS
from bench.hostile_inputs import recordings
from bench.hostile_viewer import Hostile, Tally
from bench.sessions import nothing_decoded
from realtime.web import aiortc_patches

DEED_SECONDS = 20.0  # after which a viewer gives up what it does
NICENESS = 10  # the script gives way to the server, as if it ran on another machine


async def valid_offer() -> str:
    """Of a browser that speaks and views, whose candidates are this machine's. Nobody is there."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTransceiver("video", direction="recvonly")
    pc.addTransceiver("audio", direction="sendrecv")
    await pc.setLocalDescription(await pc.createOffer())
    sdp = str(pc.localDescription.sdp)
    await pc.close()
    return sdp


async def act(viewer: Hostile, until: float) -> None:
    """One deed after the other until a moment of the monotonic clock."""
    while time.monotonic() < until:
        deed = viewer.rng.choice(DEEDS)
        try:
            await asyncio.wait_for(deed(viewer), DEED_SECONDS)
        except TimeoutError:
            viewer.tally.fault(f"{deed.__name__}: not done after {DEED_SECONDS:.0f} s")
        except OSError as error:  # the server takes no connection, for one
            viewer.tally.note(deed.__name__, 0, str(error))
        await asyncio.sleep(viewer.rng.uniform(0, 0.2))


async def harm(port: int, seconds: float, seed: int, workers: int) -> dict[str, Any]:
    """What was sent and answered, as JSON has it."""
    tally, sdp, files = Tally(), await valid_offer(), recordings()
    viewers = [Hostile(port, random.Random(f"{seed} {index}"), tally, sdp, files) for index in range(workers)]
    until = time.monotonic() + seconds
    try:
        await asyncio.gather(*(act(viewer, until) for viewer in viewers))
    finally:
        for viewer in viewers:
            await viewer.http.close()
    return {
        "inputs": dict(sorted(tally.inputs.items())),
        "answers": {
            kind: {str(s): n for s, n in sorted(found.items())} for kind, found in sorted(tally.answers.items())
        },
        "faults": tally.faults,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile")
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4)
    o = parser.parse_args()
    os.nice(NICENESS)
    aiortc_patches.install(loopback_only=True)
    with nothing_decoded():
        print(json.dumps(asyncio.run(harm(o.port, o.seconds, o.seed, o.workers))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
