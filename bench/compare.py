"""Two result files side by side: every figure that both hold, and what the second is of the first.

python -m bench compare A.json B.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from realtime.errors import MiravoxError

LISTS = "samples"  # raw series, which have no ratio
SURROUNDINGS = ("hardware", "versions", "config")


def load(path: Path) -> dict[str, Any]:
    """A result file. Raises MiravoxError if it is not one."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise MiravoxError(
            str(path), found=str(error), wanted="a result of python -m bench ... --json", remedy="Name another file."
        ) from error
    if not isinstance(found, dict):
        raise MiravoxError(
            str(path),
            found=f"a {type(found).__name__}",
            wanted="a result of python -m bench ... --json",
            remedy="Name another file.",
        )
    return found


def numbers(value: object, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number and its place, as "a.b.c"."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if (name or key not in SURROUNDINGS) and key != LISTS:
                yield from numbers(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)


def compare(first: Path, second: Path) -> list[tuple[str, float, float, float | None]]:
    """(place, first, second, second / first or None) of every figure that both files hold."""
    before, after = dict(numbers(load(first))), dict(numbers(load(second)))
    rows = [(n, before[n], after[n], after[n] / before[n] if before[n] else None) for n in before if n in after]
    if not rows:
        raise MiravoxError(
            f"{first} and {second}",
            found="no figure that both hold",
            wanted="results of the same bench",
            remedy="Compare files of one command.",
        )
    return rows


def print_table(first: Path, second: Path) -> None:
    rows = compare(first, second)
    surroundings = [(load(path).get("hardware"), load(path).get("commit")) for path in (first, second)]
    if surroundings[0][0] != surroundings[1][0]:
        print("the hardware differs: ratios of times say little")
    print(f"A {first.name}, commit {surroundings[0][1]}\nB {second.name}, commit {surroundings[1][1]}\n")
    width = max(len(name) for name, *_ in rows)
    print(f"{'':{width}} {'A':>12} {'B':>12} {'B / A':>8}")
    for name, a, b, ratio in rows:
        print(f"{name:{width}} {a:12.5g} {b:12.5g} {'-' if ratio is None else f'{ratio:.3f}':>8}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)


def run(o: argparse.Namespace) -> None:
    print_table(o.first, o.second)
