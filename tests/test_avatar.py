"""An avatar's folder: which targets it offers, and what is no avatar."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from realtime.avatar import load_avatar
from realtime.avatar_format import COMMON_FILES, TARGET_FILES, hashes
from realtime.errors import MiravoxError

Info = dict[str, Any]


@pytest.fixture
def folder(ada: Path, tmp_path: Path) -> Path:
    """Ada's folder of links to her files, of which any may be taken away or replaced."""
    copy = tmp_path / "ada"
    shutil.copytree(ada, copy, copy_function=lambda source, target: Path(target).symlink_to(source))
    return copy


def change(folder: Path, edit: Callable[[Info], object]) -> None:
    """Edits avatar.json."""
    path = folder / "avatar.json"
    info = json.loads(path.read_text())
    edit(info)
    path.unlink()
    path.write_text(json.dumps(info))


def as_version_1(info: Info) -> None:
    """All hashes in `files`, as the first version of the format had them."""
    info["format_version"] = 1
    for group in info.pop("targets").values():
        info["files"] |= group


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(MiravoxError) as fault:
        load_avatar(folder)
    for word in ("found", "wanted", *words):
        assert word in str(fault.value), fault.value


def test_what_ships_is_as_its_description_says(ada: Path) -> None:
    info = json.loads((ada / "avatar.json").read_text())
    assert hashes(ada) == {"files": info["files"], "targets": info["targets"]}
    assert set(info["files"]) == {*COMMON_FILES, "sample.flac"}
    assert {target: tuple(group) for target, group in info["targets"].items()} == TARGET_FILES
    assert load_avatar(ada).targets == ("baked", "onnx", "tensorrt")


@pytest.mark.parametrize("target", ["baked", "onnx", "tensorrt"])
def test_a_target_whose_files_are_not_there_is_not_offered(folder: Path, target: str) -> None:
    for name in TARGET_FILES[target]:
        (folder / name).unlink()
    assert load_avatar(folder).targets == tuple(t for t in TARGET_FILES if t != target)
    change(folder, lambda info: info["targets"].pop(target))
    assert load_avatar(folder).targets == tuple(t for t in TARGET_FILES if t != target)


@pytest.mark.parametrize("target", ["baked", "onnx", "tensorrt"])
def test_a_target_of_which_some_files_are_missing_is_a_fault(folder: Path, target: str) -> None:
    name = TARGET_FILES[target][-1]
    (folder / name).unlink()
    refused(folder, str(folder / name), "no such file")


@pytest.mark.parametrize("name", [*COMMON_FILES, "targets/tensorrt/color.onnx"])
def test_every_file_is_checked(folder: Path, name: str) -> None:
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(folder, str(path), "SHA-256")


@pytest.mark.parametrize("name", COMMON_FILES)
def test_what_every_target_needs_must_be_there(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, str(folder / name), "no such file")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda info: info["files"].pop("source.mp4"), "no hash for source.mp4"),
        (lambda info: info["targets"]["onnx"].pop("targets/onnx/color.onnx"), "no hash for targets/onnx/color.onnx"),
        (lambda info: info["targets"].update(quantum={}), "targets = ['baked', 'onnx', 'quantum', 'tensorrt']"),
        (lambda info: info.update(targets=["baked"]), "targets = ['baked']"),
        (lambda info: info.update(files="all"), "files = all"),
        (lambda info: info["files"].update({"source.mp4": None}), "SHA-256 of each file"),
        (lambda info: info.pop("targets"), "no key 'targets'"),
        (lambda info: info.update(format_version=1), "unknown key 'targets'"),
        (lambda info: info.update(format_version=3), "format version 3; wanted format version 1 or 2. Update Miravox"),
        (lambda info: info.update(format_version="2"), "format version 2; wanted format version 1 or 2"),
    ],
)
def test_descriptions_that_cannot_be(folder: Path, edit: Callable[[Info], object], words: str) -> None:
    change(folder, edit)
    refused(folder, str(folder / "avatar.json"), words)


def test_version_1_still_loads(ada: Path, folder: Path) -> None:
    change(folder, as_version_1)
    old, new = load_avatar(folder), load_avatar(ada)
    assert old.targets == new.targets
    assert {**old.info, "targets": {t: set(g) for t, g in old.info["targets"].items()}} == {
        **new.info,
        "targets": {t: set(g) for t, g in new.info["targets"].items()},
    }


def test_version_1_is_checked_like_version_2(folder: Path) -> None:
    change(folder, as_version_1)
    shutil.rmtree(folder / "targets" / "tensorrt")
    assert load_avatar(folder).targets == ("baked", "onnx")
    (folder / "targets" / "baked" / "coefficients.onnx").unlink()
    refused(folder, "targets/baked/coefficients.onnx", "no such file")


def test_hidden_files_are_nobodys(folder: Path) -> None:
    before = hashes(folder)
    (folder / ".DS_Store").write_text("a file manager's")
    assert hashes(folder) == before
