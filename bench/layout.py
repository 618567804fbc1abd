"""The rooms of the project and who imports whom.

    python -m bench layout

Prints every room with what stands in it, the arrows between rooms and how many imports each stands for, and circles of
files that import one another, of which there is none.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Rooms by their order: each may import from those of lower rank, and from itself.
RANKS = {
    "realtime.contract": 0,
    "realtime.arrays": 0,
    "realtime.errors": 0,
    "realtime.stage_timer": 0,
    "realtime.resources": 0,
    "realtime.whole_file": 0,
    "realtime.process": 0,
    "realtime.interruption": 0,
    "realtime.config": 1,
    "realtime.avatar_json": 1,
    "realtime.avatar_format": 1,
    "realtime.camera": 1,
    "realtime.frames": 1,
    "realtime.audio": 2,
    "realtime.avatar": 2,
    "realtime.face": 3,
    "realtime.gpu": 4,
    "realtime.targets": 5,
    "realtime.stream": 6,
    "realtime.web": 7,
    "realtime.adapters": 8,
    "realtime.api": 8,
    "realtime.cli": 8,
    "realtime": 8,
    "dataset": 9,
    "networks": 9,
    "studio": 10,
    "capture": 10,
    "training": 10,
    "export": 11,
    "run_stream": 12,
    "bench": 12,
    "tests": 13,
}
# What a folder may import of the project besides itself, whatever the ranks; bench and tests import anything.
ALLOWED = {
    "run_stream": ("realtime",),
    "realtime": (),
    "dataset": ("realtime",),
    "networks": ("realtime.contract", "realtime.arrays"),
    "studio": ("dataset", "realtime"),
    "capture": ("dataset", "realtime"),
    "training": ("dataset", "networks", "realtime"),
    "export": ("dataset", "networks", "realtime", "training"),
}
EVERYTHING = ("bench", "tests", "examples")
FOLDERS = ("realtime", "dataset", "networks", "studio", "capture", "training", "export", "bench", "tests")


def within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def room_of(module: str) -> str:
    """The narrowest room that holds a module."""
    return max((room for room in RANKS if within(module, room)), key=len)


def sources(root: Path = ROOT) -> dict[str, Path]:
    """Every file of the project by its module's name."""
    files = [root / "run_stream.py", *(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))]
    named = {".".join(path.relative_to(root).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in sorted(named.items())}


def imported(path: Path, module: str) -> Iterator[str]:
    """Every module and name that a file imports, wherever in it; `from a import b` as a.b, relative ones spelt out.

    Args:
        module: the file's own name, which relative imports count from.
    """
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def imports_of_files(root: Path = ROOT) -> dict[str, list[str]]:
    """{module: the modules of the project that it imports}."""
    modules = sources(root)

    def file_of(name: str) -> str | None:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name or None

    graph = {}
    for module, path in modules.items():
        found = {file_of(name) for name in imported(path, module)} - {None, module}
        graph[module] = sorted(name for name in found if name is not None)
    return graph


def circles(graph: Mapping[str, list[str]]) -> list[list[str]]:
    """The sets of files that import one another, each sorted (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, []):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            members = [stack.pop()]
            while members[-1] != node:
                members.append(stack.pop())
            if len(members) > 1:
                found.append(sorted(members))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def wrong_arrows(graph: Mapping[str, list[str]]) -> list[str]:
    """Imports that the order of rooms does not allow, in words."""
    wrong = []
    for module, others in graph.items():
        folder = module.split(".")[0]
        for other in others:
            here, there = room_of(module), room_of(other)
            upwards = RANKS[there] > RANKS[here] or (RANKS[there] == RANKS[here] and RANKS[here] == 2 and here != there)
            foreign = folder not in EVERYTHING and not any(within(other, a) for a in (folder, *ALLOWED[folder]))
            if upwards or foreign:
                wrong.append(f"{module} imports {other}")
    return wrong


def arrows(graph: Mapping[str, list[str]]) -> Counter[tuple[str, str]]:
    """How many imports lead from one room to another."""
    return Counter((room_of(m), room_of(o)) for m, others in graph.items() for o in others if room_of(m) != room_of(o))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(options: argparse.Namespace) -> None:
    print(text(imports_of_files()))


def text(graph: Mapping[str, list[str]]) -> str:
    """What the command prints."""
    lines = []
    for room in sorted(RANKS, key=lambda room: (RANKS[room], room)):
        members = [module.removeprefix(f"{room}.") for module in graph if room_of(module) == room and module != room]
        if not members and room not in graph:
            continue
        lines.append(f"{RANKS[room]:2} {room}" + (f": {', '.join(members)}" if members else ""))
        below = {there: n for (here, there), n in arrows(graph).items() if here == room}
        if below:
            lines.append("     -> " + ", ".join(f"{there} {below[there]}" for there in sorted(below)))
    rings, wrong = circles(graph), wrong_arrows(graph)
    lines.append(f"{len(rings)} circles of imports" + "".join(f"\n  {' <-> '.join(ring)}" for ring in rings))
    lines.append(f"{len(wrong)} arrows that the order of rooms does not allow" + "".join(f"\n  {w}" for w in wrong))
    return "\n".join(lines)
