"""The shape that each operator of ONNX makes of its inputs' shapes, for the operators that export writes.

Whoever calls one catches what Python raises where inputs or attributes do not fit: ValueError, TypeError and the like.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .onnx_file import SMALL, Constant

CAST_TYPES = (1, 6, 7, 9, 10)  # float32, int32, int64, bool, float16

Shape = tuple[int, ...]
Values = tuple[float, ...]


@dataclass(frozen=True)
class Known:
    """What is known of a tensor: its shape, and the values of a small one that do not depend on the inputs'."""

    shape: Shape
    values: Values | None = None


def _same(_: Mapping[str, Any], x: Known, *others: Known) -> Known:
    """Element by element, or along an axis that stays: the first input's shape."""
    return Known(x.shape)


def _cast(attributes: Mapping[str, Any], x: Known, *others: Known) -> Known:
    if attributes.get("to", 1) not in CAST_TYPES:
        raise ValueError("a type that export does not cast to")
    return x


def _broadcast(_: Mapping[str, Any], *inputs: Known) -> Known:
    return Known(broadcast(*(x.shape for x in inputs)))


def broadcast(*shapes: Shape) -> Shape:
    """NumPy's rule. Raises ValueError for shapes that do not fit."""
    rank = max(len(shape) for shape in shapes)
    columns = zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True)
    out = []
    for extents in columns:
        wide = {extent for extent in extents if extent != 1}
        if len(wide) > 1:
            raise ValueError("shapes that do not fit")
        out.append(wide.pop() if wide else 1)
    return tuple(out)


def _constant(attributes: Mapping[str, Any]) -> Known:
    ((name, value),) = attributes.items()
    if name == "value":
        assert isinstance(value, Constant)
        return Known(value.shape, value.values)
    if name in ("value_ints", "value_floats"):
        return Known((len(value),), tuple(value) if len(value) <= SMALL else None)
    return {"value_int": Known((), (value,)), "value_float": Known((), (value,))}[name]


def _shape(attributes: Mapping[str, Any], x: Known) -> Known:
    part = x.shape[attributes.get("start", 0) : attributes.get("end", len(x.shape))]
    return Known((len(part),), part)


def _whole(x: Known) -> tuple[int, ...]:
    """The values of a tensor as whole numbers, which must be known."""
    if x.values is None:
        raise ValueError("a shape that depends on the inputs' values")
    return tuple(int(value) for value in x.values)


def _axes(x: Known, rank: int) -> list[int]:
    return [range(rank)[axis] for axis in _whole(x)]


def _squeeze(_: Mapping[str, Any], x: Known, axes: Known | None = None) -> Known:
    rank = len(x.shape)
    gone = [a for a in range(rank) if x.shape[a] == 1] if axes is None else _axes(axes, rank)
    if any(x.shape[axis] != 1 for axis in gone):
        raise ValueError("an axis that is longer than 1")
    return Known(tuple(extent for axis, extent in enumerate(x.shape) if axis not in gone), x.values)


def _unsqueeze(_: Mapping[str, Any], x: Known, axes: Known) -> Known:
    rank = len(x.shape) + len(_whole(axes))
    new, rest = _axes(axes, rank), iter(x.shape)
    return Known(tuple(1 if axis in new else next(rest) for axis in range(rank)), x.values)


def _reshape(attributes: Mapping[str, Any], x: Known, shape: Known) -> Known:
    wanted = list(_whole(shape))
    if not attributes.get("allowzero", 0):
        wanted = [x.shape[axis] if extent == 0 else extent for axis, extent in enumerate(wanted)]
    count = math.prod(x.shape)
    if -1 in wanted:
        wanted[wanted.index(-1)] = count // math.prod(extent for extent in wanted if extent != -1)
    if math.prod(wanted) != count:
        raise ValueError("another number of elements")
    return Known(tuple(wanted), x.values)


def _expand(_: Mapping[str, Any], x: Known, shape: Known) -> Known:
    return Known(broadcast(x.shape, _whole(shape)))


def _concat(attributes: Mapping[str, Any], *inputs: Known) -> Known:
    shapes = [x.shape for x in inputs]
    axis = range(len(shapes[0]))[attributes["axis"]]
    if len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) != 1:
        raise ValueError("shapes that do not fit")
    total = sum(shape[axis] for shape in shapes)
    values = None
    if len(shapes[0]) == 1 and total <= SMALL and all(x.values is not None for x in inputs):
        values = tuple(value for x in inputs for value in x.values or ())
    return Known((*shapes[0][:axis], total, *shapes[0][axis + 1 :]), values)


def _range(_: Mapping[str, Any], start: Known, limit: Known, delta: Known) -> Known:
    (first,), (end,), (step,) = (x.values or () for x in (start, limit, delta))
    return Known((max(0, math.ceil((end - first) / step)),))


def _transpose(attributes: Mapping[str, Any], x: Known) -> Known:
    order = attributes["perm"]
    if sorted(order) != list(range(len(x.shape))):
        raise ValueError("not an order of the axes")
    return Known(tuple(x.shape[axis] for axis in order))


def _gather(attributes: Mapping[str, Any], x: Known, indices: Known) -> Known:
    axis = range(len(x.shape))[attributes.get("axis", 0)]
    picked = None
    if x.values is not None and len(x.shape) == 1:
        picked = tuple(x.values[index] for index in _whole(indices))
    return Known((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), picked)


def _slice(
    _: Mapping[str, Any], x: Known, starts: Known, ends: Known, axes: Known | None = None, steps: Known | None = None
) -> Known:
    shape = list(x.shape)
    along = list(range(len(_whole(starts)))) if axes is None else _axes(axes, len(shape))
    by = (1,) * len(along) if steps is None else _whole(steps)
    for axis, start, end, step in zip(along, _whole(starts), _whole(ends), by, strict=True):
        shape[axis] = len(range(*slice(start, end, step).indices(shape[axis])))
    return Known(tuple(shape))


def _conv(attributes: Mapping[str, Any], x: Known, weight: Known, bias: Known | None = None) -> Known:
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise ValueError("padding that export does not write")
    spatial = len(x.shape) - 2
    if x.shape[1] != weight.shape[1] * attributes.get("group", 1) or len(weight.shape) != spatial + 2:
        raise ValueError("channels that do not fit")
    ones = (1,) * spatial
    strides, dilations = attributes.get("strides", ones), attributes.get("dilations", ones)
    pads = attributes.get("pads", (0,) * (2 * spatial))
    if min((*strides, *dilations)) < 1 or min(pads) < 0 or len(pads) != 2 * spatial:
        raise ValueError("strides or padding that cannot be")
    out = [
        (extent + pads[i] + pads[spatial + i] - dilations[i] * (weight.shape[2 + i] - 1) - 1) // strides[i] + 1
        for i, extent in enumerate(x.shape[2:])
    ]
    return Known((x.shape[0], weight.shape[0], *out))


def _gemm(attributes: Mapping[str, Any], a: Known, b: Known, c: Known | None = None) -> Known:
    rows, inner = a.shape[::-1] if attributes.get("transA", 0) else a.shape
    again, columns = b.shape[::-1] if attributes.get("transB", 0) else b.shape
    if inner != again:
        raise ValueError("shapes that do not fit")
    return Known((rows, columns))


def _matmul(_: Mapping[str, Any], a: Known, b: Known) -> Known:
    (*left, rows, inner), (*right, again, columns) = a.shape, b.shape
    if inner != again:
        raise ValueError("shapes that do not fit")
    return Known((*broadcast((*left, 1), (*right, 1))[:-1], rows, columns))


def _resize(_: Mapping[str, Any], x: Known, region: Known | None, scales: Known | None, *sizes: Known) -> Known:
    if scales is None or scales.values is None or sizes or len(scales.values) != len(x.shape):
        raise ValueError("sizes that export does not write")
    return Known(tuple(math.floor(e * scale) for e, scale in zip(x.shape, scales.values, strict=True)))


def _reduce(attributes: Mapping[str, Any], x: Known, axes: Known | None = None) -> Known:
    rank, keep = len(x.shape), attributes.get("keepdims", 1)
    gone = list(range(rank)) if axes is None else _axes(axes, rank)
    return Known(tuple(1 if a in gone else e for a, e in enumerate(x.shape) if keep or a not in gone))


SAME = "BatchNormalization Clip Cos LeakyRelu Relu Round Sigmoid Sin Softmax Sqrt"
BROADCAST = "Add Div Max Min Mul Pow Sub"
OPERATORS: dict[str, Callable[..., Known]] = {
    **dict.fromkeys(SAME.split(), _same),
    **dict.fromkeys(BROADCAST.split(), _broadcast),
    "Cast": _cast,
    "CastLike": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "Expand": _expand,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Range": _range,
    "ReduceMean": _reduce,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
