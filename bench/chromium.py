"""Headless Chromium, the one place where it is opened: for the page's tests, its screenshots, and the latency bench.

Its microphone is a file. Its flags keep it from the network; a page reaches 127.0.0.1 alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from realtime.errors import MiravoxError

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

BROWSERS, DRIVERS = ("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns,MediaRouter,OptimizationHints,Translate",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
GRANT = "--use-fake-ui-for-media-stream"  # every request for the microphone, even one that was denied before


def open_chromium(microphone: Path, profile: Path, asks: bool = False) -> Chrome:
    """Headless Chromium whose microphone plays a wav file; its console is logged. Raises MiravoxError if it is missing.

    Args:
        profile: a folder that is empty or does not exist yet.
        asks: the page has to ask for the microphone, and `Page.answer_microphone` answers; otherwise it is given.
    """
    browser, driver = _program("Chromium", *BROWSERS), _program("ChromeDriver", *DRIVERS)
    try:
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver import Chrome
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service
    except ImportError as error:
        raise MiravoxError(
            "selenium", found="none", wanted="selenium 4.20 or newer", remedy="pip install --editable '.[dev]'"
        ) from error
    options = Options()
    options.binary_location = browser
    files = (f"--use-file-for-fake-audio-capture={microphone}", f"--user-data-dir={profile}")
    for flag in (*FLAGS, *files, *(() if asks else (GRANT,))):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        return Chrome(options=options, service=Service(driver))
    except WebDriverException as error:
        raise MiravoxError(
            browser,
            found=f"a browser that does not start ({error.msg})",
            wanted="Chromium and its own ChromeDriver",
            remedy="Install both in the same version.",
        ) from error


def _program(thing: str, *names: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    raise MiravoxError(
        thing,
        found="none on the PATH",
        wanted=" or ".join(names),
        remedy="On Debian and Ubuntu: apt-get install chromium chromium-driver.",
    )
