"""A private PulseAudio with a sink that is no sound card; what is played into it is what a microphone records."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.conftest import lacking

RATE = 48_000  # Hz of the sink
TIMEOUT_SECONDS = 30.0  # for what should take one; the cores are shared
# Devices of two names, and no others. With a file of its own ALSA reads neither the system's nor the user's.
ALSA_CONFIG = """
pcm.default { type pulse device studio.monitor }
pcm.headset { type pulse device studio.monitor }
"""


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


class Pulse:
    """The daemon. `environment` is what a process needs to use it, and only it."""

    def __init__(self) -> None:
        for command in ("pulseaudio", "pacat"):
            if shutil.which(command) is None:
                lacking(f"{command} (apt-get install pulseaudio pulseaudio-utils libasound2-plugins)")
        self._temporary = tempfile.TemporaryDirectory(prefix="miravox-")  # pytest's own is too long for a socket's name
        self._folder = folder = Path(self._temporary.name)
        self._socket = folder / "socket"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._players: list[subprocess.Popen[bytes]] = []
        (folder / "alsa.conf").write_text(ALSA_CONFIG)
        self.environment = {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_SERVER": f"unix:{self._socket}",
            "ALSA_CONFIG_PATH": str(folder / "alsa.conf"),
        }

    def start(self) -> None:
        """Returns when it can be used."""
        log = self._folder / "pulse.log"
        modules = [
            f"module-native-protocol-unix auth-anonymous=1 socket={self._socket}",
            f"module-null-sink sink_name=studio rate={RATE} channels=1",
        ]
        options = ["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", f"--log-target=file:{log}"]
        loads = [f"--load={module}" for module in modules]
        self._daemon = subprocess.Popen(
            ["pulseaudio", *options, *loads], env=self._inherited(), stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, "PulseAudio")

    def _inherited(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def _answers(self) -> bool:
        if self._daemon is not None and self._daemon.poll() is not None:
            raise AssertionError(f"PulseAudio ended: {(self._folder / 'pulse.log').read_text()}")
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def play(self, samples: NDArray[np.float32]) -> None:
        """Plays float32 [n], 48 kHz, in the background. While something is played the sink works in steps of 20 ms."""
        file = self._folder / f"play{len(self._players)}.raw"
        file.write_bytes(samples.astype("<f4").tobytes())
        command = ["pacat", "--playback", "--raw", "--format=float32le", f"--rate={RATE}", "--channels=1"]
        self._players.append(
            subprocess.Popen(
                [*command, "--latency-msec=20", str(file)], env=self._inherited(), stderr=subprocess.DEVNULL
            )
        )

    def kill(self) -> None:
        """As if the sound card was pulled out."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()
        self._daemon = None
        for player in self._players:
            player.kill()
            player.wait()
        self._socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Connections stay, but nothing is answered until `thaw`."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGCONT)

    def __enter__(self) -> Pulse:
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon is not None:
            self.kill()
        self._temporary.cleanup()
