"""Environments in which Miravox is installed, from the wheel or as editable, with the dependencies of this one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("LICENSE", "NOTICE", "README.md", "pyproject.toml", "avatars", "realtime", "shaders")  # of a wheel


def build(folder: Path, kind: Literal["wheel", "editable"]) -> Path:
    """What pip would install, made by setuptools without a network, in a new folder.

    A wheel is built of a copy: setuptools leaves files behind where it builds.
    """
    source = ROOT
    if kind == "wheel":
        source = folder / "source"
        source.mkdir(parents=True)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(ROOT / part, source / part)
    made = folder / kind
    made.mkdir(parents=True)
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, made], cwd=source, check=True, capture_output=True)
    if kind == "wheel":
        shutil.rmtree(source)
    (wheel,) = made.glob("miravox-*.whl")
    return wheel


@dataclass(frozen=True)
class Environment:
    """A virtual environment with Miravox in it."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def command(self) -> Path:
        """The console command."""
        return self.folder / "bin" / "miravox"

    def run(self, *command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command outside the clone."""
        done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr
        return done

    def printed(self, code: str, cwd: Path) -> str:
        """What Python prints there."""
        return self.run(self.python, "-c", code, cwd=cwd).stdout.strip()


def install(wheel: Path, folder: Path) -> Environment:
    """A new environment with the wheel, which sees this one's other packages, but not its own editable Miravox: that
    hangs on a .pth file, and those are read in the environment's own folder only.
    """
    venv.create(folder, symlinks=True)
    environment = Environment(folder)
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", environment.python, "install", *options, wheel],
        check=True,
        capture_output=True,
    )
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    here = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (packages / "dependencies.pth").write_text("\n".join(here) + "\n")
    return environment
