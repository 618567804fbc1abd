"""The commands that documents quote, in code blocks or in backticks: they exist, and so does every option of theirs.

Options of run_stream.py and miravox are those of its parser, which must also accept a command without a placeholder (a
word in CAPITALS). Of a program that is run by `python -m`, options are looked for among the strings of its file: its
parser would import torch. `make` must know targets and variables, pip the extras.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from realtime.cli import parse_config
from realtime.errors import MiravoxError
from tests.documents import PLACEHOLDER, ROOT, Document

FOREIGN_MODULES = ("pip", "venv", "pytest")  # run with `python -m`, and not ours
WITH_COMMANDS = ("bench", "export", "capture")  # whose first argument may be a command
PROGRAMS = ("python", "mermaid", "json", "javascript", "text")  # languages of blocks that hold no commands


def command_lines(document: Document) -> Iterator[str]:
    """Every line of a code block that is no program, continued lines joined, and everything in backticks."""
    for language, block in document.blocks:
        if language not in PROGRAMS:
            yield from re.sub(r"\\\n\s*", " ", block).splitlines()
    yield from document.names


def command_faults(document: Document) -> list[str]:
    """Commands that do not exist, and options that theirs do not have."""
    faults = []
    for line in command_lines(document):
        for command in re.split(r"\s(?:&&|\||;)\s", re.sub(r"(?:^|\s)#.*", "", line)):
            faults += [f"{command.strip()}: {fault}" for fault in _faults_of(command.strip())]
    return faults


def _faults_of(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError:  # prose in backticks, with an apostrophe
        return []
    words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)] if words[:1] != ["make"] else words
    if not words:
        return []
    first = Path(words[0]).name
    if first == "make":
        return _make_faults(words[1:])
    if first == "miravox" and len(words) > 1:
        return _stream_faults(words[1:])
    for index, word in enumerate(words):
        if Path(word).name == "run_stream.py":
            return _stream_faults(words[index + 1 :])
        if word == "-m" and index + 1 < len(words) and "python" in Path(words[index - 1]).name:
            return _module_faults(words[index + 1], words[index + 2 :])
        if word == "pip" or Path(word).name == "pip":
            return _extra_faults(words[index + 1 :])
    return []


@cache
def stream_options() -> frozenset[str]:
    """The options of run_stream.py and miravox, as its help lists them."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        parse_config(["--help"])
    return frozenset(re.findall(r"(?<![\w-])--[a-z-]+", out.getvalue()))


def _stream_faults(arguments: list[str]) -> list[str]:
    if faults := _unknown(arguments, stream_options()):
        return faults
    if any(PLACEHOLDER.search(word) or "..." in word for word in arguments) or {"--help", "--version"} & {*arguments}:
        return []
    try:
        parse_config(arguments)
    except MiravoxError as error:
        return [str(error)]
    return []


@cache
def module_options(path: Path) -> frozenset[str]:
    """The words that a program's file gives to `add_argument`, and its other strings, which name its commands."""
    words = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    return frozenset({word for word in words if isinstance(word, str)} | {"--help"})


def _module_faults(module: str, arguments: list[str]) -> list[str]:
    if module in FOREIGN_MODULES:
        if module == "pytest":
            own = module_options(ROOT / "tests" / "conftest.py")
            return _unknown([a for a in arguments if a.startswith("--")], own)
        return _extra_faults(arguments) if module == "pip" else []
    path = ROOT.joinpath(*module.split("."))
    files = [path / "__main__.py"] if path.is_dir() else [path.with_suffix(".py")]
    if not files[0].is_file():
        return [f"no module {module}"]
    faults = []
    known = module_options(files[0])
    if module in WITH_COMMANDS and arguments and re.fullmatch(r"[a-z]+", arguments[0]):
        if arguments[0] not in known:
            return [f"{module} has no command {arguments[0]}"]
        command = path / f"{arguments[0]}.py"
        known |= module_options(command) if module == "bench" and command.is_file() else frozenset()
    faults += _unknown(arguments, known)
    return faults


def _unknown(arguments: list[str], known: frozenset[str]) -> list[str]:
    options = [word.partition("=")[0].strip("[]") for word in arguments if word.lstrip("[").startswith("--")]
    return [f"no option {option}" for option in options if option not in known]


def _make_faults(arguments: list[str]) -> list[str]:
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for line in re.findall(r"^([a-z][\w -]*):", makefile, re.M) for name in line.split()}
    variables = set(re.findall(r"^([A-Z_]+) *\??:?=", makefile, re.M))
    faults = []
    for word in arguments:
        name, is_variable, value = word.partition("=")
        if is_variable and name not in variables:
            faults.append(f"the Makefile has no variable {name}")
        elif is_variable and name == "ARGS":
            faults += _stream_faults(shlex.split(value))
        elif not is_variable and re.fullmatch(r"[a-z-]+", word) and word not in targets:
            faults.append(f"the Makefile has no target {word}")
    return faults


def _extra_faults(arguments: list[str]) -> list[str]:
    """Of pip install: extras that pyproject.toml does not have."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [
        name
        for word in arguments
        for group in re.findall(r"(?:\.|miravox)\[([\w,]+)\]", word)
        for name in group.split(",")
    ]
    return [f"pyproject.toml has no extra {name}" for name in named if name not in extras]


def python_faults(document: Document) -> list[str]:
    """Python blocks that Python does not understand."""
    faults = []
    for language, block in document.blocks:
        if language == "python":
            try:
                compile(block, str(document.path), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            except SyntaxError as error:
                faults.append(f"{block.splitlines()[0]}: {error}")
    return faults
