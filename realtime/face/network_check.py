"""What a network of a stranger's avatar would cost, known before anything of it is run.

Every operator is one that export writes, and the shape of everything that it computes is derived here from the inputs'
and stays within bounds. So no file can make ONNX Runtime allocate without end, and there is nothing in it that loops.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ..contract import Network
from ..errors import MiravoxError
from .onnx_file import MAX_RANK, Graph, Node, read_graph
from .onnx_shapes import OPERATORS, Known, Shape
from .wire_format import BadMessage

REMEDY = "Export the avatar again with `python -m export`."
MAX_FILE_BYTES = 64 << 20
MAX_ELEMENTS = 1 << 25  # of one tensor
MAX_ALL_ELEMENTS = 1 << 28  # of all that one call computes; four bytes each
# What a free extent is in live use, at most: points are drawn in pieces, speech comes a frame at a time.
FREE_EXTENTS = {"points": 1 << 14, "encoded": 1 << 14}
FREE_EXTENT = 2


def read_network(path: Path, network: Network) -> tuple[bytes, Mapping[str, Shape]]:
    """An ONNX file that passed `check_network`, and the shapes of its outputs. Raises MiravoxError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        return data, check_network(data, network)
    except (OSError, BadMessage) as error:
        raise MiravoxError(
            str(path),
            found=str(error) if isinstance(error, BadMessage) else error.strerror or str(error),
            wanted=f"{network.name} as export writes it, of {', '.join(t.name for t in network.inputs)}",
            remedy=REMEDY,
        ) from error


def check_network(data: bytes, network: Network) -> Mapping[str, Shape]:
    """The shapes of a network's outputs, where its free extents are as large as in live use.

    Args:
        data: the ONNX file.
        network: what it should be.

    Raises BadMessage for a file that is not made of what export writes, or costs more than a face may.
    """
    if len(data) > MAX_FILE_BYTES:
        raise BadMessage(f"{len(data)} bytes")
    graph = read_graph(data)
    tensors = {name: Known(c.shape, c.values) for name, c in graph.constants.items()}
    for name, shape in _inputs(graph, network).items():
        if name in tensors:
            raise BadMessage(f"{name[:40]!r} twice")
        tensors[name] = Known(shape)
    elements = 0
    for node in graph.nodes:
        made = _output(node, tensors)
        count = math.prod(made.shape)
        elements += count
        if len(made.shape) > MAX_RANK or count > MAX_ELEMENTS or elements > MAX_ALL_ELEMENTS:
            raise BadMessage(f"{node.op}, which makes a tensor of {list(made.shape[:8])}")
        (name,) = node.outputs
        if name in tensors:
            raise BadMessage(f"{name[:40]!r} twice")
        tensors[name] = made
    if missing := [tensor.name for tensor in network.outputs if tensor.name not in tensors]:
        raise BadMessage(f"no output {missing[0]}")
    return {tensor.name: tensors[tensor.name].shape for tensor in network.outputs}


def _inputs(graph: Graph, network: Network) -> dict[str, Shape]:
    """The inputs' shapes. Raises BadMessage unless they are the contract's."""
    wanted = {tensor.name: tensor.shape for tensor in network.inputs}
    found = {}
    for name, shape in graph.inputs.items():
        allowed = wanted.get(name, ())
        if len(shape) != len(allowed) or any(w >= 0 and w != e for e, w in zip(shape, allowed, strict=True)):
            raise BadMessage(f"an input {name[:40]!r} of shape {list(shape[:8])}")
        free = FREE_EXTENTS.get(name, FREE_EXTENT)
        found[name] = tuple(free if extent is None else extent for extent in shape)
    if set(found) != set(wanted):
        raise BadMessage(f"the inputs {', '.join(found)[:80]}")
    return found


def _output(node: Node, tensors: Mapping[str, Known]) -> Known:
    """What a node makes. Raises BadMessage if that is not allowed, or does not fit."""
    operator = OPERATORS.get(node.op)
    if operator is None or len(node.outputs) != 1:
        raise BadMessage(f"the operator {node.op[:40]!r}")
    try:
        inputs = [tensors[name] if name else None for name in node.inputs]
        made = operator(node.attributes, *inputs)
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        # Whatever does not fit in an operator's inputs and attributes ends here: there are hundreds of such ways.
        raise BadMessage(f"an operator {node.op} whose inputs do not fit") from error
    if min(made.shape, default=0) < 0:
        raise BadMessage(f"an operator {node.op} whose inputs do not fit")
    return made
