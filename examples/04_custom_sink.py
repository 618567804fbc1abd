"""Frames go wherever you like: here into the standard input of another program, as raw RGB.

python examples/04_custom_sink.py ffplay -f rawvideo -pixel_format rgb24 -video_size 512x512 -framerate 25 -i -

Without a program named, one that counts the bytes takes them.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE

import miravox

SECONDS = 2.0
COUNTER = [sys.executable, "-c", "import sys; print(len(sys.stdin.buffer.read()), 'bytes came')"]


class Program:
    """A sink: what takes frames. One that is too slow makes the stream drop frames, not fall behind."""

    def __init__(self, command: list[str]) -> None:
        self._command = command

    async def __aenter__(self) -> "Program":
        self._process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE)
        return self

    async def show(self, frame: miravox.Frame) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(frame.rgb.tobytes())
        await self._process.stdin.drain()

    async def __aexit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


async def main(*command: str) -> None:
    avatar = miravox.load("ada")
    async with Program(list(command) or COUNTER) as sink, avatar.stream() as stream:
        async for frame in stream:  # nobody speaks: she idles
            await sink.show(frame)
            if frame.index >= 25 * SECONDS:
                break
        print(f"{frame.index + 1} frames, {stream.dropped} of them dropped")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
