"""A run is neither overwritten nor mixed with another, and its checkpoint is always whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from realtime.errors import MiravoxError

pytestmark = pytest.mark.usefixtures("torch")


def test_a_run_is_not_overwritten_or_mixed(tmp_path: Path) -> None:
    from training.run import CHECKPOINT, open_run
    from training.speech_batches import SpeechConfig

    open_run(tmp_path, SpeechConfig(), resume=False)
    assert json.loads((tmp_path / "config.json").read_text())["batch"] == SpeechConfig().batch
    (tmp_path / CHECKPOINT).write_bytes(b"")
    with pytest.raises(MiravoxError, match="--resume"):
        open_run(tmp_path, SpeechConfig(), resume=False)
    with pytest.raises(MiravoxError, match="another configuration"):
        open_run(tmp_path, SpeechConfig(steps=7), resume=True)
    open_run(tmp_path, SpeechConfig(), resume=True)


def test_a_checkpoint_is_whole_or_the_one_before(torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import training.run as run

    module = torch.nn.Linear(3, 2)
    checkpoint = run.Checkpoint(tmp_path, {"linear": module}, torch.optim.Adam(module.parameters()))
    checkpoint.save(7)
    whole = (tmp_path / run.CHECKPOINT).read_bytes()

    def cut_off(tensors: dict[str, Any], path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr(run, "save_file", cut_off)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(8)
    assert (tmp_path / run.CHECKPOINT).read_bytes() == whole and len(list(tmp_path.iterdir())) == 1
    assert checkpoint.load() == 7
