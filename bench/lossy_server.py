"""run_stream.py behind a network that fails in a known way.

    python -m bench.lossy_server [--loss SHARE] [--outage SECONDS --outage-after SECONDS] -- RUN_STREAM_OPTIONS

Faults are put in at the server's UDP sockets. Loss takes RTP packets only, each way from a seeded generator of its own,
so that the n-th packet's fate is always the same. The outage takes everything, STUN and DTLS included; it begins so
many seconds after the first RTP packet. Both ends of it are printed as a line `outage begins|ends at MILLISECONDS` of
the monotonic clock, and at the end how many packets were dropped.
"""

from __future__ import annotations

import argparse
import atexit
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from aioice.ice import StunProtocol
from aiortc.rtp import is_rtcp

import run_stream


def is_rtp(datagram: bytes) -> bool:
    """Whether a datagram is media: not STUN, DTLS or RTCP (RFC 7983)."""
    return len(datagram) >= 12 and 128 <= datagram[0] < 192 and not is_rtcp(datagram)


class Network:
    """What happens to datagrams.

    Args:
        loss: share of RTP packets that are lost, each way.
        outage_after: seconds from the first RTP packet until nothing passes any more, for `outage` seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self, loss: float, outage: float, outage_after: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.loss, self.outage, self.outage_after, self._clock = loss, outage, outage_after, clock
        self._fate = {way: np.random.default_rng(seed) for seed, way in enumerate(("in", "out"))}
        self._first: float | None = None
        self._was_out = False
        self.dropped = {"in": 0, "out": 0}

    def passes(self, datagram: bytes, way: str) -> bool:
        """Whether a datagram that goes "in" or "out" arrives."""
        now, media = self._clock(), is_rtp(datagram)
        if media and self._first is None:
            self._first = now
        lost = (media and self._fate[way].random() < self.loss) or self._out(now)
        self.dropped[way] += lost
        return not lost

    def _out(self, now: float) -> bool:
        """Whether nothing passes, and says when that changes."""
        if self._first is None or not self.outage:
            return False
        begins = self._first + self.outage_after
        ends = begins + self.outage
        out = begins <= now < ends
        if out != self._was_out:
            print(f"outage begins at {1000 * begins:.1f}" if out else f"outage ends at {1000 * ends:.1f}", flush=True)
            self._was_out = out
        return out

    def install(self) -> None:
        """Puts the network between aioice and its sockets."""
        receive, send_data, send_stun = (
            StunProtocol.datagram_received,
            StunProtocol.send_data,
            StunProtocol.send_stun,
        )

        def lossy_receive(protocol: Any, data: Any, address: Any) -> None:
            if self.passes(data, "in"):
                receive(protocol, data, address)

        async def lossy_send_data(protocol: Any, data: bytes, address: Any) -> None:
            if self.passes(data, "out"):
                await send_data(protocol, data, address)

        def lossy_send_stun(protocol: Any, message: Any, address: Any) -> None:
            if self.passes(bytes(message), "out"):
                send_stun(protocol, message, address)

        vars_of: Any = StunProtocol
        vars_of.datagram_received = lossy_receive
        vars_of.send_data, vars_of.send_stun = lossy_send_data, lossy_send_stun


def main() -> int:
    own, server = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, server = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(prog="python -m bench.lossy_server")
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--outage", type=float, default=0.0)
    parser.add_argument("--outage-after", type=float, default=0.0)
    options = parser.parse_args(own)
    network = Network(options.loss, options.outage, options.outage_after)
    network.install()
    atexit.register(lambda: print(f"dropped {network.dropped['in']} in, {network.dropped['out']} out", flush=True))
    return run_stream.main(server)


if __name__ == "__main__":
    sys.exit(main())
