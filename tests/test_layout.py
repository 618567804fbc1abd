"""The rules of the repository: who imports whom, what may be tracked."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench import layout
from tests.conftest import ROOT, lacking

WITHOUT_TORCH = ("run_stream.py", "realtime", "realtime/contract.py", "studio", "capture")
MAX_FILE_BYTES, MAX_AVATAR_BYTES = 30 * 2**20, 60 * 2**20


def tracked() -> list[Path]:
    """What git tracks or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        lacking(f"a git checkout ({listed.stderr.strip()})")
    return [ROOT / name for name in sorted(set(listed.stdout.split("\0"))) if name and (ROOT / name).is_file()]


def test_imports_go_down() -> None:
    assert layout.wrong_arrows(layout.imports_of_files()) == []


def test_no_files_import_one_another() -> None:
    assert layout.circles(layout.imports_of_files()) == []


def test_every_file_has_its_room() -> None:
    """What lies beside the rooms is in the table by its own name: a new file of the base is put there on purpose."""
    rooms = {module: layout.room_of(module) for module in layout.sources() if module.startswith("realtime.")}
    assert [module for module, room in rooms.items() if room == "realtime"] == []


def test_wrong_arrows_and_circles_are_found() -> None:
    graph = {
        "realtime.audio.ring": ["realtime.stream.session"],
        "realtime.audio.mel": ["realtime.avatar"],
        "realtime.cli": ["training.face"],
        "training.face": ["studio.film", "realtime.face.latent"],
        "studio.film": ["training.face"],
        "bench.stages": ["export.pack"],
    }
    assert layout.wrong_arrows(graph) == [
        "realtime.audio.ring imports realtime.stream.session",
        "realtime.audio.mel imports realtime.avatar",
        "realtime.cli imports training.face",
        "training.face imports studio.film",
        "studio.film imports training.face",
    ]
    assert layout.circles(graph) == [["studio.film", "training.face"]]


def test_relative_imports_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "render_loop.py"
    file.write_text("from ..audio.ring import AudioRing\nfrom . import mailbox\ndef f():\n    import numpy.fft\n")
    found = list(layout.imported(file, "realtime.stream.render_loop"))
    assert found == ["realtime.audio.ring.AudioRing", "realtime.stream.mailbox", "numpy.fft"]


def files_of(place: str) -> dict[str, Path]:
    return {module: path for module, path in layout.sources().items() if layout.within(module, place)}


@pytest.mark.parametrize("place", WITHOUT_TORCH)
def test_no_torch(place: str) -> None:
    for module, path in files_of(place).items():
        found = list(layout.imported(path, module))
        assert not any(layout.within(m, "torch") or layout.within(m, "torchvision") for m in found), module


@pytest.mark.parametrize("place", ["realtime"])
def test_the_same_files_are_another_package_where_they_are_installed(place: str) -> None:
    """Within realtime/ imports are relative: installed, its name is miravox."""
    for module, path in files_of(place).items():
        absolute = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
            and not node.level
            and (node.module or "").split(".")[0] == place
            or isinstance(node, ast.Import)
            and any(a.name.split(".")[0] == place for a in node.names)
        ]
        assert not absolute, module


def test_the_main_job_loads_no_torch() -> None:
    command = "import sys, run_stream; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0


def test_the_runtime_declares_what_it_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", d)[0] for d in project["dependencies"]}
    optional = {"pyaudio", "cuda", "tensorrt"}  # extras `mic`, `gpu`, `tensorrt`
    files = {**files_of("run_stream"), **files_of("realtime")}
    modules = {name.split(".")[0] for module, path in files.items() for name in layout.imported(path, module)}
    assert modules - set(sys.stdlib_module_names) - {"realtime"} - optional <= declared
    assert "torch" not in declared


def test_the_main_job_is_short() -> None:
    assert len((ROOT / "run_stream.py").read_text().splitlines()) < 100


def test_no_drawer_for_everything() -> None:
    assert not [p for p in tracked() if p.name in ("utils.py", "helpers.py", "misc.py", "common.py")]


def test_no_pickles() -> None:
    for path in tracked():
        assert path.suffix not in (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy"), path
        with path.open("rb") as file:
            start = file.read(4096)
        assert not re.match(rb"\x80[\x02-\x05]", start), f"{path} begins as a pickle"
        assert not (start.startswith(b"PK\x03\x04") and b".pkl" in start), f"{path} holds a pickle"
        if path.suffix == ".py":
            found = list(layout.imported(path, path.stem))
            assert not any(layout.within(m, "pickle") or layout.within(m, "joblib") for m in found), path


def test_no_file_is_too_large() -> None:
    sizes = {path: path.stat().st_size for path in tracked()}
    assert not [f"{path}: {size} bytes" for path, size in sizes.items() if size > MAX_FILE_BYTES]
    assert sum(size for path, size in sizes.items() if path.is_relative_to(ROOT / "avatars")) < MAX_AVATAR_BYTES


def test_no_path_of_this_machine() -> None:
    """Text files name no folder of the machine that they were written on."""
    places = "|".join(re.escape(place) for place in {str(ROOT), str(Path.home())})
    absolute = re.compile(rf"(?:{places}|/(?:work|root|home|Users)/[a-z])".encode())
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data and (found := absolute.search(data)):
            pytest.fail(f"{path.relative_to(ROOT)} names {found.group().decode()}")
