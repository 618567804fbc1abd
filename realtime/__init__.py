"""Miravox: a real-time talking portrait.

    import miravox

    avatar = miravox.load("ada")                        # an avatar that ships, or a folder
    for frame in avatar.render("talk.wav"):             # as fast as it goes
        frame.index, frame.rgb, frame.samples           # 512 x 512 x 3 uint8, and the 40 ms of speech beside it

    async with avatar.stream() as stream:               # in real time, for agents
        stream.push(samples, rate=24_000)
        stream.end_segment()
        async for frame in stream:
            ...

The public names are those of `__all__`; everything else may change. They are imported when they are first used, so that
what needs only the constants of `contract` loads no video codec and no network runtime.

In a clone the same files are the package `realtime`. A process takes one of the two names: under both there would be
two copies of every class, and an error raised by one would not be caught as the other's.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import Avatar, load
    from .audio.playback import PlaybackFinished, PlaybackStarted
    from .errors import MiravoxError
    from .stream.frame_stream import Stream
    from .stream.rendering import Rendering
    from .stream.spoken_frame import Frame
else:

    def __getattr__(name: str) -> object:
        """Imports a public name when it is first used (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value


__version__ = "0.1.0"
_HOMES = {
    "Avatar": "api",
    "Frame": "stream.spoken_frame",
    "MiravoxError": "errors",
    "PlaybackFinished": "audio.playback",
    "PlaybackStarted": "audio.playback",
    "Rendering": "stream.rendering",
    "Stream": "stream.frame_stream",
    "load": "api",
}
__all__ = [
    "Avatar",
    "Frame",
    "MiravoxError",
    "PlaybackFinished",
    "PlaybackStarted",
    "Rendering",
    "Stream",
    "__version__",
    "load",
]

for _name in {"miravox", "realtime"} - {__name__}:
    # Another project's package of that name has no MiravoxError.
    if "MiravoxError" in getattr(sys.modules.get(_name), "__all__", ()):
        raise ImportError(
            f"{__name__}: this process has imported {_name} already, which is the same code under another name. "
            f"Import {_name} everywhere, or run the two in processes of their own."
        )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
