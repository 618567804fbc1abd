"""The server and a headless Chromium that plays its page, unmodified; everything that the probe in the page notes."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from bench.chromium import open_chromium
from realtime.arrays import FloatArray
from realtime.contract import SAMPLE_RATE
from realtime.errors import MiravoxError

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

TimeArray = NDArray[np.floating[Any]]  # milliseconds since 1970 on the browser's clock, unless said otherwise
Table = NDArray[np.void]  # rows with named columns

ROOT = Path(__file__).resolve().parents[1]
PROBE = Path(__file__).with_name("latency_probe.js")
MICROPHONE_RATE = 48_000  # Hz
CROP_WIDTH, CROP_HEIGHT = 64, 48  # pixels of the picture around the mouth
POLL_MS = 200.0  # between two looks at the server's state
START_SECONDS = 60.0  # for the server to load its avatar, and for the page to be live
PIECE_BYTES = 4 << 20  # fetched from the browser at a time
LATENCY_DISPLAY = "#latency"  # where the page shows its own figure
START_BUTTON = "button.primary"


def _table(names: str) -> np.dtype[np.void]:
    return np.dtype([(name, "<f8") for name in names.split()])


# Times in the browser's milliseconds but for `processing_ms` and `cost_ms`, which last, and `context_s`.
FRAME = _table("rtp_timestamp display presented count received processing_ms called cost_ms")
PACKET = _table("rtp_timestamp noted")
MIC_BLOCK = _table("arrival stamp first count")
HEARD_BLOCK = _table("context_s first count")
OUTPUT = _table("context_s heard")
POLL = _table("asked answered")
PAGE_LATENCY = _table("time latency_ms")


@dataclass(frozen=True)
class Observed:
    """All that the probe noted while the page ran."""

    frames: Table  # FRAME: one row for each displayed frame
    crops: NDArray[np.uint8]  # [frames, CROP_HEIGHT, CROP_WIDTH, 3] sRGB around the mouth
    packets: Table  # PACKET: one row for each encoded packet of the microphone
    mic: FloatArray  # 16 kHz, as the page gets it
    mic_blocks: Table  # MIC_BLOCK: when the samples [first, first + count) of `mic` had come
    heard: FloatArray  # 16 kHz, what comes back, at the output of WebAudio
    heard_blocks: Table  # HEARD_BLOCK
    outputs: Table  # OUTPUT: when the sample at a time of the audio context is heard, output latency included
    polls: Table  # POLL: one row for each of `answers`
    answers: list[dict[str, Any]]  # GET /viewers/{id}
    page_latency: Table  # PAGE_LATENCY: what the page itself shows
    opened: float  # when the page was asked for
    live: float  # when the page said that it is live
    start_s: float  # from the server's process to its first answer that it is ready
    server_log: str  # what the server printed


@dataclass(frozen=True)
class Plan:
    """What is to be observed."""

    command: list[str]  # that starts the server, without its port
    speech: FloatArray  # 16 kHz, [-1, 1]: what is spoken, again and again
    seconds: float  # from the moment that the page is live
    region: tuple[
        float, float, float, float
    ]  # left, top, right, bottom around the mouth, in shares of the frame's side


def write_microphone(path: Path, speech: FloatArray, seconds: float) -> None:
    """The speech repeated to at least `seconds`, as 48 kHz mono 16 bit wav: three samples for each of 16 kHz."""
    tiled = np.resize(speech, max(len(speech), int(seconds * SAMPLE_RATE)))
    frame = av.AudioFrame.from_ndarray(tiled[None], format="flt", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    resampler = av.AudioResampler(format="s16", layout="mono", rate=MICROPHONE_RATE)
    pieces = [out.to_ndarray()[0] for out in (*resampler.resample(frame), *resampler.resample(None))]
    sound = np.concatenate(pieces)[: len(tiled) * MICROPHONE_RATE // SAMPLE_RATE]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(MICROPHONE_RATE)
        file.writeframes(sound.astype("<i2").tobytes())


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class ServerProcess:
    """The server as a process of its own, healthy when the context is entered and gone when it is left."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.port, self.log = free_port(), log
        self.command = [*command, "--port", str(self.port)]
        self.address = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> ServerProcess:
        started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until(self._healthy, START_SECONDS, "server", "an answer to GET /health", self.tail)
            self.start_s = time.monotonic() - started
        except BaseException:  # an interruption, too, must leave no server behind
            self.stop()
            raise
        return self

    def _healthy(self) -> bool:
        if self.process.poll() is not None:
            raise MiravoxError(
                "server",
                found=f"exit code {self.process.returncode}: {self.tail()}",
                wanted="a server that stays up",
                remedy=f"Try {' '.join(self.command)} by hand.",
            )
        try:
            with urllib.request.urlopen(f"{self.address}health", timeout=5) as answer:
                return bool(json.load(answer).get("status") == "ok")
        except (urllib.error.URLError, OSError, ValueError):
            return False

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-500:].strip()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.stop()


def wait_until(
    ready: Callable[[], bool], seconds: float, thing: str, wanted: str, found: Callable[[], str], look: float = 0.05
) -> None:
    """Returns when `ready()`, asked every `look` seconds; raises MiravoxError after so many seconds."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise MiravoxError(
                thing, found=f"none after {seconds:.0f} s ({found()})", wanted=wanted, remedy="See what it says."
            )
        time.sleep(look)


def observe(plan: Plan) -> Observed:
    """Runs server and browser for the planned time. Raises MiravoxError if either does not start or stay."""
    with tempfile.TemporaryDirectory(prefix="miravox-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        microphone = folder / "microphone.wav"
        write_microphone(microphone, plan.speech, plan.seconds + START_SECONDS)
        chromium = open_chromium(microphone, folder / "profile")
        try:
            with ServerProcess(plan.command, folder / "server.log") as server:
                opened, live = play(chromium, server, plan)
                parts = fetch(chromium)
        finally:
            chromium.quit()
        log = (folder / "server.log").read_text(errors="replace")
        return observed(parts, opened, live, server.start_s, log)


def play(chromium: Chrome, server: ServerProcess, plan: Plan) -> tuple[float, float]:
    """Opens the page with the probe in it, presses its button, waits; returns when it was opened and when live."""
    config = {
        "region": plan.region,
        "width": CROP_WIDTH,
        "height": CROP_HEIGHT,
        "poll_ms": POLL_MS,
        "latency_selector": LATENCY_DISPLAY,
    }
    probe = f"globalThis.latencyProbeConfig = {json.dumps(config)};\n{PROBE.read_text()}"
    chromium.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})  # the probe's workers
    chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": probe})
    chromium.set_script_timeout(60)
    opened = 1000 * time.time()
    chromium.get(server.address)

    def state() -> str:
        return str(chromium.execute_script("return document.body.dataset.state"))

    wait_until(
        lambda: bool(chromium.execute_script("return document.readyState === 'complete'")),
        START_SECONDS,
        "page",
        "a loaded page",
        state,
    )
    chromium.execute_script("document.querySelector(arguments[0]).click()", START_BUTTON)
    wait_until(lambda: state() == "live", START_SECONDS, "page", "data-state live", state)
    live = float(chromium.execute_script("return performance.timeOrigin + performance.now()"))
    time.sleep(plan.seconds)
    return opened, live


def fetch(chromium: Chrome) -> dict[str, bytes]:
    """What the probe recorded, part by part."""
    sizes = chromium.execute_async_script(
        "const done = arguments[0]; latencyProbe.collect().then(done, (e) => done({ error: String(e) }));"
    )
    if "error" in sizes:
        raise MiravoxError("probe", found=sizes["error"], wanted="a recording", remedy="Use a newer Chromium.")
    take = "return latencyProbe.take(...arguments)"
    return {
        name: b"".join(
            base64.b64decode(chromium.execute_script(take, name, at, min(PIECE_BYTES, size - at)))
            for at in range(0, size, PIECE_BYTES)
        )
        for name, size in sizes.items()
    }


def observed(parts: dict[str, bytes], opened: float, live: float, start_s: float, server_log: str) -> Observed:
    """The probe's parts as tables. Raises MiravoxError if the probe saw less than it has to."""
    faults = json.loads(parts["faults"])
    for name, what in (("frames", "frames"), ("packets", "packets of the microphone"), ("answers", "session")):
        if len(parts[name]) <= 2:
            raise MiravoxError(
                "page",
                found=f"no {what} ({'; '.join(faults) or 'no fault noted'})",
                wanted="a page that streams",
                remedy="Open it in a browser by hand.",
            )
    table = {
        name: np.frombuffer(parts[name], kind)
        for name, kind in (
            ("frames", FRAME),
            ("packets", PACKET),
            ("mic_blocks", MIC_BLOCK),
            ("heard_blocks", HEARD_BLOCK),
            ("outputs", OUTPUT),
            ("polls", POLL),
            ("page_latency", PAGE_LATENCY),
        )
    }
    sound: dict[str, FloatArray] = {
        name: np.frombuffer(parts[name], "<i2").astype(np.float32) / np.float32(32768) for name in ("mic", "heard")
    }
    crops = np.frombuffer(parts["crops"], np.uint8).reshape(-1, CROP_HEIGHT, CROP_WIDTH, 3)
    return Observed(
        table["frames"],
        crops,
        table["packets"],
        sound["mic"],
        table["mic_blocks"],
        sound["heard"],
        table["heard_blocks"],
        table["outputs"],
        table["polls"],
        json.loads(parts["answers"]),
        table["page_latency"],
        opened,
        live,
        start_s,
        server_log,
    )


def server_command(avatar: Path, target: str, faults: list[str]) -> list[str]:
    """How the server is started: run_stream.py itself, or behind a network that fails as `faults` say."""
    script = [str(ROOT / "run_stream.py")] if not faults else ["-m", "bench.lossy_server", *faults, "--"]
    return [sys.executable, *script, "--source", "browser", "--avatar", str(avatar.resolve()), "--target", target]
