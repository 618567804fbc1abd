"""Where the files lie that are read rather than imported: shaders, the browser's page, the avatars that ship."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def resource_folder(name: str) -> Path:
    """The folder `name` ("shaders", "avatars") of this installation.

    A wheel carries it within the package. In a clone, and where that is installed as editable, it lies beside the
    package. importlib.resources cannot be asked: of an editable installation it knows no folder beside the package.
    """
    within = PACKAGE / name
    return within if within.is_dir() else PACKAGE.parent / name
