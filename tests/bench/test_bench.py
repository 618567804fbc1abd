"""The measuring commands: each has its options, and every result says where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("torch", "gl_context")


def test_results_say_where_they_come_from(tmp_path: Path) -> None:
    from bench.record import save

    save({"fps": 1.0}, {"size": 512}, tmp_path / "new" / "result.json")
    result = json.loads((tmp_path / "new" / "result.json").read_text())
    assert result["fps"] == 1.0 and result["config"] == {"size": 512}
    assert result["hardware"]["cores"] >= 1 and result["hardware"]["opengl"]
    assert {"python", "numpy", "torch"} <= set(result["versions"]) and result["commit"]


def test_every_command_is_a_module_with_options(capsys: pytest.CaptureFixture[str]) -> None:
    import importlib

    from bench.__main__ import COMMANDS, WITHOUT_RESULT, parse

    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            parse([name, "--help"])
        text = capsys.readouterr().out
        assert ended.value.code == 0 and f"python -m bench {name}" in text
        assert ("--json" in text) == (name not in WITHOUT_RESULT)
        assert callable(importlib.import_module(f"bench.{name}").run)
    assert parse(["stages", "--seconds", "2"]).avatar.name == "ada"
