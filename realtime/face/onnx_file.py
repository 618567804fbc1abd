"""An ONNX file read without trust: its graph, as far as it is one that export writes.

Only the few fields are known that the exporter fills. All others are refused: graphs within nodes (Loop, If, Scan),
functions, data in other files, operators of others. So nothing of the file is deeper than four messages.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .wire_format import BYTES, FLOAT, FLOATS, MESSAGES, NUMBER, NUMBERS, BadMessage, Schema, one, read_message, text

MAX_NODES = 1000
MAX_TENSORS = 1000
MAX_RANK = 6
MAX_EXTENT = 1 << 24
SMALL = 64  # elements of a constant that may be a shape, a range or a scale: its values are read

MODEL: Schema = {
    1: ("ir_version", NUMBER),
    2: ("producer_name", BYTES),
    3: ("producer_version", BYTES),
    4: ("domain", BYTES),
    5: ("model_version", NUMBER),
    6: ("doc_string", BYTES),
    7: ("graph", BYTES),
    8: ("opset_import", MESSAGES),
    14: ("metadata_props", MESSAGES),
}
OPSET: Schema = {1: ("domain", BYTES), 2: ("version", NUMBER)}
GRAPH: Schema = {
    1: ("node", MESSAGES),
    2: ("name", BYTES),
    5: ("initializer", MESSAGES),
    10: ("doc_string", BYTES),
    11: ("input", MESSAGES),
    12: ("output", MESSAGES),
    13: ("value_info", MESSAGES),
    16: ("metadata_props", MESSAGES),
}
NODE: Schema = {
    1: ("input", MESSAGES),
    2: ("output", MESSAGES),
    3: ("name", BYTES),
    4: ("op_type", BYTES),
    5: ("attribute", MESSAGES),
    6: ("doc_string", BYTES),
    7: ("domain", BYTES),
    9: ("metadata_props", MESSAGES),
}
ATTRIBUTE: Schema = {
    1: ("name", BYTES),
    2: ("f", FLOAT),
    3: ("i", NUMBER),
    4: ("s", BYTES),
    5: ("t", BYTES),
    7: ("floats", FLOATS),
    8: ("ints", NUMBERS),
    13: ("doc_string", BYTES),
    20: ("type", NUMBER),
}
TENSOR: Schema = {
    1: ("dims", NUMBERS),
    2: ("data_type", NUMBER),
    8: ("name", BYTES),
    9: ("raw_data", BYTES),
    12: ("doc_string", BYTES),
}
VALUE: Schema = {1: ("name", BYTES), 2: ("type", BYTES), 3: ("doc_string", BYTES), 4: ("metadata_props", MESSAGES)}
TYPE: Schema = {1: ("tensor_type", BYTES)}
TENSOR_TYPE: Schema = {1: ("elem_type", NUMBER), 2: ("shape", BYTES)}
SHAPE: Schema = {1: ("dim", MESSAGES)}
DIMENSION: Schema = {1: ("dim_value", NUMBER), 2: ("dim_param", BYTES)}
# data_type: bytes of an element, and its struct format where constants are read.
ELEMENTS = {1: (4, "f"), 6: (4, "i"), 7: (8, "q"), 9: (1, "?"), 10: (2, "e")}
ATTRIBUTE_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}  # by its type


@dataclass(frozen=True)
class Constant:
    """A tensor in the file. `values` are those of a small one, in order, else None."""

    shape: tuple[int, ...]
    values: tuple[float, ...] | None


@dataclass(frozen=True)
class Node:
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]  # int, float, str, tuple of numbers, or Constant


@dataclass(frozen=True)
class Graph:
    """`inputs` and `outputs`: name to shape, None where an extent is free."""

    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: Mapping[str, tuple[int | None, ...]]
    constants: Mapping[str, Constant]
    nodes: tuple[Node, ...]


def read_graph(data: bytes) -> Graph:
    """The graph of an ONNX file. Raises BadMessage for anything that export does not write."""
    try:
        model = read_message(memoryview(data), MODEL)
        opsets = [read_message(opset, OPSET) for opset in model["opset_import"]]
        if [(text(o, "domain"), 13 <= one(o, "version", 0) <= 30) for o in opsets] != [("", True)]:
            raise BadMessage("operators of others, or of an old version")
        graph = read_message(one(model, "graph"), GRAPH)
        if len(graph["node"]) > MAX_NODES or len(graph["initializer"]) > MAX_TENSORS:
            raise BadMessage(f"{len(graph['node'])} operators and {len(graph['initializer'])} tensors")
        tensors = [_tensor(tensor) for tensor in graph["initializer"]]
        return Graph(
            dict(_value(value) for value in graph["input"]),
            dict(_value(value) for value in graph["output"]),
            dict(tensors),
            tuple(_node(node) for node in graph["node"]),
        )
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise BadMessage("a damaged file") from error


def _node(data: memoryview) -> Node:
    node = read_message(data, NODE)
    if text(node, "domain"):
        raise BadMessage(f"an operator of {text(node, 'domain')[:40]!r}")
    inputs, outputs = (tuple(bytes(name).decode() for name in node[key]) for key in ("input", "output"))
    return Node(text(node, "op_type"), inputs, outputs, dict(_attribute(a) for a in node["attribute"]))


def _attribute(data: memoryview) -> tuple[str, Any]:
    attribute = read_message(data, ATTRIBUTE)
    name, kind = text(attribute, "name"), one(attribute, "type", 0)
    field = ATTRIBUTE_FIELDS.get(kind)
    if field is None:
        raise BadMessage(f"an attribute {name[:40]!r} that is no number, text or tensor")
    if field == "t":
        return name, _tensor(one(attribute, "t"))[1]
    if field == "s":
        return name, text(attribute, "s")
    if field in ("ints", "floats"):
        return name, tuple(attribute[field])
    return name, one(attribute, field, 0)


def _tensor(data: memoryview) -> tuple[str, Constant]:
    tensor = read_message(data, TENSOR)
    name, kind, shape = text(tensor, "name"), one(tensor, "data_type", 0), tuple(tensor["dims"])
    raw: memoryview = one(tensor, "raw_data", memoryview(b""))
    if kind not in ELEMENTS:
        raise BadMessage(f"a tensor {name[:40]!r} of type {kind}")
    size, letter = ELEMENTS[kind]
    if len(shape) > MAX_RANK or not all(0 <= extent <= MAX_EXTENT for extent in shape):
        raise BadMessage(f"a tensor {name[:40]!r} of shape {list(shape[:8])}")
    count = math.prod(shape)
    if count * size != len(raw):
        raise BadMessage(f"{len(raw)} bytes for the tensor {name[:40]!r} of shape {list(shape)}")
    return name, Constant(shape, struct.unpack(f"<{count}{letter}", raw) if count <= SMALL else None)


def _value(data: memoryview) -> tuple[str, tuple[int | None, ...]]:
    """Name and shape of an input or output."""
    value = read_message(data, VALUE)
    kind = read_message(one(read_message(one(value, "type"), TYPE), "tensor_type"), TENSOR_TYPE)
    dimensions = [read_message(dimension, DIMENSION) for dimension in read_message(one(kind, "shape"), SHAPE)["dim"]]
    return text(value, "name"), tuple(one(d, "dim_value", 0) or None for d in dimensions)
