"""StreamConfig: every run-time choice, frozen, checked, units in the names; and the command line that makes it."""

from __future__ import annotations

import argparse
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

from realtime.errors import MiravoxError

DEFAULT_AVATAR = Path(__file__).resolve().parents[1] / "avatars" / "ada"
OUTPUT_FOLDER = Path("out")  # of recordings that got no name; made when needed
TARGETS = ("auto", "baked", "onnx", "tensorrt")
SOURCES = ("browser", "mic", "silence")  # everything else is a file
MIN_SIZE_PIXELS, MAX_SIZE_PIXELS, SIZE_STEP_PIXELS = 128, 1024, 16
DEFAULT_PORT = 8080
DEFAULT_MAX_SESSIONS = 3
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
    list_devices: bool = False  # print the microphones and stop
    dry_run: bool = False  # print this and stop

    def __post_init__(self) -> None:
        self._check_picture()
        self._check_files()
        self._check_network()

    @property
    def source_file(self) -> Path | None:
        """The recording to say, if the source is one."""
        return None if self.source in SOURCES else Path(self.source)

    def _check_picture(self) -> None:
        size = self.size_pixels
        if size is not None and (not MIN_SIZE_PIXELS <= size <= MAX_SIZE_PIXELS or size % SIZE_STEP_PIXELS):
            raise MiravoxError(
                "--size", found=str(size),
                wanted=f"a multiple of {SIZE_STEP_PIXELS} from {MIN_SIZE_PIXELS} to {MAX_SIZE_PIXELS}",
                remedy="512 is a good choice.",
            )  # fmt: skip
        if self.target not in TARGETS:
            raise MiravoxError(
                "--target",
                found=self.target,
                wanted=f"{', '.join(TARGETS[:-1])} or {TARGETS[-1]}",
                remedy="Leave it out for auto.",
            )
        if self.window and (self.source == "browser" or self.offline):
            raise MiravoxError(
                "--window", found="--offline" if self.offline else "a session for each browser tab",
                wanted="one session that runs from the start",
                remedy="Add --source mic, --source FILE or --source silence.",
            )  # fmt: skip

    def _check_files(self) -> None:
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
                "--max-sessions", found=str(self.max_sessions), wanted="1 or more", remedy="Two cores carry one well."
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise MiravoxError(
                "--tls-cert, --tls-key", found="one of them", wanted="both or neither", remedy="Name both files."
            )
        for server in self.ice_servers:
            if not server.url.startswith(("stun:", "turn:", "turns:")):
                raise MiravoxError(
                    "--ice-server", found=server.url, wanted="stun:HOST[:PORT] or turn:HOST[:PORT],USERNAME,CREDENTIAL",
                    remedy="Correct the address.",
                )  # fmt: skip

    def to_json(self) -> str:
        values: dict[str, Any] = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        values["token"] = None if self.token is None else HIDDEN
        for server in values["ice_servers"]:
            server["credential"] = None if server["credential"] is None else HIDDEN
        return json.dumps(values, indent=2)


class _Parser(argparse.ArgumentParser):
    """Faults on the command line are told like all others, on one line."""

    def error(self, message: str) -> NoReturn:
        raise MiravoxError(
            "command line", found=message, wanted=f"options as `python {self.prog} --help` lists them",
            remedy="Correct the option.",
        )  # fmt: skip


def ice_server(text: str) -> IceServer:
    """URL[,USERNAME,CREDENTIAL]."""
    parts = text.split(",")
    if len(parts) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text}: wanted URL or URL,USERNAME,CREDENTIAL")
    return IceServer(*parts)


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def parse_config(arguments: Sequence[str]) -> StreamConfig:
    """Command line -> StreamConfig with every default filled in. Raises MiravoxError."""
    options = _parser().parse_args(arguments)
    default_source = str(options.avatar / "sample.flac") if options.offline else "browser"
    source = options.source or default_source
    record = options.record
    if options.offline and record is None:
        name = Path(source).stem if options.source else options.avatar.resolve().name
        record = OUTPUT_FOLDER / f"{name}.mp4"
    token = options.token
    if token is None and not is_loopback(options.host):
        token = secrets.token_urlsafe(16)
    return StreamConfig(
        source=source,
        record=record,
        avatar=options.avatar,
        target=options.target,
        size_pixels=options.size,
        offline=options.offline,
        loop=options.loop,
        device=options.device,
        window=options.window,
        host=options.host,
        port=options.port,
        token=token,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        ice_servers=tuple(options.ice_server),
        max_sessions=options.max_sessions,
        list_devices=options.list_devices,
        dry_run=options.dry_run,
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="run_stream.py",
        description="An avatar that says what is spoken, live in the browser. Without options: Ada, at "
        f"http://127.0.0.1:{DEFAULT_PORT}, driven by the browser's microphone.",
        allow_abbrev=False,
    )
    speech = parser.add_argument_group("speech")
    speech.add_argument(
        "--source", metavar="browser|mic|silence|FILE",
        help="who speaks: each tab's own microphone (default); or, in one session that every tab views, this machine's "
        "microphone, nobody, or any recording that FFmpeg reads (one called mic is ./mic)",
    )  # fmt: skip
    speech.add_argument("--loop", action="store_true", help="say the recording again and again")
    speech.add_argument("--device", metavar="NAME", help="microphone of --source mic: index, name or part of a name")
    speech.add_argument("--list-devices", action="store_true", help="print the microphones and stop")

    picture = parser.add_argument_group("avatar")
    picture.add_argument("--avatar", type=Path, metavar="DIR", default=DEFAULT_AVATAR, help="folder; default: Ada")
    picture.add_argument(
        "--target", choices=TARGETS, default="auto",
        help="auto is tensorrt where an NVIDIA GPU and TensorRT are, else baked; onnx is the reference",
    )  # fmt: skip
    picture.add_argument("--size", type=int, metavar="N", help="side of the frame in pixels; default: the avatar's own")

    output = parser.add_argument_group("output")
    output.add_argument("--record", type=Path, metavar="OUT.mp4", help="record what is streamed, too")
    output.add_argument("--window", action="store_true", help="show it in a window, too")
    output.add_argument(
        "--offline", action="store_true",
        help="serve nothing: render a recording (default: the avatar's sample) into --record (default: out/NAME.mp4)",
    )  # fmt: skip
    output.add_argument("--dry-run", action="store_true", help="print the resolved configuration as JSON and stop")

    server = parser.add_argument_group("server")
    server.add_argument("--host", default="127.0.0.1", help="address to bind; beyond this machine a token is wanted")
    server.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"default: {DEFAULT_PORT}")
    server.add_argument(
        "--token", help="what opens the page; default beyond this machine: a new one, printed as a link"
    )
    server.add_argument(
        "--tls-cert", type=Path, metavar="PEM", help="certificate: browsers give a microphone to https only"
    )
    server.add_argument("--tls-key", type=Path, metavar="PEM", help="its private key")
    server.add_argument(
        "--ice-server", type=ice_server, action="append", default=[], metavar="URL[,USERNAME,CREDENTIAL]",
        help="STUN or TURN server; may be given again",
    )  # fmt: skip
    server.add_argument(
        "--max-sessions", type=int, default=DEFAULT_MAX_SESSIONS, metavar="N",
        help=f"avatars rendered at once; default: {DEFAULT_MAX_SESSIONS}",
    )  # fmt: skip
    return parser
