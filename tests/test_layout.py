"""The rules of the repository: who imports whom, what may be tracked."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT, lacking

PACKAGES = ("realtime", "networks", "studio", "capture", "training", "export", "bench", "tests")
# What each may import of the project; bench and tests import anything.
ALLOWED = {
    "run_stream.py": ("realtime", "networks.contract"),
    "realtime": ("realtime", "networks.contract"),
    "networks": ("networks",),
    # Phones, what is held out, and the files that training reads: modules without torch.
    "studio": ("studio", "networks", "realtime", "training.phones", "training.dataset_files"),
    "capture": ("capture", "networks", "realtime", "training.phones", "training.dataset_files"),
    "training": ("training", "networks", "realtime", "studio.speech_curves"),  # how a mouth says given phones
    "export": ("export", "networks", "realtime", "training"),
}
WITHOUT_TORCH = ("run_stream.py", "realtime", "networks/contract.py", "studio", "capture")
MAX_FILE_BYTES, MAX_AVATAR_BYTES = 30 * 2**20, 60 * 2**20


def sources(place: str) -> list[Path]:
    path = ROOT / place
    return [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it: `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


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


@pytest.mark.parametrize("place", ALLOWED)
def test_imports_flow_one_way(place: str) -> None:
    for path in sources(place):
        for module in imported(path):
            if module.split(".")[0] in PACKAGES:
                assert any(within(module, a) for a in ALLOWED[place]), f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("place", WITHOUT_TORCH)
def test_no_torch(place: str) -> None:
    for path in sources(place):
        assert not any(within(m, "torch") or within(m, "torchvision") for m in imported(path)), path.relative_to(ROOT)


def test_the_main_job_loads_no_torch() -> None:
    command = "import sys, run_stream; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0


def test_the_runtime_declares_what_it_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^\w-]", d)[0] for d in project["dependencies"]}
    optional = {"pyaudio", "cuda", "tensorrt"}  # extras `mic`, `gpu`, `tensorrt`
    modules = {m.split(".")[0] for place in ("run_stream.py", "realtime") for p in sources(place) for m in imported(p)}
    assert modules - set(sys.stdlib_module_names) - set(PACKAGES) - optional <= declared
    assert "torch" not in declared


def test_nothing_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools == {"packages": [], "py-modules": []}


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
            assert not any(within(m, "pickle") or within(m, "joblib") for m in imported(path)), path


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
