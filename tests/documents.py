"""What a Markdown document says that can be checked: its links, and the files and the code that it names. Its commands
are the business of tests/quoted_commands.py.

Every `..._faults` function takes a document and returns what is wrong, one sentence each, so that a test can show that
it finds a planted mistake.

The rules are simple, so that a writer can keep them in mind:

- a relative link leads to a file, and its #anchor to a heading there;
- `words/with/slashes` or `a_name.py` in backticks are files of the repository, of Ada's folder or of realtime/;
  patterns must match something. `build/...`, `dist/...`, `out/...` and what holds a word in CAPITALS, a placeholder,
  are not looked up;
- `ClassName`, `Class.name` and `function()` in backticks exist somewhere in the project, and so does `package.module`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASES = (ROOT, ROOT / "avatars" / "ada", ROOT / "realtime")
UNWRITTEN = ("build", "dist", "out")  # folders of what commands write
PACKAGES = ("realtime", "dataset", "networks", "studio", "capture", "training", "export", "bench", "tests")
SUFFIXES = "py md json safetensors onnx mp4 flac toml vert frag cu cuh glsl js html css png jpg svg cff yml"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?:(?: {4}.*)?\n)*(?: {4}.*(?:\n|\Z))")
LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#{1,6} +(.*?) *$", re.M)
PLACEHOLDER = re.compile(r"(?<![A-Za-z0-9_])[A-Z][A-Z0-9_]*(?![a-z])")
PATH = re.compile(r"[\w.*{},-]+(?:/[\w.*{},-]+)*/?")
DOTTED = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
NAME_IN_CLASS = re.compile(r"([A-Z]\w*[a-z]\w*)\.(\w+)(?:\(\))?")
FUNCTION = re.compile(r"(\w+)\(\)")
CLASS = re.compile(r"[A-Z][a-z]+[A-Z]\w*")


@dataclass(frozen=True)
class Document:
    """One Markdown file; `text` is all of it."""

    path: Path
    text: str

    @property
    def blocks(self) -> list[tuple[str, str]]:
        """Its code blocks: language, which may be empty, and text."""
        rest = FENCE.sub("", self.text)
        return [*FENCE.findall(self.text), *(("", _unindented(block)) for block in INDENTED.findall(rest))]

    @property
    def prose(self) -> str:
        """All but the code blocks."""
        return INDENTED.sub("", FENCE.sub("", self.text))

    @property
    def names(self) -> list[str]:
        """What stands in backticks."""
        return CODE.findall(self.prose)

    @property
    def anchors(self) -> set[str]:
        """What #anchors its headings have on the web."""
        found: dict[str, int] = {}
        anchors = set()
        for heading in HEADING.findall(FENCE.sub("", self.text)):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
            slug = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
            anchors.add(slug if slug not in found else f"{slug}-{found[slug]}")
            found[slug] = found.get(slug, 0) + 1
        return anchors

    def section(self, heading: str) -> str:
        """The text under a heading, down to the next one."""
        found = re.search(rf"^#{{1,6}} +{re.escape(heading)} *\n(.*?)(?=^#{{1,6}} |\Z)", self.text, re.M | re.S)
        if found is None:
            raise LookupError(f"{self.path.name} has no section {heading!r}")
        return found[1]


def first_column(text: str) -> list[str]:
    """What stands in backticks in the first column of the tables of a text."""
    cells = re.findall(r"^\|([^|\n]*)\|", text, re.M)
    return [name for cell in cells for name in CODE.findall(cell)]


def _unindented(block: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in block.splitlines())


def read(path: Path) -> Document:
    return Document(path, path.read_text())


def documents() -> list[Document]:
    """Every Markdown file of the repository."""
    folders = [f for f in ROOT.iterdir() if f.is_dir() and f.name[0] != "." and f.name not in UNWRITTEN]
    paths = [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))]
    return [read(path) for path in sorted(paths)]


# Links


def link_faults(document: Document) -> list[str]:
    """Relative links that lead nowhere."""
    faults = []
    for link in LINK.findall(document.prose):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = document.path.parent / name
        if name and not target.exists():
            faults.append(f"{link}: no such file")
        elif anchor:
            anchors = read(target).anchors if name.endswith(".md") else document.anchors if not name else set()
            if anchor not in anchors:
                faults.append(f"{link}: no such heading")
    return faults


# Names in backticks


def looks_like_path(name: str) -> bool:
    """Whether it is a file's or folder's name, rather than a word, a media type or an address."""
    if not PATH.fullmatch(name) or PLACEHOLDER.search(name) or name.split("/")[0] in UNWRITTEN:
        return False
    if re.search(rf"\w\.(?:{'|'.join(SUFFIXES.split())})$", name) or name.endswith("/"):
        return True
    first = name.split("/")[0]
    return "/" in name and any((base / first).exists() for base in BASES)


def path_faults(document: Document) -> list[str]:
    """Names of files in backticks that are not there."""
    faults = []
    for name in document.names:
        if looks_like_path(name):
            bases = (*BASES, document.path.parent)
            patterns = _alternatives(name.rstrip("/"))
            if not any(True for base in bases for pattern in patterns for _ in base.glob(pattern)):
                faults.append(f"`{name}`: no such file or folder")
    return faults


def _alternatives(pattern: str) -> list[str]:
    """a/{b,c}.py -> a/b.py, a/c.py."""
    braces = re.search(r"\{([^}]*)\}", pattern)
    if braces is None:
        return [pattern]
    return [pattern[: braces.start()] + part + pattern[braces.end() :] for part in braces.group(1).split(",")]


@cache
def definitions() -> tuple[dict[str, set[str]], set[str]]:
    """{class: its methods, attributes and members}, and all functions, of the project's Python and JavaScript."""
    classes: dict[str, set[str]] = {}
    functions: set[str] = set()
    for path in (p for folder in (*PACKAGES, "examples") for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.add(node.name)
            elif isinstance(node, ast.ClassDef):
                members = classes.setdefault(node.name, set())
                for inner in ast.walk(node):
                    if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                        members.add(inner.name)
                    elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                        members.add(inner.target.id)
                    elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                        members.add(inner.attr)
                    elif isinstance(inner, ast.Assign):
                        members |= {target.id for target in inner.targets if isinstance(target, ast.Name)}
    for path in (ROOT / "realtime" / "web" / "client").glob("*.js"):
        functions |= set(re.findall(r"^(?:export )?(?:async )?function (\w+)", path.read_text(), re.M))
    return classes, functions


def code_faults(document: Document) -> list[str]:
    """Classes, functions and modules in backticks that do not exist."""
    classes, functions = definitions()
    faults = []
    for name in document.names:
        if found := NAME_IN_CLASS.fullmatch(name):
            if found[2] not in classes.get(found[1], set()):
                faults.append(f"`{name}`: no such class, or nothing of that name in it")
        elif CLASS.fullmatch(name):
            if name not in classes:
                faults.append(f"`{name}`: no such class")
        elif found := FUNCTION.fullmatch(name):
            if found[1] not in functions and found[1] not in classes:
                faults.append(f"`{name}`: no such function")
        elif DOTTED.fullmatch(name) and not looks_like_path(name) and not _is_module(name):
            faults.append(f"`{name}`: no such module, or nothing of that name in it")
    return faults


def _is_module(name: str) -> bool:
    """Whether it is a module, or a name that one defines."""
    path = ROOT.joinpath(*name.split("."))
    if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
        return True
    module, _, member = name.rpartition(".")
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return (
        source.is_file() and re.search(rf"^(?:def |class |async def )?{member}\b", source.read_text(), re.M) is not None
    )
