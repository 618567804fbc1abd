"""A window of the desktop that shows the same frames as the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import glfw
import moderngl
import numpy as np
from numpy.typing import NDArray

from ..audio.block import Block
from ..errors import MiravoxError
from ..face.gl import load_shader
from ..face.yuv import RgbConverter
from ..frames import Frame
from .mailbox import Mailbox

POLL_SECONDS = 0.01


class Window:
    """A window of the desktop that shows the frames, with their latency in its title. Made on the main thread."""

    def __init__(self, name: str, size: int) -> None:
        """Raises MiravoxError if there is no display."""
        glfw.ERROR_REPORTING = "ignore"  # it would warn on stderr; what went wrong is asked for below
        if not glfw.init():
            raise _error("no display")
        glfw.window_hint(glfw.CONTEXT_VERSION_MAJOR, 3)
        glfw.window_hint(glfw.CONTEXT_VERSION_MINOR, 3)
        glfw.window_hint(glfw.OPENGL_PROFILE, glfw.OPENGL_CORE_PROFILE)
        glfw.window_hint(glfw.OPENGL_FORWARD_COMPAT, True)
        self._name = name
        self._handle = glfw.create_window(size, size, name, None, None)
        if not self._handle:
            error = _error("a display without OpenGL 3.3")
            glfw.terminate()
            raise error
        glfw.set_window_aspect_ratio(self._handle, 1, 1)
        glfw.make_context_current(self._handle)
        glfw.swap_interval(0)  # waiting for the screen would hold up the event loop
        try:
            functions: Any = _Functions()
            self._context = moderngl.create_context(require=330, context=functions)
        except Exception as cause:  # moderngl raises Exception itself
            glfw.terminate()
            raise _error(f"a display without OpenGL 3.3 ({cause})") from cause
        self._texture = self._context.texture((size, size), 3, alignment=1)
        self._texture.repeat_x = self._texture.repeat_y = False  # a larger window mixes no border with the opposite one
        program = self._context.program(load_shader("preview.vert"), load_shader("preview.frag"))
        self._quad = self._context.vertex_array(program, [])
        self._to_rgb = RgbConverter()
        self._mailbox: Mailbox[Frame] = Mailbox()

    def frame(self, frame: Frame) -> None:
        self._mailbox.put(frame)

    def speech(self, block: Block) -> None:
        pass

    def close(self) -> None:
        pass

    async def show(self, latency_ms: Callable[[Frame], float]) -> None:
        """Draws each newest frame until the window is closed."""
        while not glfw.window_should_close(self._handle):
            frame = self._mailbox.take_now()
            if frame is not None:
                self.draw(self._to_rgb(frame.picture))
                glfw.set_window_title(self._handle, f"{self._name}: {latency_ms(frame):.0f} ms")
            glfw.poll_events()
            await asyncio.sleep(POLL_SECONDS)

    def draw(self, image: NDArray[np.uint8]) -> None:
        """Shows uint8 [size, size, 3] sRGB, scaled to the window's own size."""
        glfw.make_context_current(self._handle)
        self._context.viewport = (0, 0, *glfw.get_framebuffer_size(self._handle))
        self._texture.write(np.ascontiguousarray(image))
        self._texture.use(0)
        self._quad.render(moderngl.TRIANGLE_STRIP, vertices=4)
        glfw.swap_buffers(self._handle)

    def destroy(self) -> None:
        self._context.release()
        glfw.destroy_window(self._handle)
        glfw.terminate()


class _Functions:
    """Where moderngl finds OpenGL's functions. It would look for GLX or EGL itself; GLFW knows which it took."""

    def load_opengl_function(self, name: str) -> int:
        address: Any = glfw.get_proc_address(name)
        return int(address or 0)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def release(self) -> None:
        pass


def _error(found: str) -> MiravoxError:
    """With GLFW's own words, if it has some."""
    words: Any = glfw.get_error()[1]  # bytes or None, whatever its annotation says
    return MiravoxError(
        "--window",
        found=f"{found} ({words.decode()})" if words else found,
        wanted="a desktop with OpenGL 3.3",
        remedy="Start it on a desktop or under Xvfb (xvfb-run python run_stream.py --window ...).",
    )
