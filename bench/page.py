"""The page in Chromium, used as a person uses it: opened, clicked, read, waited for. For tests and screenshots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from bench.browser import wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

PATIENCE_SECONDS = 30.0  # for whatever the page should come to, on a machine that does other things, too

# The page has learnt what the server has, and shows the avatar's name; or it says why not.
ANSWERED = "return / · /.test(document.title) || / again\\.$/.test(document.querySelector('#state')?.textContent)"

Microphone = Literal["granted", "denied", "prompt"]


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
        """What the person answers when the page asks for the microphone; nobody is there for a "prompt".

        Chromium has to have been opened with `asks`.
        """
        parts = urlsplit(self.address)
        self.devtools(
            "Browser.setPermission",
            permission={"name": "microphone"},
            setting=answer,
            origin=f"{parts.scheme}://{parts.netloc}",
        )

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
        """How many pictures were put on the screen since the page was loaded."""
        return int(self.run("return miravox.frameCount"))

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def shown(self, selector: str) -> bool:
        return self.find(selector).is_displayed()

    def find(self, selector: str) -> WebElement:
        return self.front().find_element("css selector", selector)

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
