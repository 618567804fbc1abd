"""StreamConfig: every run-time choice, frozen, checked, units in the names; and the command line that makes it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from realtime.errors import MiravoxError

DEFAULT_AVATAR = Path(__file__).resolve().parents[1] / "avatars" / "ada"
OUTPUT_FOLDER = Path("out")  # of recordings that got no name; made when needed
TARGETS = ("baked", "onnx")
MIN_SIZE_PIXELS, MAX_SIZE_PIXELS, SIZE_STEP_PIXELS = 128, 1024, 16


@dataclass(frozen=True)
class StreamConfig:
    """What run_stream.py does. Raises MiravoxError if a value is out of range; opens no file."""

    source: Path  # recording that the avatar says
    record: Path  # MP4 file to write
    avatar: Path = DEFAULT_AVATAR  # folder
    target: str = "baked"  # which of the avatar's exports renders
    size_pixels: int | None = None  # side of the square frame; None is the avatar's own
    offline: bool = True  # as fast as the machine can, not in real time
    dry_run: bool = False  # print this and stop

    def __post_init__(self) -> None:
        size = self.size_pixels
        if size is not None and (not MIN_SIZE_PIXELS <= size <= MAX_SIZE_PIXELS or size % SIZE_STEP_PIXELS):
            raise MiravoxError(
                "--size", found=str(size),
                wanted=f"a multiple of {SIZE_STEP_PIXELS} from {MIN_SIZE_PIXELS} to {MAX_SIZE_PIXELS}",
                remedy="512 is a good choice.",
            )  # fmt: skip
        if self.target not in TARGETS:
            raise MiravoxError(
                "--target", found=self.target, wanted=f"auto, {' or '.join(TARGETS)}", remedy="Leave it out for auto."
            )
        if self.record.suffix.lower() != ".mp4":
            raise MiravoxError(
                "--record",
                found=str(self.record),
                wanted="a name that ends in .mp4",
                remedy="Recordings are MP4 files.",
            )
        if self.record.resolve() == self.source.resolve():
            raise MiravoxError(
                "--record", found=f"the source itself, {self.source}", wanted="another file", remedy="Name a new file."
            )

    def to_json(self) -> str:
        return json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}, indent=2)


class _Parser(argparse.ArgumentParser):
    """Faults on the command line are told like all others, on one line."""

    def error(self, message: str) -> NoReturn:
        raise MiravoxError(
            "command line", found=message, wanted=f"options as `python {self.prog} --help` lists them",
            remedy="Correct the option.",
        )  # fmt: skip


def parse_config(arguments: Sequence[str]) -> StreamConfig:
    """Command line -> StreamConfig with every default filled in. Raises MiravoxError."""
    parser = _Parser(
        prog="run_stream.py",
        description="Renders an avatar that says a recording. Without options: Ada says her sample, into out/ada.mp4.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--source", type=Path, metavar="FILE", help="any recording that FFmpeg reads; default: the sample"
    )
    parser.add_argument(
        "--record", type=Path, metavar="OUT.mp4", help="video to write; default: out/NAME OF SOURCE.mp4"
    )
    parser.add_argument(
        "--offline", action="store_true", default=True, help="as fast as the machine can (always, so far)"
    )
    parser.add_argument(
        "--avatar", type=Path, metavar="DIR", default=DEFAULT_AVATAR, help="avatar folder; default: Ada"
    )
    parser.add_argument(
        "--target", choices=("auto", *TARGETS), default="auto", help="auto is baked; onnx is the reference"
    )
    parser.add_argument("--size", type=int, metavar="N", help="side of the frame in pixels; default: the avatar's own")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved configuration as JSON and stop")
    options = parser.parse_args(arguments)
    source = options.source or options.avatar / "sample.flac"
    name = source.stem if options.source else options.avatar.resolve().name
    return StreamConfig(
        source=source,
        record=options.record or OUTPUT_FOLDER / f"{name}.mp4",
        avatar=options.avatar,
        target=TARGETS[0] if options.target == "auto" else options.target,
        size_pixels=options.size,
        offline=options.offline,
        dry_run=options.dry_run,
    )
