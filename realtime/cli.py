"""The command `miravox`, which run_stream.py is in the clone: an avatar that says what you say, live in the browser.

Nothing heavy is imported before the command line is read, so that `--help` and a wrong option are answered at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from . import __version__
from .config import (
    DEFAULT_AVATAR,
    DEFAULT_MAX_SESSIONS,
    DEFAULT_PORT,
    OUTPUT_FOLDER,
    TARGETS,
    IceServer,
    StreamConfig,
    is_loopback,
)
from .errors import MiravoxError
from .interruption import end_on_signals
from .stream.recording_file import free_name

PROGRAM = "miravox"


def main(arguments: Sequence[str] | None = None, prog: str = PROGRAM) -> int:
    """Returns the exit code: 0, 2 for a fault that the user can mend, 130 when interrupted.

    Args:
        arguments: of the command line; this process's own by default.
        prog: what the command is called in its own help.
    """
    end_on_signals()
    try:
        config = parse_config(sys.argv[1:] if arguments is None else arguments, prog)
        _show_log(config.verbose)
        _run(config)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:
        print(f"miravox: interrupted; {str(interruption) or 'nothing was written'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read what is printed has gone; a rendering was finished before
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        print("miravox: standard output was closed", file=sys.stderr)
    return 0


def _show_log(verbose: bool) -> None:
    """Warnings of all libraries go to stderr, and with --verbose what Miravox itself has to tell besides."""
    logging.basicConfig(level=logging.WARNING, format="miravox: %(message)s", stream=sys.stderr)
    if verbose:
        logging.getLogger("miravox").setLevel(logging.INFO)


def _run(config: StreamConfig) -> None:
    """Each way of running is imported when it is taken."""
    from .process import prepare_process
    from .targets import resolved

    prepare_process()
    config = resolved(config)
    if config.dry_run:
        print(config.to_json())
    elif config.list_devices:
        from .audio.microphone import list_devices

        print(list_devices())
    elif config.offline:
        from .stream.offline import render

        print(render(config))
    else:
        from .web.serve import serve

        serve(config)


def parse_config(arguments: Sequence[str], prog: str = PROGRAM) -> StreamConfig:
    """Command line -> StreamConfig with every default filled in. Raises MiravoxError.

    `prog` is what the command is called in its own help.
    """
    parser = _parser(prog)
    _refuse_empty(parser, arguments)
    options = parser.parse_args(arguments)
    default_source = str(options.avatar / "sample.flac") if options.offline else "browser"
    source = default_source if options.source is None else options.source
    record = options.record
    if options.offline and record is None:
        name = options.avatar.resolve().name if options.source is None else Path(source).stem
        record = OUTPUT_FOLDER / f"{name}.mp4"
        record = record if options.force else free_name(record)
    token = options.token
    if token is None and not is_loopback(options.host):
        token = secrets.token_urlsafe(16)
    return StreamConfig(
        source=source,
        record=record,
        force=options.force,
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
        allow_server_mic=options.allow_server_mic,
        allow_source_change=options.allow_source_change,
        list_devices=options.list_devices,
        dry_run=options.dry_run,
        verbose=options.verbose,
    )


def ice_server(text: str) -> IceServer:
    """URL[,USERNAME,CREDENTIAL]; the credential may have commas in it."""
    parts = text.split(",", 2)
    if len(parts) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text}: wanted URL or URL,USERNAME,CREDENTIAL")
    return IceServer(*parts)


def _refuse_empty(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """An empty value is a variable that was not set: no option takes it for its default. Raises MiravoxError."""
    for option, value in pairwise(["the command", *arguments]):
        if not value:
            parser.error(f"an empty value after {option}")
        if value.startswith("--") and value.endswith("=") and value.count("=") == 1:
            parser.error(f"an empty value after {value[:-1]}")


class _Parser(argparse.ArgumentParser):
    """Faults on the command line are told like all others, on one line."""

    def error(self, message: str) -> NoReturn:
        raise MiravoxError(
            "command line",
            found=message,
            wanted=f"options as `{self.prog} --help` lists them",
            remedy="Correct the option.",
        )


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=prog,
        description="An avatar that says what is spoken, live in the browser. Without options: Ada, at "
        f"http://127.0.0.1:{DEFAULT_PORT}, driven by the browser's microphone.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="tell on stderr what happens: viewers that come and go, which encoder is used and why not NVENC",
    )
    speech = parser.add_argument_group("speech")
    speech.add_argument(
        "--source",
        metavar="browser|mic|silence|FILE",
        help="who speaks: each tab's own microphone (default); or, in one session that every tab views, this machine's "
        "microphone, nobody, or any recording that FFmpeg reads (one called mic is ./mic)",
    )
    speech.add_argument("--loop", action="store_true", help="say the recording again and again")
    speech.add_argument("--device", metavar="NAME", help="microphone of --source mic: index, name or part of a name")
    speech.add_argument("--list-devices", action="store_true", help="print the microphones and stop")

    picture = parser.add_argument_group("avatar")
    picture.add_argument("--avatar", type=Path, metavar="DIR", default=DEFAULT_AVATAR, help="folder; default: Ada")
    picture.add_argument(
        "--target",
        choices=TARGETS,
        default="auto",
        help="auto is tensorrt where an NVIDIA GPU and TensorRT are, else baked; onnx is the reference",
    )
    picture.add_argument("--size", type=int, metavar="N", help="side of the frame in pixels; default: the avatar's own")

    output = parser.add_argument_group("output")
    output.add_argument("--record", type=Path, metavar="OUT.mp4", help="record what is streamed, too")
    output.add_argument("--force", action="store_true", help="let --record replace a file that is there already")
    output.add_argument("--window", action="store_true", help="show it in a window, too")
    output.add_argument(
        "--offline",
        action="store_true",
        help="serve nothing: render a recording (default: the avatar's sample) into --record (default: out/NAME.mp4)",
    )
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
        "--ice-server",
        type=ice_server,
        action="append",
        default=[],
        metavar="URL[,USERNAME,CREDENTIAL]",
        help="STUN or TURN server; may be given again",
    )
    server.add_argument(
        "--max-sessions",
        type=int,
        default=DEFAULT_MAX_SESSIONS,
        metavar="N",
        help=f"avatars rendered at once; default: {DEFAULT_MAX_SESSIONS}",
    )
    server.add_argument(
        "--allow-server-mic",
        action="store_true",
        help="let pages choose this machine's microphone; without it that needs a browser on this machine",
    )
    server.add_argument(
        "--allow-source-change",
        action="store_true",
        help="let everybody who views the shared session change who speaks in it",
    )
    return parser
