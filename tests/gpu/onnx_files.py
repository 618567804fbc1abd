"""Small ONNX files for tests of building plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_model(
    path: Path, nodes: list[Any], inputs: dict[str, tuple[int, list[Any]]], output: tuple[int, list[Any]]
) -> Path:
    """An ONNX file of these nodes; types are onnx.TensorProto's, the output is `y`."""
    import onnx
    from onnx import helper

    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, *v) for n, v in inputs.items()],
        [helper.make_tensor_value_info("y", *output)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def relu(path: Path, free: bool = True) -> Path:
    from onnx import helper

    shape = ["N" if free else 8, 4]
    return write_model(path / "relu.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": (1, shape)}, (1, shape))
