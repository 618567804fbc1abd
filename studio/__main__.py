"""Films the actor: `python -m studio --out DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from realtime.errors import MiravoxError
from studio.actor import ADA_SEED
from studio.film import FilmConfig, film


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m studio", description="Film a synthetic actor with complete ground truth."
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="dataset folder to write; must not exist yet"
    )
    parser.add_argument(
        "--identity", type=int, default=ADA_SEED, metavar="SEED", help="which actor (default: Ada, %(default)s)"
    )
    parser.add_argument(
        "--speech", type=Path, nargs="+", default=[], metavar="FILE", help="film these labelled recordings instead"
    )
    parser.add_argument("--held-out-only", action="store_true", help="film only the source loop and the held-out takes")
    parser.add_argument("--exr", action="store_true", help="also write position maps of every 25th frame as OpenEXR")
    options = parser.parse_args(arguments)
    config = FilmConfig(
        identity=options.identity, speech=tuple(options.speech), held_out_only=options.held_out_only, exr=options.exr
    )
    try:
        film(options.out, config)
    except MiravoxError as fault:
        print(fault, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
