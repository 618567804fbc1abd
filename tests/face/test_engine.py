"""ONNX Runtime sessions: another network, a broken file and wrong inputs are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from realtime import contract
from realtime.errors import MiravoxError
from realtime.face.engine import Engine


def test_an_engine_refuses_another_network(ada: Path) -> None:
    with pytest.raises(MiravoxError, match="wanted .*embeddings"):
        Engine(ada / "targets" / "onnx" / "color.onnx", contract.PROJECTION)
    engine = Engine(ada / "targets" / "onnx" / "projection.onnx", contract.PROJECTION)
    with pytest.raises(ValueError, match="wanted float32"):
        engine.run(np.zeros((1, 9, 511), np.float32))


def test_a_broken_network_file_is_told(ada: Path, tmp_path: Path) -> None:
    cut = tmp_path / "projection.onnx"
    shutil.copyfile(ada / "targets" / "onnx" / "projection.onnx", cut)
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(MiravoxError, match="found a damaged file"):
        Engine(cut, contract.PROJECTION)
