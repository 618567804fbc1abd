"""A private X server without a screen, whose picture can be read."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.conftest import lacking

WIDTH, HEIGHT = 640, 512


class Display:
    """Xvfb on a number that was free. `name` is its DISPLAY."""

    def __init__(self) -> None:
        if shutil.which("Xvfb") is None:
            lacking("Xvfb (apt-get install xvfb)")
        self._folder = tempfile.TemporaryDirectory(prefix="miravox-")
        reading, writing = os.pipe()
        screen = ["-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-fbdir", self._folder.name]
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writing), *screen, "-nolisten", "tcp"],
            pass_fds=[writing],
            stderr=subprocess.DEVNULL,
        )
        os.close(writing)
        with os.fdopen(reading) as numbers:
            number = numbers.readline().strip()  # written once clients are welcome; empty if Xvfb ended
        if not number:
            self.close()
            raise AssertionError("Xvfb did not start")
        self.name = f":{number}"

    def picture(self) -> NDArray[np.uint8]:
        """What the screen shows: uint8 [HEIGHT, WIDTH, 3]."""
        data = (Path(self._folder.name) / "Xvfb_screen0").read_bytes()  # an XWD file: header, colours, pixels
        header = struct.unpack(">25I", data[:100])
        header_bytes, width, height, byte_order, row_bytes, colors = (header[i] for i in (0, 4, 5, 7, 12, 19))
        assert (width, height, byte_order, row_bytes) == (WIDTH, HEIGHT, 0, 4 * WIDTH), "32 bits a pixel: blue first"
        pixels = np.frombuffer(data, np.uint8, WIDTH * HEIGHT * 4, header_bytes + 12 * colors)
        return pixels.reshape(HEIGHT, WIDTH, 4)[..., 2::-1]

    def close(self) -> None:
        self._server.terminate()
        self._server.wait()
        self._folder.cleanup()

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
