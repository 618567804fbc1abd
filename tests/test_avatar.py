"""An avatar's folder: which targets it offers, and what is no avatar."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from realtime import avatar_format
from realtime.avatar import load_avatar
from realtime.avatar_format import hashes, sha256
from realtime.avatar_json import COMMON_FILES, TARGET_FILES
from realtime.contract import COMPOSITION
from realtime.errors import MiravoxError
from realtime.face.inpaint_boxes import InpaintBoxes
from realtime.face.shared_engines import SharedEngines

Info = dict[str, Any]


@pytest.fixture(scope="module")
def copied(ada: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(ada, tmp_path_factory.mktemp("copied") / "ada")


@pytest.fixture
def folder(copied: Path, tmp_path: Path) -> Path:
    """Ada's folder of hard links to a copy of her files, of which any may be taken away or replaced."""
    return shutil.copytree(copied, tmp_path / "ada", copy_function=os.link)


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


# Folders of strangers


def relist(folder: Path, *names: str) -> None:
    """Writes the hashes of what lies there: whoever makes an avatar writes them, too."""
    known = {name: sha256(folder / name) for name in names}

    def edit(info: Info) -> None:
        for group in (info["files"], *info["targets"].values()):
            group.update({name: value for name, value in known.items() if name in group})

    change(folder, edit)


def rewrite(folder: Path, name: str, edit: Callable[[dict[str, NDArray[Any]]], object]) -> None:
    """Changes a file's tensors, and its hash."""
    tensors = dict(load_file(folder / name))
    edit(tensors)
    (folder / name).unlink()
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / name)
    relist(folder, name)


def filled(name: str, shape: tuple[int, ...], dtype: str, value: float = 0) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.update({name: np.full(shape, value, dtype)})


def element(name: str, index: Any, value: float) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors[name].__setitem__(index, value)


def many_frames(tensors: dict[str, NDArray[Any]]) -> None:
    small = {**tensors, "mask": tensors["mask"][:, :1, :1]}
    tensors.update({name: np.repeat(values[:1], 1 << 15, 0) for name, values in small.items()})


GEOMETRY, SOURCE, BAKED = "geometry.safetensors", "source.safetensors", "targets/baked/baked.safetensors"


@pytest.mark.parametrize(
    ("name", "edit", "words"),
    [
        (GEOMETRY, filled("triangles", (0, 3), "int32"), "0 for F"),
        (GEOMETRY, filled("triangles", (5, 3), "int32", -1), "triangles from -1"),
        (GEOMETRY, filled("triangles", (5, 3), "int64"), "triangles as I64"),
        (GEOMETRY, filled("rest_latent", (64,), "float32", np.nan), "not finite"),
        (GEOMETRY, filled("rest_latent", (64,), "float64"), "rest_latent as F64"),
        (GEOMETRY, filled("box", (2, 3), "float32"), "an upper corner"),
        (GEOMETRY, lambda tensors: tensors.pop("uv"), "no tensor 'uv'"),
        (GEOMETRY, filled("more", (1,), "float32"), "unknown tensor 'more'"),
        (SOURCE, lambda tensors: tensors.update({k: v[:0] for k, v in tensors.items()}), "0 for M"),
        (SOURCE, many_frames, "32768 for M"),
        (SOURCE, element("pose", (0, 3, 3), 0), "last row"),
        (SOURCE, element("pose", (0, 0, 0), np.inf), "not finite"),
        (SOURCE, element("pose", (0, 0, 3), 3e38), "pose with values beyond"),
        (GEOMETRY, element("template", 0, -3e38), "template with values beyond"),
        (GEOMETRY, filled("rest_latent", (64,), "float32", 3e38), "rest_latent with values beyond"),
        (GEOMETRY, lambda tensors: tensors.update(box=np.array([[0] * 3, [1e-3] * 3], np.float32)), "an upper corner"),
        (SOURCE, element("box", (3, 2), 2**31 - 1), "inpaint boxes"),
        (SOURCE, element("box", (0, 0), -(2**31)), "inpaint boxes"),
        (SOURCE, filled("box", (598, 4), "int32", 3), "inpaint boxes"),
        (BAKED, filled("triangles", (0, 3), "int32"), "0 for F"),
        (BAKED, filled("triangles", (5, 3), "int32", 1 << 20), "triangles from"),
        (BAKED, filled("color_mean", (5000, 1, 3), "float16"), "5000 for H"),
    ],
)
def test_tensors_that_cannot_be(
    folder: Path, name: str, edit: Callable[[dict[str, NDArray[Any]]], object], words: str
) -> None:
    """A mesh without triangles ended in a traceback."""
    rewrite(folder, name, edit)
    refused(folder, str(folder / name), words)


def header(text: bytes, length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        header(b"{}"),
        header(b"[]"),
        header(b"{}", 1 << 62),
        header(b"{}", 1 << 20),
        header(b" " * (1 << 17)),
        header(b'{"uv": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}') + b"ab",
        header(b'{"uv": {"dtype": "F32", "shape": [4611686018427387904], "data_offsets": [0, 4]}}') + b"abcd",
        header(b'{"uv": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4000000000]}}') + b"abcd",
        header(b'{"uv": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}') + b"a",
    ],
    ids=range(11),
)
def test_files_that_are_no_tensors(folder: Path, data: bytes) -> None:
    (folder / GEOMETRY).unlink()
    (folder / GEOMETRY).write_bytes(data)
    relist(folder, GEOMETRY)
    refused(folder, str(folder / GEOMETRY))


def test_tensors_of_a_kind_that_numpy_does_not_know(folder: Path, ada: Path) -> None:
    """All of geometry as it is, but the rest latent in bfloat16, ended in a traceback."""
    data = (folder / GEOMETRY).read_bytes()
    length = int.from_bytes(data[:8], "little")
    described = json.loads(data[8 : 8 + length])
    described["rest_latent"] |= {"dtype": "BF16", "shape": [2 * 64]}
    text = json.dumps(described).encode()
    (folder / GEOMETRY).unlink()
    (folder / GEOMETRY).write_bytes(header(text) + data[8 + length :])
    relist(folder, GEOMETRY)
    refused(folder, str(folder / GEOMETRY), "rest_latent as BF16")


def test_a_file_outside_is_neither_read_nor_told_about(folder: Path) -> None:
    """The message for a wrong hash showed the beginning of the hash of any file."""
    secret = folder.parent / "secret"
    secret.write_text("secret")
    (folder / "notes.txt").symlink_to(secret)
    change(folder, lambda info: info["files"].update({"notes.txt": "0" * 64}))
    with pytest.raises(MiravoxError, match="a link that leads out of the folder") as caught:
        load_avatar(folder)
    assert sha256(secret)[:8] not in str(caught.value)


def test_a_folder_that_leads_out_is_refused_and_one_within_is_not(folder: Path) -> None:
    (folder / "targets" / "onnx").rename(folder / "networks")
    (folder / "targets" / "onnx").symlink_to(folder / "networks")
    assert load_avatar(folder).targets == ("baked", "onnx", "tensorrt")
    (folder / "networks").rename(folder.parent / "networks")
    (folder / "targets" / "onnx").unlink()
    (folder / "targets" / "onnx").symlink_to(folder.parent / "networks")
    refused(folder, "a link that leads out of the folder")


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / "source.mp4").unlink()
    os.mkfifo(folder / "source.mp4")
    refused(folder, "source.mp4", "no such file")


def test_a_file_that_is_too_large_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avatar_format, "sha256", None)
    (folder / GEOMETRY).unlink()
    with (folder / GEOMETRY).open("wb") as file:
        file.truncate(1 << 40)  # a hole, which takes no room
    refused(folder, str(folder / GEOMETRY), "1048576 MiB")


def test_what_is_not_listed_is_not_opened(folder: Path) -> None:
    """An unlisted targets/baked was loaded, whatever was in it."""
    change(folder, lambda info: info["targets"].pop("baked"))
    change(folder, lambda info: info["files"].pop("sample.flac"))
    avatar = load_avatar(folder)
    assert avatar.targets == ("onnx", "tensorrt")
    for opening in (
        lambda: SharedEngines(avatar).baked(),
        lambda: avatar.sample,
        lambda: avatar.file("targets/baked/coefficients.onnx"),
        lambda: avatar.file("avatar.json"),
    ):
        with pytest.raises(MiravoxError, match="does not list"):
            opening()


def test_the_composition_network_is_of_the_size_that_is_said(folder: Path) -> None:
    change(folder, lambda info: info.update(composition_size=128))
    with pytest.raises(MiravoxError, match=r"makes \[1, 3, 64, 64\]; wanted \[1, 3, 128, 128\]"):
        SharedEngines(load_avatar(folder)).engine(COMPOSITION)


def test_there_is_a_factor_for_each_component(folder: Path) -> None:
    rewrite(folder, BAKED, lambda tensors: tensors.update(color_components=tensors["color_components"][:7]))
    with pytest.raises(MiravoxError, match=r"coefficients.onnx: found factors .*'color': 7"):
        SharedEngines(load_avatar(folder)).baked()


@pytest.mark.parametrize("size", [128, 512])
def test_an_inpaint_box_may_be_the_whole_frame(folder: Path, size: int) -> None:
    """It was cut out as if the picture were larger than it is."""
    rewrite(folder, SOURCE, lambda tensors: tensors["box"].__setitem__(slice(None), (0, 0, 512, 512)))
    boxes = InpaintBoxes(load_avatar(folder), size)
    assert boxes.box_size == (size, size) and (boxes.boxes == (0, 0, size, size)).all()
    assert boxes.mask(0).shape == (size, size)
