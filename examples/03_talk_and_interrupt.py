"""What a voice agent does: speech is pushed as fast as it is synthesised, said in real time, and cut off when the user
begins to speak.

python examples/03_talk_and_interrupt.py [RECORDING [SECONDS]]
"""

import asyncio
import sys
from collections.abc import Iterator

import av
import miravox
import numpy as np

RATE = 24_000  # what many synthesisers speak at


def synthesise(recording: str) -> Iterator[np.ndarray]:
    """Stands for a text-to-speech engine: pieces of 16-bit mono speech."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(recording) as file:
        for piece in file.decode(audio=0):
            for speech in resampler.resample(piece):
                yield speech.to_ndarray()[0]


async def show(stream: miravox.Stream) -> None:
    """Here the frames would be sent to the user: frame.rgb, and frame.samples beside it."""
    async for frame in stream:
        if frame.index % 25 == 0:
            print(f"frame {frame.index}: loudness {np.abs(frame.samples).mean():.3f}")


async def main(recording: str | None = None, seconds: str = "2") -> None:
    avatar = miravox.load("ada")
    async with avatar.stream() as stream:
        showing = asyncio.create_task(show(stream))
        for speech in synthesise(recording or str(avatar.sample)):
            stream.push(speech, rate=RATE)
        stream.end_segment()
        async for event in stream.events():
            if isinstance(event, miravox.PlaybackStarted):
                print("the user hears the first word")
                asyncio.get_running_loop().call_later(float(seconds), stream.interrupt)
            elif isinstance(event, miravox.PlaybackFinished):
                print(f"{'cut off' if event.interrupted else 'said'} after {event.seconds:.2f} s")
                break
    await showing  # it ends with the stream


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
