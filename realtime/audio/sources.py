"""Who speaks: the sound card's microphone, a browser's microphone, a recording, or nobody. Each speaks into a Feed."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from ..contract import SAMPLE_RATE
from ..errors import MiravoxError
from .input import AudioInput
from .sound_file import SpeechFile

AHEAD_SAMPLES = 5 * SAMPLE_RATE  # of a long recording are queued


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
    """A recording, once or again and again. A long one is read by a thread of its own, a few seconds ahead."""

    def __init__(self, audio_input: AudioInput, speech: SpeechFile, name: str, kind: str, loop: bool) -> None:
        """`speech` is closed by the recording."""
        self._input, self._speech, self._name, self._kind = audio_input, speech, name, kind
        self._loop = loop
        self._pushed = False  # to its end
        self._closed = False
        self._fault: MiravoxError | None = None
        self._low = threading.Event()  # less than a second is queued
        if speech.is_held:
            self._feed = audio_input.attach(live=False, on_low=self._push_all if loop else None)
            self._push_all()
            speech.close()
        else:
            self._feed = audio_input.attach(live=False, on_low=self._low.set)
            threading.Thread(target=self._read, name="recording", daemon=True).start()

    def _push_all(self) -> None:
        for piece in self._speech.pieces():
            self._feed.push(piece)
        self._feed.end_segment()
        self._pushed = True

    def _read(self) -> None:
        """On a thread of its own, so that decoding never keeps the sample clock waiting."""
        try:
            while not self._is_closed() and not self._pushed:
                ahead = 0
                for piece in self._speech.pieces():
                    if ahead >= AHEAD_SAMPLES:
                        self._low.wait()
                        ahead = 0
                    self._low.clear()
                    if self._is_closed():
                        break
                    self._feed.push(piece)
                    ahead += len(piece)
                else:
                    self._feed.end_segment()
                    self._pushed = not self._loop
                    if self._loop:
                        self._low.wait()
        except MiravoxError as error:  # the file was changed since it was opened
            self._fault = error
        finally:
            self._speech.close()

    def _is_closed(self) -> bool:
        return self._closed

    def state(self) -> SourceState:
        if self._fault is not None:
            fault = f"{self._name}: found {self._fault.found}. {self._fault.remedy}"
            return SourceState(self._kind, self._name, "lost", fault)
        over = not self._loop and self._pushed and self._input.state.queued_seconds == 0
        told = "; ".join(self._speech.repairs) or None
        return SourceState(self._kind, self._name, "ended" if over else "live", told)

    def close(self) -> None:
        """Returns at once; the thread ends after the piece that it reads."""
        self._closed = True
        self._low.set()


class BrowserMicrophone:
    """A browser's microphone over its peer connection: its viewer pushes what it says (realtime/web/uplink.py)."""

    def __init__(self, audio_input: AudioInput) -> None:
        self._input = audio_input
        self.feed = audio_input.attach(live=True)

    def state(self) -> SourceState:
        return SourceState("browser", "your microphone", "waiting" if self._input.state.waiting else "live")

    def close(self) -> None:
        pass
