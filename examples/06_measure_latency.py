"""How long after a sound the frame that shows it is in your hands, on your machine.

python examples/06_measure_latency.py [TIMES]

What comes before (a microphone, a synthesiser) and after it (an encoder, a network, a screen) is not in it. The floor
is the lookahead: so much speech after a frame's own moment the networks want to see.
"""

import asyncio
import statistics
import sys
import time

import miravox
import numpy as np

RATE = 16_000


async def main(times: str = "20") -> None:
    avatar = miravox.load("ada")
    burst = np.full(RATE // 10, 0.5, np.float32)  # 100 ms
    delays: list[float] = []
    async with avatar.stream() as stream:
        pushed: float | None = None
        async for frame in stream:
            now = time.monotonic()
            if pushed is not None and frame.samples.any():
                # The frame shows the moment of its first sample, which was so much earlier than the burst's.
                earlier = np.flatnonzero(frame.samples)[0] / RATE
                delays.append(1000 * (now - pushed + earlier))
                pushed = None
                if len(delays) == int(times):
                    break
            elif pushed is None and not frame.samples.any():
                pushed = now
                stream.push(burst, rate=RATE)
                stream.end_segment()
    ordered = sorted(delays)
    print(f"pushed until shown: median {statistics.median(ordered):.0f} ms, highest {ordered[-1]:.0f} ms")
    print(f"of it lookahead: {1000 * avatar.lookahead_seconds:.1f} ms")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
