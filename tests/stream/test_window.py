"""The window of --window: what it shows on a screen, its title, its end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import ROOT
from tests.display import Display
from tests.live_server import LiveServer, free_port

SIZE = 128
# A process draws one window: OpenGL of a screen and OpenGL without one would be in each other's way on one thread.
SHOW = """
import asyncio, json, sys
import glfw
import numpy as np
from realtime.frames import Frame
from realtime.stream.window import Window

async def show(window, image, side):
    window._to_rgb = lambda picture: picture  # what a picture in RGB is has tests of its own
    window.frame(Frame(0, np.zeros_like(image)))  # the newest frame wins
    window.frame(Frame(7, image))
    showing = asyncio.ensure_future(window.show(lambda frame: 5.5 * frame.index))
    while "ms" not in glfw.get_window_title(window._handle):
        await asyncio.sleep(0.01)
    if side != len(image):
        glfw.set_window_size(window._handle, side, side)
        while glfw.get_framebuffer_size(window._handle) != (side, side):
            await asyncio.sleep(0.01)
        window.draw(image)
    print(json.dumps({"title": glfw.get_window_title(window._handle), "error": window._context.error}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)  # the test looks at the screen
    assert not showing.done()
    glfw.set_window_should_close(window._handle, True)
    await showing

image, side = np.load(sys.argv[1])["image"], int(sys.argv[2])
window = Window("Miravox: Ada", len(image))
asyncio.run(show(window, image, side))
window.destroy()
print("closed")
"""


@pytest.fixture(scope="module")
def display() -> Iterator[Display]:
    with Display() as display:
        yield display


@pytest.fixture
def on_display(display: Display, monkeypatch: pytest.MonkeyPatch) -> Display:
    """The display, and processes that this test starts use it."""
    monkeypatch.setenv("DISPLAY", display.name)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("XDG_SESSION_TYPE", "x11")
    return display


def picture() -> NDArray[np.uint8]:
    """Every corner and every row is another; the values are anything from 0 to 255."""
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    image[:16, :16], image[:16, -16:], image[-16:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    return image


def shown(
    display: Display, image: NDArray[np.uint8], side: int, folder: Path
) -> tuple[NDArray[np.uint8], dict[str, str]]:
    """What is on the screen while a window of this side shows the image; and what the window says of itself."""
    np.savez(folder / "image.npz", image=image)
    with subprocess.Popen(
        [sys.executable, "-c", SHOW, str(folder / "image.npz"), str(side)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        screen = display.picture()[:side, :side] if told else np.zeros((side, side, 3), np.uint8)
        out, err = process.communicate("\n", timeout=30)
    assert (process.returncode, out, err) == (0, "closed\n", ""), "closing the window ends it"
    found: dict[str, str] = json.loads(told)
    return screen, found


def test_the_window_shows_the_frame_as_it_is(on_display: Display, tmp_path: Path) -> None:
    image = picture()
    screen, told = shown(on_display, image, SIZE, tmp_path)
    assert told == {"title": "Miravox: Ada: 38 ms", "error": "GL_NO_ERROR"}
    assert np.abs(screen.astype(int) - image).max() <= 2


def test_a_larger_window_shows_it_larger(on_display: Display, tmp_path: Path) -> None:
    """Three times as large: the middle of each pixel is where it was, and no border shows the opposite one."""
    image = picture()
    screen, _ = shown(on_display, image, 3 * SIZE, tmp_path)
    assert np.abs(screen[1::3, 1::3].astype(int) - image).max() <= 2
    for edge, inner in ((screen[0], screen[1]), (screen[-1], screen[-2])):
        assert np.abs(edge.astype(int) - inner).max() <= 2
    for edge, inner in ((screen[:, 0], screen[:, 1]), (screen[:, -1], screen[:, -2])):
        assert np.abs(edge.astype(int) - inner).max() <= 2


def test_the_server_shows_its_stream(on_display: Display, ada: Path, gl_context: object) -> None:
    """A face on the screen; SIGTERM ends it soon."""
    started = time.monotonic()
    with LiveServer("--source", "silence", "--size", "256", "--window") as server:
        face = (slice(100, 140), slice(110, 140))
        server.wait_for(lambda: on_display.picture()[face].mean() > 60)
        assert on_display.picture()[300:, 300:].max() == 0, "beside the window is nothing"
        stopped = time.monotonic()
        code, out, err = server.stop()
    assert time.monotonic() - stopped < max(2, stopped - started), "two seconds; more where the start was slow, too"
    assert (code, err) == (0, "") and out.startswith("Miravox: Ada is at")


def test_without_a_display_it_stops_with_one_line(
    ada: Path, gl_context: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_SESSION_TYPE"):
        monkeypatch.delenv(name, raising=False)
    options = ["--source", "silence", "--size", "128", "--window", "--port", str(free_port())]
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_stream.py"), *options], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "miravox: --window: found no display (X11: The DISPLAY environment variable is missing)"
    )
    assert "xvfb-run" in done.stderr
