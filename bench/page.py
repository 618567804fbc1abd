"""The page in Chromium, used as a person uses it: opened, clicked, read, waited for. For its tests and its screenshots.

Unlike the latency bench's, this Chromium asks for the microphone, and the answer can be chosen.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from bench.browser import FLAGS, wait_until
from realtime.errors import MiravoxError

PATIENCE_SECONDS = 30.0  # for whatever the page should come to, on a machine that does other things, too
BROWSERS, DRIVERS = ("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)

# The page has learnt what the server has, and shows the avatar's name; or it says why not.
ANSWERED = "return / · /.test(document.title) || / again\\.$/.test(document.querySelector('#state')?.textContent)"

Microphone = Literal["granted", "denied", "prompt"]


def open_chromium(microphone: Path, profile: Path) -> Chrome:
    """Headless Chromium whose microphone plays a wav file; its console is logged. Raises MiravoxError if it is missing.

    Args:
        profile: a folder that is empty or does not exist yet.
    """
    options = Options()
    options.binary_location = _program(*BROWSERS)
    driver = _program(*DRIVERS)
    for flag in FLAGS:
        if flag != "--use-fake-ui-for-media-stream":  # it would grant what was denied
            options.add_argument(flag)
    options.add_argument(f"--use-file-for-fake-audio-capture={microphone}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        return Chrome(options=options, service=Service(driver))
    except WebDriverException as error:
        raise MiravoxError(
            options.binary_location, found=f"a browser that does not start ({error.msg})",
            wanted="Chromium and its own ChromeDriver", remedy="Install both in the same version.",
        ) from error  # fmt: skip


def _program(*names: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    raise MiravoxError(
        "browser", found="none on the PATH", wanted=" or ".join(names),
        remedy="On Debian and Ubuntu: apt-get install chromium chromium-driver.",
    )  # fmt: skip


class Page:
    """One window of Chromium that shows the page."""

    def __init__(self, chromium: Chrome, address: str, microphone: Microphone = "granted", before: str = "") -> None:
        """Opens it. `before` is a script that runs ahead of the page's own, at every load."""
        self._chromium, self.address = chromium, address
        chromium.switch_to.new_window("window")
        self.window = chromium.current_window_handle
        self.answer_microphone(microphone)
        if before:
            self.devtools("Page.addScriptToEvaluateOnNewDocument", source=before)
        self.load()

    def load(self) -> None:
        """Opens the address, or opens it again."""
        self.front().get(self.address)
        self.wait("the server's answer", lambda: bool(self.run(ANSWERED)))

    def front(self) -> Chrome:
        """Chromium, turned to this window."""
        if self._chromium.current_window_handle != self.window:
            self._chromium.switch_to.window(self.window)
        return self._chromium

    def close(self) -> None:
        """As by the window's own button. Another window must be open."""
        self.front().close()
        self._chromium.switch_to.window(self._chromium.window_handles[0])

    def answer_microphone(self, answer: Microphone) -> None:
        """What the person answers when the page asks for the microphone; nobody is there for a "prompt"."""
        parts = urlsplit(self.address)
        self.devtools(
            "Browser.setPermission", permission={"name": "microphone"}, setting=answer,
            origin=f"{parts.scheme}://{parts.netloc}",
        )  # fmt: skip

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self.front().execute_cdp_cmd(command, parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        """What the script returns; a promise is waited for."""
        return self.front().execute_script(script, *arguments)

    # What the page says

    @property
    def state(self) -> str:
        return str(self.run("return document.body.dataset.state"))

    @property
    def sentence(self) -> str:
        return self.text("#state")

    @property
    def notice(self) -> str:
        return self.text("#notice")

    @property
    def session(self) -> str | None:
        found = self.run("return miravox.session")
        return None if found is None else str(found)

    @property
    def source(self) -> dict[str, Any]:
        """Kind, name and state of what the server says is speaking; empty before it said so."""
        return dict(self.run("return miravox.status?.source ?? {}"))

    @property
    def frames(self) -> int:
        """Pictures that were put on the screen since the page was loaded, as far as the page remembers them."""
        return int(self.run("return miravox.frames.length"))

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def shown(self, selector: str) -> bool:
        return self.find(selector).is_displayed()

    def find(self, selector: str) -> WebElement:
        return self.front().find_element(By.CSS_SELECTOR, selector)

    # What the person does

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def choose(self, kind: str) -> None:
        """Clicks the label of a source."""
        self.click(f'label:has(input[name="source"][value="{kind}"])')

    def choose_file(self, file: Path) -> None:
        """Presses Choose and picks the file in the dialogue."""
        self.devtools("Page.setInterceptFileChooserDialog", enabled=True)
        self.click("#choose")
        self.find("#file").send_keys(str(file))

    def start(self) -> None:
        """Presses Start, and waits until pictures come."""
        self.click("#start")
        self.wait_state("live")

    # Waiting

    def wait(self, wanted: str, ready: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Raises MiravoxError, with what the page says, if it does not come to that."""
        wait_until(ready, seconds, "page", wanted, self._describe)

    def wait_state(self, state: str) -> None:
        self.wait(f"data-state {state}", lambda: self.state == state)

    def wait_frames(self, count: int) -> None:
        """Until so many more pictures were put on the screen."""
        before = self.frames
        self.wait(f"{count} more frames", lambda: self.frames >= before + count)

    def _describe(self) -> str:
        return f"{self.state}: {self.sentence} {self.notice}".strip()
