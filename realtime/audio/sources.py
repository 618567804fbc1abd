"""Who speaks: the sound card's microphone, a browser's microphone, a recording, or nobody. Each speaks into a Feed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..arrays import FloatArray
from .input import AudioInput


@dataclass(frozen=True)
class SourceState:
    """What a source is and how it is."""

    kind: str  # browser, mic, file, sample, silence
    name: str
    state: str  # live, waiting (for samples), ended, lost
    message: str | None = None


class Source(Protocol):
    """What speaks in a session. Opened by its constructor, which raises MiravoxError."""

    def state(self) -> SourceState: ...

    def close(self) -> None: ...


class Silence:
    """Nobody speaks; the avatar idles."""

    def __init__(self, audio_input: AudioInput) -> None:
        audio_input.attach(live=False)

    def state(self) -> SourceState:
        return SourceState("silence", "silence", "live")

    def close(self) -> None:
        pass


class Recording:
    """A recording, once or again and again."""

    def __init__(self, audio_input: AudioInput, samples: FloatArray, name: str, kind: str, loop: bool) -> None:
        """`samples`: float32 [n], 16 kHz, the whole recording."""
        self._input, self._samples, self._name, self._kind = audio_input, samples, name, kind
        self._feed = audio_input.attach(live=False, on_low=self._again if loop else None)
        self._loop = loop
        self._again()

    def _again(self) -> None:
        self._feed.push(self._samples)
        self._feed.end_segment()

    def state(self) -> SourceState:
        over = not self._loop and self._input.state.queued_seconds == 0
        return SourceState(self._kind, self._name, "ended" if over else "live")

    def close(self) -> None:
        pass


class BrowserMicrophone:
    """A browser's microphone over its peer connection: its viewer pushes what it says (realtime/web/uplink.py)."""

    def __init__(self, audio_input: AudioInput) -> None:
        self._input = audio_input
        self.feed = audio_input.attach(live=True)

    def state(self) -> SourceState:
        return SourceState("browser", "your microphone", "waiting" if self._input.state.waiting else "live")

    def close(self) -> None:
        pass
