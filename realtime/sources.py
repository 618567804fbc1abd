"""Who speaks: the sound card's microphone, a browser's microphone, a recording, or nobody. Each speaks into a Feed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from networks.contract import SAMPLE_RATE
from realtime.aiortc_patches import ImmediateAudioBuffer
from realtime.audio_input import BLOCK_SAMPLES, AudioInput, Feed
from realtime.errors import MiravoxError
from realtime.resampler import FloatArray, mono

log = logging.getLogger("miravox")

OPUS_RATE = 48_000  # Hz of an Opus time stamp
MAX_GAP_SECONDS = 1.0  # of a browser's lost packets that are filled with silence by time stamp
DEVICE_SILENCE_SECONDS = 1.0  # a sound card that gives nothing for so long is gone
DEVICE_RETRY_SECONDS = 2.0  # a card that is gone is tried again so often


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
        over = not self._loop and self._input.queued_seconds == 0
        return SourceState(self._kind, self._name, "ended" if over else "live")

    def close(self) -> None:
        pass


class BrowserMicrophone:
    """A browser's microphone over its peer connection: `listen` pushes what it says."""

    def __init__(self, audio_input: AudioInput) -> None:
        self._input = audio_input
        self.feed = audio_input.attach(live=True)

    def state(self) -> SourceState:
        return SourceState("browser", "your microphone", "waiting" if self._input.waiting else "live")

    def close(self) -> None:
        pass


async def listen(track: MediaStreamTrack, buffer: ImmediateAudioBuffer, feed: Callable[[], Feed | None]) -> None:
    """Passes a browser's sound to the feed of the moment until the track ends; with none it is dropped.

    Always drained, since aiortc's queue has no bound. Lost packets become silence by their time stamps.
    """
    next_pts: int | None = None
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        assert isinstance(frame, av.AudioFrame) and frame.pts is not None
        to = feed()
        if to is None:
            next_pts = None
            continue
        samples, _ = mono(frame)
        missing = 0 if next_pts is None else frame.pts - next_pts
        if 0 < missing <= MAX_GAP_SECONDS * OPUS_RATE:
            samples = np.concatenate([np.zeros(missing, np.float32), samples])
        next_pts = frame.pts + frame.samples
        first = ((buffer.first_timestamp or 0) + next_pts - len(samples)) & 0xFFFFFFFF
        to.push(samples, frame.sample_rate, source_time=first)


class Microphone:
    """The sound card's microphone through PyAudio. A card that disappears turns into silence, and is tried again."""

    def __init__(self, audio_input: AudioInput, device: str | None) -> None:
        """`device`: a name or part of one, an index, or None for the default. Raises MiravoxError."""
        self._device = device
        self._feed = audio_input.attach(live=True)
        self._heard = time.monotonic()
        self._message: str | None = None
        self._stopping = threading.Event()
        self._audio: Any = None
        self._stream: Any = None
        self._name = ""
        self._open()
        self._watcher = threading.Thread(target=self._watch, name="microphone", daemon=True)
        self._watcher.start()

    def state(self) -> SourceState:
        return SourceState("mic", self._name, "lost" if self._message else "live", self._message)

    def _open(self) -> None:
        pyaudio = import_pyaudio()
        self._audio = pyaudio.PyAudio()
        try:
            index, self._name = find_device(self._audio, self._device)
            self._stream = self._audio.open(
                format=pyaudio.paInt16, channels=1, rate=SAMPLE_RATE, frames_per_buffer=BLOCK_SAMPLES,
                input=True, input_device_index=index, stream_callback=self._callback,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            self._audio.terminate()
            raise MiravoxError(
                f"microphone {self._name or self._device or 'default'}",
                found=f"a device that cannot be opened ({error})",
                wanted="a sound card that records mono at 16 kHz",
                remedy="See run_stream.py --list-devices, and close other programs that use it.",
            ) from error
        except MiravoxError:
            self._audio.terminate()
            raise
        self._heard = time.monotonic()

    def _callback(self, data: bytes, count: int, times: object, status: int) -> tuple[None, int]:
        """On PortAudio's own thread: copies and returns."""
        self._heard = time.monotonic()
        self._feed.push(np.frombuffer(data, "<i2").astype(np.float32) * np.float32(1 / 32768))
        return None, 0  # paContinue

    def _watch(self) -> None:
        """Finds out that the card is gone, and tries until it is back."""
        while not self._stopping.wait(0.2):
            silent = time.monotonic() - self._heard > DEVICE_SILENCE_SECONDS
            if not silent and self._stream is not None and self._stream.is_active():
                continue
            if self._message is None:
                self._message = f"{self._name} gives no sound: it was unplugged, or its sound server ended."
                log.warning("microphone: %s", self._message)
            self._close_stream()
            try:
                self._open()
                self._message = None
                log.warning("microphone: %s is back", self._name)
            except MiravoxError:
                self._stopping.wait(DEVICE_RETRY_SECONDS)

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError as error:
                log.debug("a lost device did not close: %s", error)
            self._audio.terminate()

    def close(self) -> None:
        self._stopping.set()
        self._watcher.join()
        self._close_stream()


def import_pyaudio() -> ModuleType:
    """Raises MiravoxError if it is not installed."""
    try:
        import pyaudio
    except ImportError as error:
        raise MiravoxError(
            "PyAudio", found=f"no such module ({error})", wanted="PyAudio, for --source mic",
            remedy="Install it: apt-get install portaudio19-dev; pip install --editable '.[mic]'.",
        ) from error  # fmt: skip
    module: ModuleType = pyaudio
    return module


def input_devices(audio: Any) -> list[tuple[int, str]]:
    """Index and name of all that record."""
    infos = [audio.get_device_info_by_index(i) for i in range(audio.get_device_count())]
    return [(int(info["index"]), str(info["name"])) for info in infos if info["maxInputChannels"] > 0]


def find_device(audio: Any, wanted: str | None) -> tuple[int, str]:
    """By index, name, or part of a name; None is the default. Raises MiravoxError."""
    devices = input_devices(audio)
    if wanted is None and devices:
        default = int(audio.get_default_input_device_info()["index"])
        devices = [d for d in devices if d[0] == default] or devices
        return devices[0]
    exact = [d for d in devices if wanted in (str(d[0]), d[1])]
    partly = [d for d in devices if wanted is not None and wanted.lower() in d[1].lower()]
    if exact or partly:
        return (exact or partly)[0]
    names = "; ".join(f"{i}: {name}" for i, name in devices)
    raise MiravoxError(
        "microphone", found=f"{names or 'no device that records'}", wanted=wanted or "a sound card",
        remedy="Choose one with --device, or plug one in; --list-devices shows them.",
    )  # fmt: skip


def list_devices() -> str:
    """A line for each device that records. Raises MiravoxError without PyAudio."""
    audio = import_pyaudio().PyAudio()
    try:
        lines = [f"{index}: {name}" for index, name in input_devices(audio)]
    finally:
        audio.terminate()
    return "\n".join(lines) or "no device that records"
