"""The documents say what is true: links, names, commands, options, fields, and the results that they quote."""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

import realtime
from bench import layout
from realtime.avatar_json import KEYS
from realtime.frames import FRAME_COUNTS
from realtime.stage_timer import StageTimer
from realtime.stream.status import SessionStatus
from realtime.web import server
from realtime.web.metrics import metrics_text
from realtime.web.viewer import ViewerStatus
from tests.documents import (
    ROOT,
    Document,
    code_faults,
    documents,
    first_column,
    link_faults,
    path_faults,
    read,
)
from tests.quoted_commands import command_faults, python_faults, stream_options

CHECKS = (link_faults, path_faults, code_faults, command_faults, python_faults)
RESULTS = ROOT / "bench" / "results"
README_LINES = 120
HTTP_API, PYTHON_API = read(ROOT / "docs" / "http-api.md"), read(ROOT / "docs" / "python-api.md")
ARCHITECTURE = read(ROOT / "docs" / "architecture.md")


@pytest.mark.parametrize("document", documents(), ids=lambda document: str(document.path.relative_to(ROOT)))
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removesuffix("_faults"))
def test_what_is_said_is_so(check: Callable[[Document], list[str]], document: Document) -> None:
    assert check(document) == []


def test_the_readme_is_short_and_leads_to_every_document() -> None:
    readme = read(ROOT / "README.md")
    assert len(readme.text.splitlines()) <= README_LINES
    targets = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", readme.text)}
    own = {path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]}
    assert own - targets == {"README.md"}


def test_every_result_is_quoted() -> None:
    """A result that no document and no code names proves nothing to anybody."""
    texts = [d.text for d in documents() if d.path.parent != RESULTS]
    texts += [path.read_text() for folder in layout.FOLDERS for path in (ROOT / folder).rglob("*.py")]
    quoted = re.compile(r"bench/results/([\w.*-]+)")
    patterns = {pattern for text in texts for pattern in quoted.findall(text)}
    named = {path for pattern in patterns for path in RESULTS.glob(pattern)}
    assert sorted(path.name for path in set(RESULTS.iterdir()) - named) == []


def test_every_picture_is_shown() -> None:
    links = {d.path.parent / link for d in documents() for link in re.findall(r"\]\(([^)#]+)\)", d.text)}
    shown = {path.resolve() for path in links if not path.is_absolute() or path.exists()}
    pictures = [path for path in (ROOT / "docs").iterdir() if path.suffix != ".md"]
    assert [path.name for path in pictures if path not in shown] == []


# Interfaces


def fields(kind: type) -> set[str]:
    """The fields of a TypedDict as the document has them: those of an object in it as `outer.inner`."""
    names = set()
    for name, inner in typing.get_type_hints(kind).items():
        names.add(name)
        for part in (inner, *typing.get_args(inner)):
            if typing.is_typeddict(part) and typing.get_origin(inner) is not list:
                names |= {f"{name}.{field}" for field in typing.get_type_hints(part)}
    return names


def test_every_field_of_a_sessions_status_is_documented() -> None:
    counts = {f"frames.{name}" for name in FRAME_COUNTS}
    assert set(first_column(HTTP_API.section("Status of a session"))) == fields(SessionStatus) | counts


def test_every_field_of_a_viewers_status_is_documented() -> None:
    assert set(first_column(HTTP_API.section("Status of a viewer"))) == fields(ViewerStatus) - fields(SessionStatus)


def test_every_field_of_the_servers_status_is_documented() -> None:
    assert set(first_column(HTTP_API.section("GET /stats"))) == set(typing.get_type_hints(server.ServerStatus))


def test_every_field_of_the_configuration_is_documented() -> None:
    source = inspect.getsource(server.Server._get_config)
    (outer, *_) = (node for node in ast.walk(ast.parse(textwrap.dedent(source))) if isinstance(node, ast.Dict))
    keys = {key.value for key in outer.keys if isinstance(key, ast.Constant)}
    assert set(first_column(HTTP_API.section("GET /config"))) == keys


def test_every_metric_is_documented() -> None:
    timer = StageTimer()
    timer.add("frame", 1.0)
    text = metrics_text(timer, list).decode()
    named = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
    assert set(first_column(HTTP_API.section("GET /metrics"))) == named


def test_every_route_is_documented() -> None:
    source = inspect.getsource(server.Server.application)
    routes = {(verb.upper(), path) for verb, path in re.findall(r'add_(\w+)\("(/[^"]*)"', source)}
    documented = HTTP_API.section("Routes").replace("ID", "{id}")
    said = {(verb, path) for verb, path in re.findall(r"`(GET|POST|DELETE) (/[^`? ]*)", documented)}
    assert {(verb, path) for verb, path in said if not re.search(r"/(NAME|style|$)", path)} == routes


def test_every_option_is_documented() -> None:
    assert set(re.findall(r"--[a-z-]+", " ".join(first_column(HTTP_API.section("Serving"))))) == stream_options() - {
        "--help"
    }


def test_every_stage_is_documented() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "realtime").rglob("*.py"))
    stages = set(re.findall(r'timer\.(?:measure|add)\("([a-z -]+)"', sources))
    assert set(first_column(HTTP_API.section("Stages"))) == stages


def test_every_public_name_is_documented() -> None:
    for name in realtime.__all__:
        assert f"`{name}`" in PYTHON_API.text, name
        kind = getattr(realtime, name)
        if inspect.isclass(kind) and not issubclass(kind, Exception):
            own = {member for member in {*vars(kind), *kind.__annotations__} if not member.startswith("_")}
            undocumented = {member for member in own if f"`{name}.{member}`" not in PYTHON_API.text}
            assert not undocumented, name


def test_every_key_of_an_avatar_is_documented() -> None:
    table = ARCHITECTURE.section("The avatar folder").partition("The keys of")[2]
    assert set(first_column(table)) == KEYS
    assert set(json.loads((ROOT / "avatars" / "ada" / "avatar.json").read_text())) == KEYS


def test_every_room_is_documented() -> None:
    said = set(re.findall(r"`([^`]+)`", ARCHITECTURE.section("The rooms of the code")))
    for room in layout.RANKS.keys() - {"realtime", "tests"}:
        path = ROOT.joinpath(*room.split("."))
        if path.is_dir() or path.with_suffix(".py").is_file():
            wanted = f"{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else '.py'}"
            assert wanted in said, room


def test_one_version() -> None:
    citation, changelog = (ROOT / "CITATION.cff").read_text(), (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^version: (\S+)$", citation, re.M)[1] == realtime.__version__  # type: ignore[index]
    assert f"## [{realtime.__version__}]" in changelog


# The checks find what they are for


def document(text: str, tmp_path: Path) -> Document:
    return Document(tmp_path / "page.md", text)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (link_faults, "# A page\n[there](#a-page) [far](https://example.org/x)", "[away](nothing.md)"),
        (link_faults, "# A `word`, and more\n[x](#a-word-and-more)", "# A\n[x](#b)"),
        (link_faults, "```\n[x](nothing.md)\n```", "![x](nothing.png)"),
        (
            path_faults,
            "`realtime/face/pipeline.py` `targets/onnx/*.onnx` `face/` `text/plain`",
            "`realtime/nothing.py`",
        ),
        (path_faults, "`build/x.json` `DIR/frames.mkv` `--out x/y.py`", "`bench/results/none-*.json`"),
        (path_faults, "`realtime/{audio,face}/`", "`shaders/nothing.cu`"),
        (code_faults, "`FacePipeline.paint` `paste()` `realtime.contract`", "`FacePipeline.nothing`"),
        (code_faults, "`Mailbox.put()` `realtime.contract.LATENT`", "`no_such_function()`"),
        (code_faults, "`AudioInput` `Feed` `GET /x`", "`NoSuchClass`"),
        (code_faults, "`realtime.face.pipeline`", "`realtime.nothing`"),
        (command_faults, "`run_stream.py --offline --size 256`", "`run_stream.py --sise 256`"),
        (command_faults, "    miravox --source FILE --record OUT.mp4", "    miravox --record talk.mov"),
        (command_faults, "    python -m bench stages --reference --json F", "    python -m bench stages --loss 0.1"),
        (command_faults, "    python -m bench compare A.json B.json", "    python -m bench nothing"),
        (command_faults, "    python -m export pack --dataset DIR", "    python -m export sack --dataset DIR"),
        (command_faults, "    python -m training.face --dataset DIR  # --nothing", "    python -m training.nose"),
        (command_faults, "    python -m studio \\\n        --out DIR", "    python -m studio \\\n        --in DIR"),
        (command_faults, '    make stream ARGS="--loop"\n    make test', "    make dream"),
        (command_faults, "    make avatar ENCODER=x", '    make stream ARGS="--sise 1"'),
        (command_faults, "    pip install -e '.[mic,capture]'", "    pip install -e '.[mick]'"),
        (python_faults, "```python\nasync for x in y:\n    pass\n```", "```python\nfor x in:\n```"),
    ],
)
def test_planted_mistakes_are_found(
    check: Callable[[Document], list[str]], good: str, bad: str, tmp_path: Path
) -> None:
    assert check(document(good, tmp_path)) == []
    assert len(check(document(bad, tmp_path))) == 1


def test_code_blocks_are_not_prose(tmp_path: Path) -> None:
    page = document("A `word`\n\n    make test\n\n```sh\nmake check\n```\n\nand `more`\n", tmp_path)
    assert page.names == ["word", "more"]
    assert [block.strip() for _, block in page.blocks] == ["make check", "make test"]


def test_headings_have_the_anchors_of_the_web(tmp_path: Path) -> None:
    page = document("# What a frame costs\n## GET /config\n## `--verbose`, why?\n## Again\n## Again\n", tmp_path)
    assert page.anchors == {"what-a-frame-costs", "get-config", "--verbose-why", "again", "again-1"}
