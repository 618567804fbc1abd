"""The one private name of moderngl that is used, and that its absence is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import moderngl
import pytest

from realtime.errors import MiravoxError
from realtime.face.gl import UnlockedGL, function_loader


def test_this_moderngl_tells_where_functions_are(gl: moderngl.Context) -> None:
    address = function_loader(gl)("glFinish")
    assert isinstance(address, int) and address > 0
    UnlockedGL(gl).finish()


class Moved:
    """As a later moderngl may be."""

    def load(self, name: str) -> None:
        return None


@pytest.mark.parametrize(
    "mglo",
    [SimpleNamespace(), SimpleNamespace(_context=SimpleNamespace()), SimpleNamespace(_context=Moved())],
    ids=["gone", "without load", "tells nothing"],
)
def test_another_moderngl_is_told_with_the_remedy(mglo: Any) -> None:
    context: Any = SimpleNamespace(mglo=mglo)
    with pytest.raises(MiravoxError, match="moderngl: found version .*; wanted version 5.10.*pip install"):
        UnlockedGL(context)
