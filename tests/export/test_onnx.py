"""ONNX files: float16 weights, and nothing of the machine that wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from realtime import contract
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("torch")


def test_weights_are_stored_in_float16(torch: Any, tmp_path: Path) -> None:
    import onnx

    from export.coefficients import Coefficients
    from export.onnx import SMALL, export_onnx

    export_onnx(Coefficients(4, 6), contract.COEFFICIENTS, tmp_path / "c.onnx")
    model = onnx.load(tmp_path / "c.onnx")
    large = [i for i in model.graph.initializer if np.prod(i.dims) >= SMALL]
    assert large and all(i.data_type == onnx.TensorProto.FLOAT16 for i in large)
    assert model.opset_import[0].version == 20
    assert str(ROOT).encode() not in (tmp_path / "c.onnx").read_bytes(), "no path of this machine"
