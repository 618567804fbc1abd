"""StreamConfig: every run-time choice, frozen, checked, units in the names."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from .errors import MiravoxError
from .resources import resource_folder

DEFAULT_AVATAR = resource_folder("avatars") / "ada"
OUTPUT_FOLDER = Path("out")  # of recordings that got no name; made when needed
TARGETS = ("auto", "baked", "onnx", "tensorrt")
SOURCES = ("browser", "mic", "silence")  # everything else is a file
MIN_SIZE_PIXELS, MAX_SIZE_PIXELS, SIZE_STEP_PIXELS = 128, 1024, 16
DEFAULT_PORT = 8080
DEFAULT_MAX_SESSIONS = 3
ICE_URL = re.compile(
    r"(?P<scheme>stun|turns?):[A-Za-z0-9]([A-Za-z0-9._-]{0,252})(:(?P<port>[0-9]{1,5}))?(\?transport=(?P<transport>udp|tcp))?"
)
HIDDEN = "(hidden)"  # how secrets are printed


@dataclass(frozen=True)
class IceServer:
    """A STUN or TURN server that browser and server may use."""

    url: str  # stun:HOST[:PORT] or turn:HOST[:PORT]
    username: str | None = None
    credential: str | None = None


@dataclass(frozen=True)
class StreamConfig:
    """What run_stream.py does. Raises MiravoxError if a value is out of range; opens no file."""

    source: str = "browser"  # who speaks: browser, mic, silence, or a recording's path
    record: Path | None = None  # MP4 file to write
    avatar: Path = DEFAULT_AVATAR  # folder
    target: str = "auto"  # which of the avatar's exports renders; auto: what suits the machine (realtime/targets.py)
    size_pixels: int | None = None  # side of the square frame; None is the avatar's own
    offline: bool = False  # render a recording into a file, as fast as the machine can, instead of serving
    force: bool = False  # recordings may replace files that are there
    loop: bool = False  # a recording is said again and again
    device: str | None = None  # of the microphone: index, name or part of a name; None is the default
    window: bool = False  # show the frames in a window, too
    host: str = "127.0.0.1"  # address to bind
    port: int = DEFAULT_PORT
    token: str | None = None  # wanted from whoever opens the page
    tls_cert: Path | None = None
    tls_key: Path | None = None
    ice_servers: tuple[IceServer, ...] = ()
    max_sessions: int = DEFAULT_MAX_SESSIONS  # avatars that are rendered at once
    allow_server_mic: bool = False  # pages may choose this machine's microphone, even from beyond it
    allow_source_change: bool = False  # whoever views the shared session may change who speaks in it
    list_devices: bool = False  # print the microphones and stop
    dry_run: bool = False  # print this and stop
    verbose: bool = False  # tell on stderr what happens

    def __post_init__(self) -> None:
        self._check_picture()
        self._check_files()
        self._check_network()

    @property
    def source_file(self) -> Path | None:
        """The recording to say, if the source is one."""
        return None if self.source in SOURCES else Path(self.source)

    def _check_picture(self) -> None:
        if self.size_pixels is not None:
            check_size(self.size_pixels, "--size")
        if self.target not in TARGETS:
            raise MiravoxError(
                "--target",
                found=self.target,
                wanted=f"{', '.join(TARGETS[:-1])} or {TARGETS[-1]}",
                remedy="Leave it out for auto.",
            )
        if self.window and (self.source == "browser" or self.offline):
            raise MiravoxError(
                "--window",
                found="--offline" if self.offline else "a session for each browser tab",
                wanted="one session that runs from the start",
                remedy="Add --source mic, --source FILE or --source silence.",
            )

    def _check_files(self) -> None:
        if not self.source:
            raise MiravoxError(
                "--source", found="an empty name", wanted=f"{', '.join(SOURCES)} or a file", remedy="Name who speaks."
            )
        if self.offline and self.source_file is None:
            raise MiravoxError(
                "--offline", found=f"--source {self.source}", wanted="a recording", remedy="Name it: --source FILE."
            )
        if self.record is not None and self.record.suffix.lower() != ".mp4":
            raise MiravoxError(
                "--record",
                found=str(self.record),
                wanted="a name that ends in .mp4",
                remedy="Recordings are MP4 files.",
            )
        file = self.source_file
        if self.record is not None and file is not None and self.record.resolve() == file.resolve():
            raise MiravoxError(
                "--record", found=f"the source itself, {file}", wanted="another file", remedy="Name a new file."
            )

    def _check_network(self) -> None:
        if not 1 <= self.port <= 65535:
            raise MiravoxError("--port", found=str(self.port), wanted="1 to 65535", remedy="8080 is a good choice.")
        if self.max_sessions < 1:
            raise MiravoxError(
                "--max-sessions", found=str(self.max_sessions), wanted="1 or more", remedy="Two cores carry three."
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise MiravoxError(
                "--tls-cert, --tls-key", found="one of them", wanted="both or neither", remedy="Name both files."
            )
        self._check_token()
        for server in self.ice_servers:
            check_ice_server(server)

    def _check_token(self) -> None:
        if self.token is None or re.fullmatch(r"[!-~]([ -~]*[!-~])?", self.token):
            return
        raise MiravoxError(
            "--token",
            found="one that is empty" if not self.token.strip() else "one that browsers cannot send",
            wanted="letters, digits and signs of ASCII, without a space at its ends",
            remedy="Leave it out: then a new one is made and printed. If it came from a variable, set that.",
        )

    def to_json(self) -> str:
        values: dict[str, Any] = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        values["token"] = None if self.token is None else HIDDEN
        for server in values["ice_servers"]:
            server["credential"] = None if server["credential"] is None else HIDDEN
        return json.dumps(values, indent=2)


def check_ice_server(server: IceServer) -> None:
    """Raises MiravoxError unless it is one that browser and server can use."""
    found = ICE_URL.fullmatch(server.url)
    scheme, port, transport = found.group("scheme", "port", "transport") if found else ("", None, None)
    relays = scheme.startswith("turn")
    good = (
        found is not None
        and (port is None or 1 <= int(port) <= 65535)
        and (transport is None or relays)
        and not (scheme == "turns" and transport == "udp")
        and (bool(server.username and server.credential) or not relays)
    )
    if not good:
        raise MiravoxError(
            "--ice-server",
            found=server.url + (" without a user name and a credential" if relays and not server.credential else ""),
            wanted="stun:HOST[:PORT] or turn:HOST[:PORT][?transport=tcp],USERNAME,CREDENTIAL; HOST is a name or IPv4, "
            "PORT 1 to 65535",
            remedy="Correct the address.",
        )


def check_size(size: int, thing: str) -> None:
    """Raises MiravoxError, which says `thing`, unless frames can have that side, in pixels."""
    if not MIN_SIZE_PIXELS <= size <= MAX_SIZE_PIXELS or size % SIZE_STEP_PIXELS:
        raise MiravoxError(
            thing,
            found=str(size),
            wanted=f"a multiple of {SIZE_STEP_PIXELS} from {MIN_SIZE_PIXELS} to {MAX_SIZE_PIXELS}",
            remedy="512 is a good choice.",
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
