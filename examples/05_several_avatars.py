"""Several avatars live in one process; each has a voice of its own. About three fit on two cores.

python examples/05_several_avatars.py [PITCH ...]
"""

import asyncio
import sys
import time

import miravox
import numpy as np

SECONDS = 2.0


def voice(pitch: float) -> np.ndarray:
    """A hum: a second of the harmonics of a pitch in Hz, at 48 kHz."""
    time_s = np.arange(48_000) / 48_000
    hum = np.zeros(48_000)
    for n in range(1, 20):
        hum += 0.1 / n * np.sin(2 * np.pi * pitch * n * time_s)
    return hum


async def talk(avatar: miravox.Avatar, pitch: float) -> tuple[float, int]:
    """Frames a second, after the first one, and how many were dropped."""
    async with avatar.stream() as stream:
        stream.push(voice(pitch), rate=48_000)
        stream.end_segment()
        shown: list[float] = []  # when each frame came
        async for _ in stream:
            shown.append(time.monotonic())
            if shown[-1] - shown[0] >= SECONDS:
                break
        return (len(shown) - 1) / (shown[-1] - shown[0]), stream.dropped


async def main(*pitches: str) -> None:
    avatar = miravox.load("ada")  # loaded once: streams share its networks
    chosen = [float(pitch) for pitch in pitches] or [110.0, 220.0]
    results = await asyncio.gather(*(talk(avatar, pitch) for pitch in chosen))
    for pitch, (rate, dropped) in zip(chosen, results, strict=True):
        print(f"voice at {pitch:.0f} Hz: {rate:.1f} frames a second, {dropped} dropped")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
