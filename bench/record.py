"""What every result file holds beside its figures: hardware, versions, commit, configuration."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

LIBRARIES = ("numpy", "onnxruntime", "moderngl", "av", "torch", "scikit-image")
ROOT = Path(__file__).resolve().parents[1]


def environment() -> dict[str, object]:
    """Processor, cores, memory, renderer; Python and libraries; the commit, and whether the tree differs from it."""
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if cpuinfo.exists()
        else []
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    versions = {"python": platform.python_version(), "system": platform.platform()}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "hardware": {
            "cpu": models[0] if models else platform.processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(memory / 2**30, 1),
            "opengl": _renderer(),
        },
        "versions": versions,
        "commit": _commit(),
    }


def _renderer() -> str:
    from realtime.face.gl import create_context

    context = create_context()
    name = str(context.info["GL_RENDERER"])
    context.release()
    return name


def _commit() -> str:
    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        except FileNotFoundError:  # no git here
            return ""
        return done.stdout.strip()

    head = git("rev-parse", "HEAD") or "unknown"
    return f"{head}, with changes" if git("status", "--porcelain", "--untracked-files=no") else head


def save(result: dict[str, object], config: dict[str, object], path: Path | None) -> None:
    """Writes the result with its surroundings as JSON, if a path is given."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**result, **environment(), "config": config}, indent=2) + "\n")
    print(f"saved {path}")


def show(text: str, path: Path | None) -> None:
    """Prints a table, and writes it to a file if one is named."""
    print(text)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
