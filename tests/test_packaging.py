"""What is installed: the package miravox alone, small, whole, and the same in a clone, editable and as a wheel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import pytest

import realtime
from bench.layout import imported, sources
from realtime.avatar_json import TARGET_FILES
from tests.conftest import ROOT
from tests.installation import Environment, build, install

MAX_BYTES = 60e6
HELP_SECONDS = 0.5
HEAVY = ("aiohttp", "aiortc", "av", "moderngl", "numpy", "onnxruntime")


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """Every file in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An environment in which the clone is installed as editable."""
    folder = tmp_path_factory.mktemp("editable")
    yield install(build(folder / "build", "editable"), folder / "environment")
    shutil.rmtree(folder)


# The wheel


def test_it_is_small(wheel: Path) -> None:
    assert wheel.name == f"miravox-{realtime.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < MAX_BYTES


def test_it_holds_the_package_and_nothing_else(names: set[str]) -> None:
    assert {name.split("/")[0] for name in names} == {"miravox", f"miravox-{realtime.__version__}.dist-info"}
    modules = {name for name in names if name.endswith(".py")}
    rooms = {path.relative_to(ROOT / "realtime").as_posix() for path in (ROOT / "realtime").rglob("*.py")}
    assert modules == {f"miravox/{room}" for room in rooms}, "every room is in pyproject.toml"
    assert "miravox/py.typed" in names


def test_it_holds_what_is_read_rather_than_imported(names: set[str]) -> None:
    client = {path.name for path in (ROOT / "realtime" / "web" / "client").iterdir()}
    assert {name.removeprefix("miravox/web/client/") for name in names if "/client/" in name} == client
    shaders = {name.removeprefix("miravox/shaders/") for name in names if "/shaders/" in name}
    code = "".join(path.read_text() for module, path in sources().items() if module.startswith("realtime"))
    named = set(re.findall(r"\w+\.(?:vert|frag|cuh?)\b", code))
    assert shaders == {name for name in named if (ROOT / "shaders" / name).is_file()}, "those that the live code names"


def test_its_avatar_has_no_gpu_files(names: set[str]) -> None:
    avatar = {name.removeprefix("miravox/avatars/ada/") for name in names if "/avatars/" in name}
    files = {path.relative_to(ROOT / "avatars/ada").as_posix() for path in (ROOT / "avatars/ada").rglob("*.*")}
    assert avatar == files - set(TARGET_FILES["tensorrt"])


def test_its_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = f"miravox-{realtime.__version__}.dist-info"
        metadata = message_from_string(archive.read(f"{folder}/METADATA").decode())
        entries = archive.read(f"{folder}/entry_points.txt").decode().split()
    assert metadata["Version"] == realtime.__version__ and metadata["License-Expression"] == "Apache-2.0"
    required = [value for value in metadata.get_all("Requires-Dist", []) if "extra ==" not in value]
    assert "aiortc==1.16.*" in required and not any(value.startswith("torch") for value in required)
    assert "miravox=miravox.cli:main" in "".join(entries)


# Installed


def test_the_command(installed: Environment, tmp_path: Path) -> None:
    version = installed.run(installed.command, "--version", cwd=tmp_path).stdout
    assert version == f"miravox {realtime.__version__}\n"
    refused = installed.run(installed.command, "--sauce", cwd=tmp_path, check=False)
    assert refused.returncode == 2 and "options as `miravox --help` lists them" in refused.stderr
    resolved = json.loads(installed.run(installed.command, "--offline", "--dry-run", cwd=tmp_path).stdout)
    assert Path(resolved["avatar"]).is_relative_to(installed.folder) and Path(resolved["source"]).is_file()


def test_help_is_there_at_once(installed: Environment, tmp_path: Path) -> None:
    """The best of three, since the machine may be busy; and nothing heavy is imported for it."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        text = installed.run(installed.command, "--help", cwd=tmp_path).stdout
        seconds.append(time.perf_counter() - started)
    assert text.startswith("usage: miravox ") and "--verbose" in text
    assert min(seconds) < HELP_SECONDS
    log = installed.run(installed.python, "-X", "importtime", installed.command, "--help", cwd=tmp_path).stderr
    modules = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in log.splitlines() if "|" in line}
    assert "miravox" in modules and not modules & set(HEAVY)


def test_a_video_from_the_command(installed: Environment, tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "avatars/ada/sample.flac", tmp_path / "talk.flac")
    options = ("--offline", "--source", "talk.flac", "--size", "128")
    assert "frames per second" in installed.run(installed.command, *options, cwd=tmp_path).stdout
    assert (tmp_path / "out" / "talk.mp4").is_file()


RESOURCES = """
import json
from NAME.resources import resource_folder
from NAME.web.server import CLIENT
import NAME
avatar = NAME.load("ada")
found = [resource_folder("shaders") / "baked.frag", CLIENT / "index.html", avatar.sample]
print(json.dumps({"files": [str(path) for path in found if path.is_file()], "targets": avatar.targets}))
"""


def test_files_are_found_in_the_clone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RESOURCES.replace("NAME", "realtime")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    wanted = ["shaders/baked.frag", "realtime/web/client/index.html", "avatars/ada/sample.flac"]
    assert found == {"files": [str(ROOT / name) for name in wanted], "targets": ["baked", "onnx", "tensorrt"]}


def test_files_are_found_as_a_wheel(installed: Environment, tmp_path: Path) -> None:
    found = json.loads(installed.printed(RESOURCES.replace("NAME", "miravox"), tmp_path))
    assert len(found["files"]) == 3 and found["targets"] == ["baked", "onnx"]
    assert all(Path(file).is_relative_to(installed.folder) for file in found["files"])


def test_files_are_found_as_editable(editable: Environment, tmp_path: Path) -> None:
    found = json.loads(editable.printed(RESOURCES.replace("NAME", "miravox"), tmp_path))
    assert len(found["files"]) == 3 and found["targets"] == ["baked", "onnx", "tensorrt"]
    assert all(Path(file).is_relative_to(ROOT) for file in found["files"])
    assert editable.run(editable.command, "--version", cwd=tmp_path).stdout == f"miravox {realtime.__version__}\n"


def test_type_checkers_see_its_types(installed: Environment, tmp_path: Path) -> None:
    """mypy, as its users run it. The examples are right, and a mistake is seen."""
    (tmp_path / "mistake.py").write_text("import miravox\nmiravox.load(3).render('a.wav').frames\n")
    examples = sorted((ROOT / "examples").glob("*.py"))
    options = ["--python-executable", str(installed.python), "--config-file=", "--ignore-missing-imports"]
    cache = f"--cache-dir={ROOT / '.mypy_cache' / 'installed'}"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, cache, "mistake.py", *map(str, examples)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    faults = [line for line in done.stdout.splitlines() if "error:" in line]
    assert len(faults) == 2, done.stdout + done.stderr
    assert any('Argument 1 to "load" has incompatible type "int"' in fault for fault in faults)
    assert any('"Rendering" has no attribute "frames"' in fault for fault in faults)


# Two names for the same code


@pytest.mark.parametrize("names", [("realtime", "miravox"), ("miravox", "realtime")])
def test_the_two_names_never_meet(
    installed: Environment, editable: Environment, tmp_path: Path, names: tuple[str, str]
) -> None:
    first, second = names
    for environment in (installed, editable):
        code = f"import sys; sys.path.append({str(ROOT)!r}); import {first}.contract; import {second}"
        done = environment.run(environment.python, "-c", code, cwd=tmp_path, check=False)
        assert f"ImportError: {second}: this process has imported {first} already" in done.stderr
        assert f"Import {first} everywhere" in done.stderr


def test_other_peoples_package_of_that_name_is_no_trouble(installed: Environment, tmp_path: Path) -> None:
    (tmp_path / "realtime").mkdir()
    (tmp_path / "realtime" / "__init__.py").write_text("__all__ = ['Client']\nclass Client: ...\n")
    assert installed.printed("import realtime, miravox; print(miravox.load('ada').name)", tmp_path) == "Ada"


def test_nothing_of_the_project_imports_the_installed_name() -> None:
    for module, path in sources().items():
        assert not any(name.split(".")[0] == "miravox" for name in imported(path, module)), module
