"""Pictures of the page in every state, narrow and wide: the real page, server and avatar in headless Chromium.

    python -m bench screenshots --out DIR

writes page-STATE-WIDTH.jpg for idle, asking, connecting, live, live-dark, reconnecting and stopped-refused.
"""

from __future__ import annotations

import argparse
import base64
import signal
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from bench.browser import ROOT, ServerProcess, write_microphone
from bench.chromium import open_chromium
from bench.page import Page
from realtime.audio.sound_file import read_speech
from realtime.avatar import Avatar, load_avatar
from realtime.contract import SAMPLE_RATE

SIZES = ((400, 860), (1600, 1000))  # of the window, CSS pixels; the picture is as high as the page
JPEG_QUALITY = 88
LIVE_SECONDS = 15.0  # for figures to show and a line in the chart
PAUSE_SECONDS = 1.0  # between two sayings of the sample
SPOKEN_LEVEL = 55  # of the page's meter, 0 to 100

# A person who does not answer when the browser asks for the microphone.
UNANSWERED = "MediaDevices.prototype.getUserMedia = () => new Promise(() => {});"


def screenshots(avatar: Avatar, out: Path) -> list[Path]:
    """Writes all pictures. Raises MiravoxError if server or browser is missing or fails."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "run_stream.py"), "--avatar", str(avatar.folder.resolve())]
    with tempfile.TemporaryDirectory(prefix="miravox-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        speech = read_speech(avatar.sample).samples
        pause = np.zeros(int(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
        write_microphone(folder / "microphone.wav", np.concatenate([speech, pause]), 0)
        with ServerProcess(command, folder / "server.log") as server:
            chromium = open_chromium(folder / "microphone.wav", folder / "profile", asks=True)
            try:
                return [
                    *_waiting(Page(chromium, server.address, before=UNANSWERED), out),
                    *_refused(Page(chromium, server.address, "denied"), out),
                    *_running(Page(chromium, server.address), server, out),
                ]
            finally:
                chromium.quit()


def _waiting(page: Page, out: Path) -> list[Path]:
    taken = shoot(page, out, "idle")
    page.click("#start")
    page.wait_state("asking")
    taken += shoot(page, out, "asking")
    page.close()
    return taken


def _refused(page: Page, out: Path) -> list[Path]:
    page.click("#start")
    page.wait_state("stopped")
    taken = shoot(page, out, "stopped-refused")
    page.close()
    return taken


def _running(page: Page, server: ServerProcess, out: Path) -> list[Path]:
    """From Start to a server that is gone."""
    server.process.send_signal(signal.SIGSTOP)  # a server that takes its time
    page.click("#start")
    page.wait_state("connecting")
    taken = shoot(page, out, "connecting")
    server.process.send_signal(signal.SIGCONT)
    page.wait_state("live")
    time.sleep(LIVE_SECONDS)
    taken += shoot(page, out, "live", speaking=True)
    taken += shoot(page, out, "live-dark", scheme="dark", speaking=True)
    server.process.kill()
    page.wait_state("reconnecting")
    taken += shoot(page, out, "reconnecting")
    page.close()
    return taken


def shoot(page: Page, out: Path, state: str, scheme: str = "light", speaking: bool = False) -> list[Path]:
    """One picture of the whole page, nothing pulsing, for each of SIZES; `speaking`: while somebody is heard."""
    taken = []
    wishes = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    page.devtools("Emulation.setEmulatedMedia", features=[{"name": k, "value": v} for k, v in wishes.items()])
    for width, height in SIZES:
        page.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        page.run(
            "scrollTo(0, 0); return new Promise((laid) => requestAnimationFrame(() => requestAnimationFrame(laid)))"
        )
        if speaking:
            page.wait("speech", lambda: _level(page) > SPOKEN_LEVEL)
        size = page.devtools("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": width, "height": size["height"], "scale": 1}
        png = page.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        path = out / f"page-{state}-{width}.jpg"
        with Image.open(BytesIO(base64.b64decode(png))) as picture:
            picture.convert("RGB").save(path, quality=JPEG_QUALITY, subsampling=0, optimize=True)
        taken.append(path)
    page.devtools("Emulation.clearDeviceMetricsOverride")
    return taken


def _level(page: Page) -> float:
    return float(page.find("#meter").get_attribute("aria-valuenow") or 0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for page-STATE-WIDTH.jpg")


def run(o: argparse.Namespace) -> None:
    for path in screenshots(load_avatar(o.avatar), o.out):
        print(path)
