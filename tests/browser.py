"""A real server and a real browser: run_stream.py as a process of its own, and one Chromium for many tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome

from bench.browser import ServerProcess, wait_until, write_microphone
from bench.chromium import open_chromium
from bench.page import PATIENCE_SECONDS
from realtime.audio.sound_file import read_speech
from realtime.contract import SAMPLE_RATE
from tests.conftest import ROOT

SILENT_SECONDS, SPOKEN_SECONDS = 3, 4  # of the microphone, again and again


class Server(ServerProcess):
    """`python run_stream.py` on a free port, healthy when the context is entered and gone when it is left."""

    def __init__(self, folder: Path, *arguments: str | Path, token: str = "") -> None:
        command = [sys.executable, str(ROOT / "run_stream.py"), *map(str, arguments)]
        super().__init__(command, folder / "server.log")
        self._query = f"?token={quote(token)}" if token else ""

    def __enter__(self) -> Server:
        super().__enter__()
        return self

    @property
    def viewers(self) -> list[dict[str, Any]]:
        """GET /stats: one entry for each viewer."""
        return list(self._get("stats")["viewers"])

    def shows(self, *sessions: str | None) -> bool:
        """Whether its viewers view these sessions and no other; None is one that there is not."""
        found = {str(self._get(f"sessions/{session}")["session"]) for session in set(sessions) - {None}}
        private = sum(not viewer["shared"] for viewer in self.viewers)
        shared = any(viewer["shared"] for viewer in self.viewers)
        return found == set(sessions) and len(found) == private + shared

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.address}{path}{self._query}", timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)

    def wait_empty(self, seconds: float) -> None:
        """Raises MiravoxError if a session is left after so long."""
        wait_until(lambda: not self.viewers, seconds, "GET /stats", "no viewer", lambda: f"viewers {self.viewers}")

    def kill(self) -> None:
        """Ends it without a goodbye."""
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        """On the same port."""
        self.__enter__()


class Chromium:
    """One Chromium, started when it is needed, and again after it was killed. Its first window stays empty."""

    def __init__(self, microphone: Path, folder: Path) -> None:
        self._microphone, self._folder = microphone, folder
        self._driver: Chrome | None = None
        self._started = 0

    def driver(self) -> Chrome:
        """Raises MiravoxError if there is no Chromium here."""
        if self._driver is None:
            self._started += 1
            self._driver = open_chromium(self._microphone, self._folder / f"profile-{self._started}", asks=True)
        return self._driver

    @property
    def windows(self) -> list[str]:
        return [] if self._driver is None else self._driver.window_handles

    def console(self) -> list[str]:
        """What was written to the consoles of all pages since the last call."""
        if self._driver is None:
            return []
        return [f"{entry['source']}: {entry['message']}" for entry in self._driver.get_log("browser")]

    def kill(self) -> None:
        """SIGKILL to every process of it: no page says goodbye."""
        assert self._driver is not None
        for pid in descendants(self._driver.service.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            with contextlib.suppress(WebDriverException):  # one that was killed
                driver.quit()


def descendants(pid: int) -> list[int]:
    """Children of a process, their children, and so on."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, children.read_text().split()):
                found += [child, *descendants(child)]
    return found


def write_speaker(path: Path, recording: Path) -> Path:
    """A microphone at which somebody is silent, then speaks, again and again."""
    speech = read_speech(recording).samples[: SPOKEN_SECONDS * SAMPLE_RATE]
    write_microphone(path, np.concatenate([np.zeros(SILENT_SECONDS * SAMPLE_RATE, np.float32), speech]), 0)
    return path
