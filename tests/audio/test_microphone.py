"""The sound card's microphone: PortAudio and PulseAudio for real, with a sink in place of the card."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from realtime.arrays import FloatArray
from realtime.audio import microphone as microphone_module
from realtime.audio.block import Block
from realtime.audio.input import AudioInput
from realtime.audio.microphone import Microphone, find_device, list_devices, recording_rate
from realtime.audio.sound_file import read_speech
from realtime.audio.sources import SourceState
from realtime.contract import SAMPLE_RATE
from realtime.errors import MiravoxError
from tests.conftest import ROOT, lacking
from tests.live_server import LiveServer, free_port
from tests.pulse import RATE, Pulse, wait_for


@pytest.fixture
def pulse(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    """A sound server of this test's own; PortAudio of this process uses it, too."""
    if find_spec("pyaudio") is None:
        lacking("PyAudio (pip install -e .[mic])")
    with Pulse() as pulse:
        for name, value in pulse.environment.items():
            monkeypatch.setenv(name, value)
        pulse.start()
        if "headset" not in list_devices():
            lacking("ALSA's plugin for PulseAudio (apt-get install libasound2-plugins)")
        yield pulse


def clicks(count: int, step: int = RATE // 4) -> FloatArray:
    """float32 [n], 48 kHz: a click of 1 ms every quarter of a second."""
    samples = np.zeros(count * step, np.float32)
    for k in range(count):
        samples[k * step : k * step + RATE // 1000] = 0.8
    return samples


def hum(seconds: float) -> FloatArray:
    """float32 [n], 48 kHz, 200 Hz."""
    return np.asarray(0.5 * np.sin(2 * np.pi * 200 * np.arange(int(seconds * RATE)) / RATE), np.float32)


def click_samples(heard: FloatArray) -> list[int]:
    """Where the clicks begin: loud after 50 ms of quiet."""
    loud = np.flatnonzero(heard > 0.3)
    return [int(s) for i, s in enumerate(loud) if i == 0 or s - loud[i - 1] > SAMPLE_RATE // 20]


class Ear:
    """Stands in for AudioInput: keeps what is pushed, as it comes."""

    def __init__(self) -> None:
        self.blocks: list[FloatArray] = []
        self.rates: set[int] = set()

    def attach(self, live: bool) -> Ear:
        assert live
        return self

    def push(self, samples: FloatArray, rate: int) -> None:
        self.rates.add(rate)
        self.blocks.append(samples)

    @property
    def heard(self) -> FloatArray:
        return np.concatenate([np.zeros(0, np.float32), *self.blocks])


Listen = Callable[..., Microphone]


@pytest.fixture
def listen(pulse: Pulse) -> Iterator[Listen]:
    """listen(ear or audio input, device) opens a microphone; it is closed after the test."""
    opened: list[Microphone] = []

    def listen(ear: Any, device: str | None = None) -> Microphone:
        opened.append(Microphone(ear, device))
        return opened[-1]

    yield listen
    for microphone in opened:
        microphone.close()


def threads() -> int:
    """Of microphones."""
    return sum(thread.name == "microphone" for thread in threading.enumerate())


class Clock:
    """An AudioInput that runs: the blocks of its sample clock."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.input = AudioInput(self.blocks.append)
        self.input.start()

    @property
    def end_sample(self) -> int:
        return self.blocks[-1].start + len(self.blocks[-1].samples) if self.blocks else 0

    def loudest_after(self, sample: int) -> float:
        return max((float(np.abs(b.samples).max(initial=0)) for b in self.blocks if b.start >= sample), default=0.0)


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    clock.input.stop()


# What it hears


def test_what_is_played_arrives_sample_by_sample(pulse: Pulse, listen: Listen) -> None:
    pulse.play(clicks(60))
    ear = Ear()
    microphone = listen(ear)
    wait_for(lambda: len(click_samples(ear.heard)) >= 8, "eight clicks")
    assert microphone.state() == SourceState("mic", "default", "live")
    microphone.close()
    assert ear.rates == {SAMPLE_RATE} and {len(b) for b in ear.blocks} == {320}
    assert ear.heard.dtype == np.float32 and 0.5 < ear.heard.max() <= 1
    steps = np.diff(click_samples(ear.heard)[:8])
    assert np.median(np.abs(steps - SAMPLE_RATE // 4)) <= SAMPLE_RATE // 1000, steps


def test_nothing_arrives_after_the_end(pulse: Pulse, listen: Listen) -> None:
    pulse.play(hum(20))
    ear = Ear()
    microphone = listen(ear)
    wait_for(lambda: ear.blocks, "a block")
    microphone.close()
    count = len(ear.blocks)
    listen(ear).close()  # the device is free again, and what it says now is heard by nobody
    assert len(ear.blocks) == count and threads() == 0


def test_a_wrong_microphone_leaves_the_source_before(listen: Listen, clock: Clock) -> None:
    feed = clock.input.attach(live=True)
    with pytest.raises(MiravoxError, match="found 0: headset; 1: default; wanted trumpet"):
        listen(clock.input, "trumpet")
    assert feed.attached


# Which device


@pytest.mark.parametrize(
    ("wanted", "name"), [(None, "default"), ("0", "headset"), ("headset", "headset"), ("HEAD", "headset")]
)
def test_devices_are_found(listen: Listen, wanted: str | None, name: str) -> None:
    assert listen(Ear(), wanted).state().name == name


def run(*options: str, **environment: str) -> tuple[int, str, str]:
    """run_stream.py in a process of its own; exit code, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, ROOT / "run_stream.py", *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_devices_are_listed(pulse: Pulse) -> None:
    assert run("--list-devices") == (0, "0: headset\n1: default\n", "")


def test_without_a_sound_card(pulse: Pulse, listen: Listen) -> None:
    pulse.kill()
    assert run("--list-devices") == (0, "no device that records\n", "")
    with pytest.raises(MiravoxError, match="no device that records; wanted a sound card. .*plug one in"):
        listen(Ear())


def test_without_pyaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyaudio", None)
    ear: Any = Ear()
    with pytest.raises(MiravoxError, match="PyAudio: found no such module .*apt-get install portaudio19-dev"):
        Microphone(ear, None)


def test_portaudio_is_closed_when_listing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card may go while devices are listed: the next caller must find PortAudio as it was."""
    closed = []

    class FailingAudio:
        def get_device_count(self) -> int:
            raise OSError("the sound server ended")

        def terminate(self) -> None:
            closed.append(True)

    monkeypatch.setattr(microphone_module, "import_pyaudio", lambda: SimpleNamespace(PyAudio=FailingAudio))
    with pytest.raises(OSError, match="ended"):
        list_devices()
    assert closed == [True] and not microphone_module._portaudio.locked()


class FakeAudio:
    """PyAudio on a card that knows 44.1 kHz only, and that fails as wanted."""

    def is_format_supported(self, rate: int, **_: object) -> bool:
        if rate != 44_100:
            raise ValueError("Invalid sample rate", -9997)
        return True

    def get_device_info_by_index(self, index: int) -> dict[str, object]:
        return {"index": index, "name": "card", "maxInputChannels": 2, "defaultSampleRate": 44_100.0}

    def get_device_count(self) -> int:
        return 2

    def get_default_input_device_info(self) -> dict[str, object]:
        return self.get_device_info_by_index(1)


def test_a_card_without_16_khz_records_at_its_own_rate() -> None:
    if find_spec("pyaudio") is None:
        lacking("PyAudio (pip install -e .[mic])")
    assert recording_rate(FakeAudio(), 0) == 44_100
    assert find_device(FakeAudio(), None) == (1, "card")


# A card that goes away


def test_a_card_that_disappears_is_silence_until_it_is_back(pulse: Pulse, listen: Listen, clock: Clock) -> None:
    pulse.play(hum(20))
    microphone = listen(clock.input, "headset")
    wait_for(lambda: clock.loudest_after(0) > 0.3, "the hum")
    pulse.kill()
    wait_for(lambda: microphone.state().state == "lost", "the loss")
    assert microphone.state().message == "headset gives no sound: it was unplugged, or its sound server ended."
    lost_at = clock.end_sample
    wait_for(lambda: clock.end_sample > lost_at + SAMPLE_RATE // 2, "the sample clock")
    assert clock.loudest_after(lost_at) == 0, "silence"

    pulse.start()
    pulse.play(hum(20))
    back_at = clock.end_sample
    wait_for(lambda: clock.loudest_after(back_at) > 0.3, "the hum")
    wait_for(lambda: microphone.state() == SourceState("mic", "headset", "live"), "the good news")
    microphone.close()
    starts = np.cumsum([0, *(len(b.samples) for b in clock.blocks)])
    assert [b.start for b in clock.blocks] == list(starts[:-1]), "the clock has no gap"


def test_a_sound_server_that_hangs_holds_up_nothing(pulse: Pulse, listen: Listen, clock: Clock) -> None:
    pulse.play(hum(20))
    microphone = listen(clock.input)
    wait_for(lambda: clock.loudest_after(0) > 0.3, "the hum")
    pulse.freeze()
    try:
        wait_for(lambda: microphone.state().state == "lost", "the loss")
        started, sample = time.monotonic(), clock.end_sample
        microphone.close()
        assert time.monotonic() - started < 2
        wait_for(lambda: clock.end_sample > sample, "the sample clock")
    finally:
        pulse.thaw()
    wait_for(lambda: threads() == 0, "the end of the microphone's thread")


def test_a_sound_server_that_does_not_answer(pulse: Pulse, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone_module, "DEVICE_OPEN_SECONDS", 0.2)
    pulse.freeze()
    try:
        with pytest.raises(MiravoxError, match="a sound server that did not answer"):
            listen(Ear())
    finally:
        pulse.thaw()
    wait_for(lambda: threads() == 0, "the end of the microphone's thread")


# In the real server


def test_a_wrong_device_stops_the_server_with_one_line(pulse: Pulse, ada: Path, gl_context: object) -> None:
    code, out, err = run("--source", "mic", "--device", "trumpet", "--size", "128", "--port", str(free_port()))
    assert (code, out) == (2, "")
    assert err.startswith("miravox: microphone: found 0: headset; 1: default; wanted trumpet.") and err.count("\n") == 1


def test_the_avatar_hears_the_microphone(pulse: Pulse, ada: Path, gl_context: object, tmp_path: Path) -> None:
    pulse.play(hum(60))
    record = tmp_path / "heard.mp4"
    with LiveServer("--source", "mic", "--device", "head", "--size", "128", "--record", record) as server:
        assert server.get("/health")[1]["status"] == "ok"
        assert server.get("/config")[1]["shared"]["name"] == "headset"
        server.wait_for(lambda: server.get("/stats")[1]["frames"]["rendered"] >= 50)
        code, out, err = server.stop()
    assert code == 0 and out.startswith("Miravox: Ada is at")
    assert err == f"miravox: recorded {record} (0 frames dropped)\n"
    with av.open(str(record)) as video:
        assert video.metadata["title"] == "Ada" and "nobody is portrayed" in video.metadata["comment"]
    heard = read_speech(record).samples
    spectrum = np.abs(np.fft.rfft(heard[-SAMPLE_RATE:]))
    assert np.abs(heard).max() > 0.3 and spectrum.argmax() == pytest.approx(200, abs=2), "the hum"
