"""The sound card of this machine, through PyAudio: opened, watched, and opened again when it was gone."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..contract import SAMPLE_RATE
from ..errors import MiravoxError
from .block import BLOCK_SAMPLES
from .input import AudioInput, Feed
from .sources import SourceState

log = logging.getLogger("miravox")

DEVICE_OPEN_SECONDS = 10.0  # a sound server that does not answer for so long hangs
DEVICE_START_SECONDS = 5.0  # a card, and more so a headset without cable, may give its first samples so late
DEVICE_SILENCE_SECONDS = 1.0  # one that gives nothing for so long afterwards is gone
DEVICE_POLL_SECONDS = 0.2  # how often that is looked at
DEVICE_RETRY_SECONDS = 2.0  # a card that is gone is tried again so often
DEVICE_CLOSE_SECONDS = 1.0

_portaudio = threading.Lock()  # opening and closing devices is not thread-safe
_say_nothing = ctypes.CFUNCTYPE(None)(lambda: None)  # must live as long as the libraries that call it


class Microphone:
    """The sound card's microphone through PyAudio. A card that disappears turns into silence, and is tried again.

    All calls of PortAudio but its callback are made on one thread: a sound server that hangs holds up nobody else.
    """

    def __init__(self, audio_input: AudioInput, device: str | None) -> None:
        """`device`: a name or part of one, an index, or None for the default. Raises MiravoxError."""
        self._device = device
        self._name = device or "the default microphone"
        self._feed: Feed | None = None  # samples that come before there is one are dropped
        self._last_samples: float | None = None  # when some came last, since the card was opened; monotonic seconds
        self._message: str | None = None
        self._failure: MiravoxError | None = None
        self._opened, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="microphone", daemon=True)
        self._thread.start()
        if not self._opened.wait(DEVICE_OPEN_SECONDS):
            self._failure = MiravoxError(
                f"microphone {self._name}",
                found=f"a sound server that did not answer for {DEVICE_OPEN_SECONDS:.0f} s",
                wanted="one that answers",
                remedy="Restart PipeWire or PulseAudio, or choose another --device.",
            )
        if self._failure is not None:
            self._stopping.set()
            raise self._failure
        self._feed = audio_input.attach(live=True)  # now: until here the source before goes on

    def state(self) -> SourceState:
        state = "lost" if self._message else "waiting" if self._last_samples is None else "live"
        return SourceState("mic", self._name, state, self._message)

    def close(self) -> None:
        """Waits no longer than a second, even for a sound server that hangs."""
        self._stopping.set()
        self._feed = None
        self._thread.join(DEVICE_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with _portaudio:
                    audio, stream = self._open()
            except MiravoxError as error:
                if not self._opened.is_set():
                    self._failure = error
                    self._opened.set()
                    return
                self._stopping.wait(DEVICE_RETRY_SECONDS)
                continue
            self._opened.set()
            self._watch(stream)
            with _portaudio:
                close_device(audio, stream)

    def _open(self) -> tuple[Any, Any]:
        """PyAudio and the running stream. The list of devices is as new as PyAudio."""
        pyaudio = import_pyaudio()
        self._last_samples = None
        try:
            with contextlib.ExitStack() as undo:
                audio = pyaudio.PyAudio()
                undo.callback(audio.terminate)
                index, self._name = find_device(audio, self._device)
                rate = recording_rate(audio, index)
                stream = audio.open(
                    format=pyaudio.paInt16,
                    channels=1,
                    rate=rate,
                    input=True,
                    input_device_index=index,
                    frames_per_buffer=rate * BLOCK_SAMPLES // SAMPLE_RATE,
                    stream_callback=self._callback(rate),
                )
                undo.pop_all()
        except (OSError, ValueError) as error:
            raise MiravoxError(
                f"microphone {self._name}",
                found=f"a device that cannot be opened ({error})",
                wanted="a sound card that records",
                remedy="See run_stream.py --list-devices, and close other programs that use it.",
            ) from error
        return audio, stream

    def _callback(self, rate: int) -> Callable[[bytes, int, object, int], tuple[None, int]]:
        """What PortAudio calls on its own thread: copies and returns."""

        def callback(data: bytes, count: int, times: object, status: int) -> tuple[None, int]:
            self._last_samples = time.monotonic()
            feed = self._feed
            if feed is not None:
                feed.push(np.frombuffer(data, "<i2").astype(np.float32) * np.float32(1 / 32768), rate)
            return None, 0  # paContinue

        return callback

    def _watch(self, stream: Any) -> None:
        """Returns when the card is gone, or the microphone is closed."""
        opened = time.monotonic()
        while not self._stopping.wait(DEVICE_POLL_SECONDS):
            last = self._last_samples
            if last is not None and self._message is not None:
                self._message = None
                log.warning("microphone: %s is back", self._name)
            patience = DEVICE_START_SECONDS if last is None else DEVICE_SILENCE_SECONDS
            if time.monotonic() - (last or opened) < patience and is_active(stream):
                continue
            if self._message is None:
                self._message = f"{self._name} gives no sound: it was unplugged, or its sound server ended."
                log.warning("microphone: %s", self._message)
            return


def is_active(stream: Any) -> bool:
    try:
        return bool(stream.is_active())
    except OSError:  # the device is gone
        return False


def close_device(audio: Any, stream: Any) -> None:
    """Closes the stream, then PortAudio, so that its next user finds the devices of then."""
    for close in (stream.close, audio.terminate):
        try:
            close()
        except OSError as error:
            log.debug("a lost device did not close: %s", error)


def import_pyaudio() -> ModuleType:
    """Raises MiravoxError if it is not installed."""
    try:
        import pyaudio
    except ImportError as error:
        raise MiravoxError(
            "PyAudio",
            found=f"no such module ({error})",
            wanted="PyAudio, for --source mic",
            remedy="Install it: apt-get install portaudio19-dev; pip install --editable '.[mic]'.",
        ) from error
    quieten()
    module: ModuleType = pyaudio
    return module


@functools.cache
def quieten() -> None:
    """Stops ALSA and JACK from printing a line for every device that a machine does not have."""
    for library, setters in (
        ("libasound.so.2", ["snd_lib_error_set_handler"]),
        ("libjack.so.0", ["jack_set_error_function", "jack_set_info_function"]),
    ):
        try:
            loaded = ctypes.CDLL(library)  # the one that PortAudio uses
        except OSError:  # it uses none
            continue
        for setter in setters:
            getattr(loaded, setter)(_say_nothing)


def input_devices(audio: Any) -> list[tuple[int, str]]:
    """Index and name of all that record."""
    infos = [audio.get_device_info_by_index(i) for i in range(audio.get_device_count())]
    return [(int(info["index"]), str(info["name"])) for info in infos if info["maxInputChannels"] > 0]


def find_device(audio: Any, wanted: str | None) -> tuple[int, str]:
    """By index, name, or part of a name; None is the default. Raises MiravoxError."""
    devices = input_devices(audio)
    if wanted is None and devices:
        default = int(audio.get_default_input_device_info()["index"])
        return next((d for d in devices if d[0] == default), devices[0])
    exact = [d for d in devices if wanted in (str(d[0]), d[1])]
    partly = [d for d in devices if wanted is not None and wanted.lower() in d[1].lower()]
    if exact or partly:
        return (exact or partly)[0]
    names = "; ".join(f"{i}: {name}" for i, name in devices)
    raise MiravoxError(
        "microphone",
        found=f"{names or 'no device that records'}",
        wanted=wanted or "a sound card",
        remedy="Choose one with --device, or plug one in; --list-devices shows them.",
    )


def recording_rate(audio: Any, index: int) -> int:
    """16 kHz, or the rate that the device prefers if it does not have that."""
    try:
        audio.is_format_supported(
            SAMPLE_RATE, input_device=index, input_channels=1, input_format=import_pyaudio().paInt16
        )
    except ValueError:
        return int(audio.get_device_info_by_index(index)["defaultSampleRate"])
    return SAMPLE_RATE


def list_devices() -> str:
    """A line for each device that records. Raises MiravoxError without PyAudio."""
    pyaudio = import_pyaudio()
    with _portaudio, contextlib.ExitStack() as opened:
        audio = pyaudio.PyAudio()
        opened.callback(audio.terminate)
        lines = [f"{index}: {name}" for index, name in input_devices(audio)]
    return "\n".join(lines) or "no device that records"
