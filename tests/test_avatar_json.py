"""avatar.json of strangers: every value is of its type and within bounds, or refused in one line."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime import avatar as folders
from realtime import avatar_format
from realtime.avatar import load_avatar
from realtime.avatar_json import KEYS, MAX_BYTES, is_inside, read_info
from realtime.errors import MiravoxError
from realtime.face.inpaint_boxes import InpaintBoxes
from tests.conftest import ROOT

ADA = ROOT / "avatars" / "ada"
Info = dict[str, Any]
HASH = "0" * 64


@pytest.fixture
def folder(ada: Path, tmp_path: Path) -> Path:
    """A folder with avatar.json alone."""
    shutil.copyfile(ada / "avatar.json", tmp_path / "avatar.json")
    return tmp_path


def refused(path: Path) -> str:
    with pytest.raises(MiravoxError) as caught:
        read_info(path)
    line = str(caught.value)
    assert line.startswith(str(path)) and "found" in line and "wanted" in line
    assert "\n" not in line and line.isprintable() and len(line) < 1000
    return line


def each(key: str, *values: object) -> list[Callable[[Info], object]]:
    """One edit for each value of an entry."""
    return [put(**{key: value}) for value in values]


def put(**values: object) -> Callable[[Info], object]:
    return lambda info: info.update(values)


def camera(**values: object) -> Callable[[Info], object]:
    return lambda info: info["camera"].update(values)


def listed(name: str, value: object = HASH) -> Callable[[Info], object]:
    return lambda info: info["files"].update({name: value})


NESTED: list[object] = []
for _ in range(40):
    NESTED = [NESTED]

WRONG_NUMBERS: tuple[object, ...] = ("1080", 0, -1, None, True, 1e9, 10**400, [1080])
WRONG_HASHES: tuple[object, ...] = (None, "", "../../etc/passwd", HASH[:-1], HASH.upper() + "G", 5)
BAD: list[Callable[[Info], object]] = [
    *each("width", "512", 512.5, True, None, 0, -512, 511, 10**30, [512], {}),
    put(width=1024),  # no square
    put(height=None),
    *each("frame_rate", "25", 30, None, True),
    *each("window_embeddings", 8, "9", []),
    *each("lookahead_samples", False, -200, 100, 1e300, "1800", 200 * 10**9),
    *each("name", None, "", " ", 7, ["Ada"], "A" * 101, "Ada\x1b[2J", "A\nda", "\ud800"),
    *each("consent", None, "", {}, "x" * 2001, "a\r\nb"),
    *each("licence", None, 1, [], "a\nb"),
    *each("provenance", None, [], "studio"),
    *each("fidelity", None, 0.5, [{}]),
    *each("color_input", "", None, ["canonical"], {"canonical": 1}, "both"),
    *each("frequencies", 0, 33, "10", 10.5, None, 10**400),
    *each("composition", None, 8, "", []),
    *each("composition_size", 0, 8, 65, 1 << 20, "64", None),
    *each("camera", None, [], 5, {}, {"fx": 1}),
    *(camera(fx=wrong) for wrong in WRONG_NUMBERS),
    camera(cx="256"),
    camera(cx=-1e9),
    camera(k1=0.1),
    *each("files", None, [], "all", 0, {}),
    *each("targets", None, [], "baked", {"baked": None}, {"baked": {}}, {"quantum": {}}),
    *(listed("source.mp4", wrong) for wrong in WRONG_HASHES),
    *(listed(name) for name in ("../secret", "/etc/passwd", "a/../../b", "./a", "a//b", "a/", "", ".hidden", "..")),
    *(listed(name) for name in ("a\\b", "..\\b", "C:a", "a\0b", "a\nb", "x" * 300, "avatar.json", "a/ b", "é\u202e")),
    lambda info: info["files"].update({f"file{i}": HASH for i in range(100)}),
    put(provenance={"deep": NESTED}),
    *each("format_version", None, True, 0, 2.0, "2", [], 10**30),
    put(hat="red"),
    lambda info: info.pop("consent"),
]


@pytest.mark.parametrize("edit", BAD)
def test_bad_values_are_refused_in_one_line(folder: Path, edit: Callable[[Info], object]) -> None:
    """Twenty-five of them ended in a traceback, one showed the hash of a file outside."""
    path = folder / "avatar.json"
    info = json.loads(path.read_text())
    edit(info)
    path.write_text(json.dumps(info))
    refused(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"Ada"',
        b"{",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"name": NaN}',
        b'{"name": Infinity}',
        b'{"name": -Infinity}',
        b'{"fidelity": {"a": 1e999}}',
        b'{"name": "a", "name": "b"}',
        b'{"width": ' + b"9" * 5000 + b"}",
        b" " * (MAX_BYTES + 1),
    ],
    ids=range(15),
)
def test_text_that_is_no_description(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "avatar.json").write_bytes(text)
    refused(tmp_path / "avatar.json")


def test_what_is_not_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "avatar.json").mkdir()
    refused(tmp_path / "avatar.json")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe")  # and is not waited for


@pytest.mark.parametrize("name", ["a.txt", "targets/onnx/color.onnx", "Ada's notes (2).md", "a/b/c", "größe.txt"])
def test_plain_names_are_allowed(name: str) -> None:
    assert is_inside(name)


# Every mutation


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["512", "baked", "canonical", "deformed", "../x", "/etc/passwd", HASH, 512, 64, 25, 9, 2, 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value, with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


@pytest.fixture(scope="module")
def quick(ada: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose large files are hashed and read once."""
    folder = tmp_path_factory.mktemp("quick") / "ada"
    shutil.copytree(ada, folder)
    hashes: dict[Path, str] = {}
    tensors: dict[Path, Any] = {}
    sha256, read_tensors = avatar_format.sha256, folders.read_tensors

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(avatar_format, "sha256", lambda path: hashes.get(path) or hashes.setdefault(path, sha256(path)))
        patch.setattr(
            folders,
            "read_tensors",
            lambda path, wanted: tensors.get(path) or tensors.setdefault(path, read_tensors(path, wanted)),
        )
        load_avatar(folder)
        yield folder


@settings(max_examples=400, deadline=None)
@given(draw=st.data())
def test_every_mutation_is_harmless_or_refused_in_one_line(quick: Path, draw: st.DataObject) -> None:
    """One to three values changed, taken away, added or moved, anywhere in the description."""
    before = json.loads((ADA / "avatar.json").read_text())
    info = copy.deepcopy(before)
    for _ in range(draw.draw(st.integers(1, 3))):
        top = [(info, key) for key in sorted(set(info) & KEYS)]
        inner = [place for key in ("camera", "files", "targets") if info.get(key) for place in _places(info[key])]
        container, key = draw.draw(st.sampled_from([*top, *inner, *list(places(info))[:60]] or [(info, "name")]))
        action = draw.draw(st.sampled_from(["change", "remove", "add"]))
        if action == "remove" and isinstance(container, dict):
            container.pop(key, None)
        elif action == "add" and isinstance(container, dict):
            container[draw.draw(st.text(max_size=8) | st.sampled_from(sorted(KEYS)))] = draw.draw(JSON)
        else:
            container[key] = draw.draw(JSON)
    (quick / "avatar.json").write_text(json.dumps(info))
    try:
        avatar = load_avatar(quick)
    except MiravoxError as refusal:
        assert str(refusal).isprintable() and len(str(refusal)) < 1000
        return
    # It was taken: then whatever is done with it at the start works.
    assert avatar.name.isprintable() and avatar.marking.isprintable()
    assert 64 <= avatar.width == avatar.height <= 2048 and 0 <= avatar.lookahead_samples <= 16_000
    assert np.isfinite(avatar.camera.scaled(128, 128).projection()).all()
    assert set(avatar.targets) <= {"baked", "onnx", "tensorrt"}
    assert len(InpaintBoxes(avatar, 128)) == len(avatar.source_pose)
    for name in [*avatar.info["files"], *(n for t in avatar.targets for n in avatar.info["targets"][t])]:
        assert quick in avatar.file(name).resolve().parents
    json.dumps(avatar.info, allow_nan=False)


def _places(value: Any) -> list[tuple[Any, Any]]:
    return list(places(value)) if isinstance(value, (dict, list)) else []
