"""python -m bench COMMAND [--json F]: what the project claims, measured; --help lists the commands."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from realtime.errors import MiravoxError
from realtime.process import prepare_process

ADA = Path("avatars/ada")

# Each is a module of this package with add_arguments(parser) and run(options) -> what --json saves.
COMMANDS = {
    "fidelity": "PSNR, SSIM and MSE of held-out takes painted again, lips, seams, flicker",
    "ablation": "faces trained with parts of the method left out",
    "articulation": "lips against phones on held-out speech",
    "speech": "phones, visemes, presence and lips on speakers never heard",
    "sheet": "frames beside their phones",
    "stages": "what a frame costs, stage by stage",
    "pixels": "what a frame costs against its size",
    "throughput": "frames a second of offline rendering",
    "startup": "from the process's start to the first frame; memory of a session",
    "sessions": "avatars at once, and viewers of one",
    "soak": "memory, drift and late frames over a long stream to a headless browser",
    "chaos": "an honest page beside viewers that vanish, flood and lie; what the server holds before and after",
    "latency": "mouth to photon in a headless browser",
    "gpu": "self-test of the target tensorrt on an NVIDIA GPU, and what a frame costs there on paper",
    "lookahead": "phones and visemes recognised, and mouth to photon, against the lookahead",
    "capture": "tracking of synthetic actors against the truth",
    "landmarks": "where on the face model landmarks lie: the table of capture",
    "compare": "two result files side by side",
    "screenshots": "pictures of the page in every state",
    "layout": "the rooms of the code, the arrows between them, and circles of imports",
}
WITHOUT_RESULT = ("sheet", "landmarks", "compare", "screenshots", "layout")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Options of the command that is named first. Only its module is imported: throughput needs neither torch nor the
    training data.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures what the project claims.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what)
        if arguments[:1] == [name]:
            importlib.import_module(f"bench.{name}").add_arguments(command)
        if name not in ("compare", "layout"):
            command.add_argument("--avatar", type=Path, default=ADA)
        if name not in WITHOUT_RESULT:
            command.add_argument("--json", type=Path, help="file for the figures, with hardware, versions and commit")
    return parser.parse_args(arguments)


def main() -> None:
    o = parse(sys.argv[1:])
    config: dict[str, object] = {
        k: ([str(x) for x in v] if isinstance(v, list) else str(v)) for k, v in vars(o).items() if v is not None
    }
    prepare_process()
    try:
        command = importlib.import_module(f"bench.{o.command}")
        result = command.run(o)
        if result is not None:
            from bench.record import save

            save(result, config, o.json)
            if hasattr(command, "failed") and command.failed(result):  # a self-test, whose result is kept all the same
                raise SystemExit(1)
    except MiravoxError as error:
        print(f"miravox: {error}", file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
