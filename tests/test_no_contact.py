"""Nothing is contacted, kept or started that the user did not name, by dependencies neither: system calls are watched.

ONNX Runtime looked up its maker's collector of telemetry while nobody was connected, and kept an event database with an
id of the device in the user's cache folder.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from realtime.web import aiortc_patches
from realtime.web.server import PAGE
from tests.conftest import ROOT, lacking
from tests.live_server import LiveServer, Peer
from tests.system_calls import environment, faults, watcher
from tests.test_run_stream import tone, write_wav

WATCHED_SECONDS = 20.0  # of a server with a viewer; telemetry's files came at once, its look-ups after nine seconds
# Mesa keeps the shaders that it compiled. It is the one thing that a graphics driver writes.
DRIVERS_OWN = Path("home/.cache/mesa_shader_cache")


@pytest.fixture(scope="module", autouse=True)
def strace(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Watching has to be possible: strace is there, and the system lets it."""
    if shutil.which("strace") is None:
        lacking("strace (on Debian and Ubuntu: apt-get install strace)")
    report = tmp_path_factory.mktemp("strace") / "calls"
    tried = subprocess.run([*watcher(report), "true"], capture_output=True, text=True)
    if tried.returncode or not report.is_file():
        lacking(f"the right to watch a process by strace ({tried.stderr.strip()})")


def run(folder: Path, *command: str | Path, allowed: tuple[Path, ...] = ()) -> list[str]:
    """The faults of a program that ran to its end in an empty folder of its own."""
    here = folder / "here"
    here.mkdir()
    report = folder / "calls"
    done = subprocess.run(
        [*watcher(report), sys.executable, *map(str, command)],
        cwd=here,
        env=environment(folder) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return faults(report, here, (folder / "temp", folder / DRIVERS_OWN, *allowed))


def kept(folder: Path) -> list[str]:
    """What lies in the home folder of a program that has ended, and in its folder for temporary files."""
    files = [path for name in ("home", "temp") for path in (folder / name).rglob("*") if not path.is_dir()]
    return [str(path.relative_to(folder)) for path in files if not path.is_relative_to(folder / DRIVERS_OWN)]


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("socket.getaddrinfo('collector.invalid', 443)", "looks up a name"),
        ("socket.create_connection(('127.0.0.1', 9), 1)", "connect 127.0.0.1, port 9"),
        ("socket.socket().connect_ex(('192.0.2.1', 80)) if False else udp.connect(('192.0.2.1', 80))", "192.0.2.1"),
        ("udp.sendto(b'hello', ('192.0.2.1', 4000))", "sendto 192.0.2.1, port 4000"),
        ("udp.sendto(b'hello', ('127.0.0.1', 53))", "looks up a name at 127.0.0.1"),
        ("udp.sendto(b'hello', ('224.0.0.251', 5353))", "looks up a name at 224.0.0.251"),
        ("udp.sendmsg([b'hello'], [], 0, ('192.0.2.1', 4000))", "sendmsg 192.0.2.1, port 4000"),
        ("udp6.sendto(b'hello', ('2001:db8::1', 4000))", "sendto 2001:db8::1, port 4000"),
        ("udp.bind(('0.0.0.0', 0))", "bind 0.0.0.0"),
        ("socket.socket(socket.AF_UNIX).connect('/run/another')", "connect /run/another"),
        ("socket.socket(socket.AF_VSOCK)", "AF_VSOCK"),
        ("pathlib.Path.home().joinpath('.id').write_text('7')", "home/.id"),
        ("pathlib.Path.home().joinpath('.other').mkdir()", "home/.other"),
        ("os.rename('/nowhere/a', '/nowhere/b')", "/nowhere/b"),
        ("os.open('.', os.O_TMPFILE | os.O_RDWR)", "here (openat)"),
        ("threading.Thread(target=lambda: open('left', 'w')).start()", "here/left"),
        ("subprocess.run(['true'])", "execve"),
    ],
)
def test_what_is_forbidden_is_seen(deed: str, words: str, tmp_path: Path) -> None:
    """Whether it works or fails on this machine."""
    names = "contextlib, os, pathlib, socket, subprocess, threading"
    sockets = "udp, udp6 = (socket.socket(f, socket.SOCK_DGRAM) for f in (socket.AF_INET, socket.AF_INET6))"
    found = run(tmp_path, "-c", f"import {names}\n{sockets}\nwith contextlib.suppress(OSError):\n    {deed}")
    assert any(words in fault for fault in found), found


def test_what_is_allowed_is_not_told(tmp_path: Path) -> None:
    """A named folder, temporary files, sockets of this machine, interfaces, reading whatever it is."""
    code = """
import pathlib, socket, sys, tempfile
pathlib.Path(sys.argv[1]).write_text("named")
with tempfile.NamedTemporaryFile() as file:
    file.write(b"temporary")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
udp.sendto(b"sin_addr=inet_addr(192.0.2.1)", udp.getsockname())
with socket.socket() as listening:
    listening.bind(("127.0.0.1", 0))
    listening.listen()
socket.if_nameindex()
pathlib.Path("/etc/hostname").exists()
open("/dev/null", "w").close()
"""
    named = tmp_path / "named"
    assert run(tmp_path, "-c", code, named, allowed=(named,)) == []


PROGRAMS: dict[str, Callable[[Path, Path], list[str | Path]]] = {
    "the library": lambda speech, out: [
        "-c",
        "import sys\nfrom realtime import load\nassert len(list(load('ada').render(sys.argv[1], size=128))) == 25\n",
        speech,
    ],
    "offline": lambda speech, out: [
        ROOT / "run_stream.py",
        *("--offline", "--size", "128", "--source", speech, "--record", out / "talk.mp4"),
    ],
}


@pytest.mark.usefixtures("ada", "gl_context")
@pytest.mark.parametrize("name", PROGRAMS)
def test_rendering_contacts_nobody_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    speech, out = write_wav(tmp_path / "talk.wav", tone(16_000)), tmp_path / "out"
    out.mkdir()
    assert run(tmp_path, *PROGRAMS[name](speech, out), allowed=(out,)) == []
    assert kept(tmp_path) == []


@pytest.mark.usefixtures("ada", "gl_context")
def test_a_server_with_a_viewer_contacts_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    """A viewer comes, speaks, changes the source, sends recordings and goes; another one's offer is none."""
    aiortc_patches.install(loopback_only=True)  # of the peer here
    here, record, report = tmp_path / "here", tmp_path / "out", tmp_path / "calls"
    here.mkdir()
    record.mkdir()
    speech = write_wav(tmp_path / "talk.wav", tone(16_000)).read_bytes()
    options = ("--size", "128", "--record", record / "talk.mp4")
    server = LiveServer(*options, cwd=here, under=watcher(report), env=environment(tmp_path))

    async def view() -> None:
        until = time.monotonic() + WATCHED_SECONDS
        for path in (*PAGE, "/poster.jpg", "/config", "/stats", "/metrics", "/nothing"):
            await asyncio.to_thread(server.get, path)
        peer = Peer(server)
        await peer.connect("browser")
        await peer.wait_for(lambda: len(peer.pictures) >= 3)
        path = f"/sessions/{peer.session}"
        for kind in ("sample", "silence"):
            assert (await asyncio.to_thread(server.post, f"{path}/source", {"source": kind}))[0] == 200
        for content, wanted in ((speech, 200), (b"no recording" * 100, 400)):
            assert (await asyncio.to_thread(server.request, "POST", f"{path}/file?name=a.wav", content))[0] == wanted
        assert (await asyncio.to_thread(server.post, "/offer", {"sdp": "v=0", "type": "offer"}))[0] == 400
        seen = len(peer.pictures)
        await peer.wait_for(lambda: time.monotonic() >= until)
        assert len(peer.pictures) > seen, "it was viewed all the while"
        await asyncio.to_thread(server.request, "DELETE", f"/viewers/{peer.viewer}")
        await peer.close()

    with server:
        asyncio.run(view())
    assert faults(report, here, (record, tmp_path / "temp", tmp_path / DRIVERS_OWN)) == []
    assert kept(tmp_path) == []
    assert list(here.iterdir()) == []
