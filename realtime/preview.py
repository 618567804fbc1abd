"""A window of the desktop that shows the same frames as the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import glfw
import moderngl
import numpy as np
from numpy.typing import NDArray

from realtime.audio_input import Block
from realtime.errors import MiravoxError
from realtime.rasteriser import load_shader
from realtime.render_loop import Frame, Mailbox

POLL_SECONDS = 0.01


class Window:
    """A window of the desktop that shows the frames, with their latency in its title. Made on the main thread."""

    def __init__(self, name: str, size: int) -> None:
        """Raises MiravoxError if there is no display."""
        if not glfw.init():
            raise self._error("no display, or no permission to use it")
        glfw.window_hint(glfw.CONTEXT_VERSION_MAJOR, 3)
        glfw.window_hint(glfw.CONTEXT_VERSION_MINOR, 3)
        glfw.window_hint(glfw.OPENGL_PROFILE, glfw.OPENGL_CORE_PROFILE)
        glfw.window_hint(glfw.OPENGL_FORWARD_COMPAT, True)
        self._name = name
        self._handle = glfw.create_window(size, size, name, None, None)
        if not self._handle:
            glfw.terminate()
            raise self._error("a display without OpenGL 3.3")
        glfw.make_context_current(self._handle)
        glfw.swap_interval(0)  # waiting for the screen would hold up the event loop
        self._context = moderngl.create_context(require=330)
        self._texture = self._context.texture((size, size), 3, alignment=1)
        program = self._context.program(load_shader("preview.vert"), load_shader("preview.frag"))
        self._quad = self._context.vertex_array(program, [])
        self._mailbox = Mailbox()

    def _error(self, found: str) -> MiravoxError:
        return MiravoxError(
            "--window", found=found, wanted="a desktop with OpenGL 3.3",
            remedy="Start it on a desktop or under Xvfb (xvfb-run python run_stream.py --window ...).",
        )  # fmt: skip

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
                self.draw(frame.image)
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
