"""The arrays of a pickled dictionary, read without executing anything of it.

A pickle is a program: loading it calls whatever it names. Here its opcodes are replayed, and calls are recorded instead
of made; then only what makes arrays of numbers is understood: numpy's own, chumpy's around them, scipy's sparse ones.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

from realtime.errors import MiravoxError

Arrays = dict[str, NDArray[Any]]


def read_pickled_arrays(path: Path, wanted: str, remedy: str) -> Arrays:
    """The arrays of numbers in a pickled dictionary, by their names.

    Args:
        wanted, remedy: what the file should be, and where it is to be had.

    Raises MiravoxError if it is no pickle, or none of a dictionary.
    """
    try:
        top = _replayed(path.read_bytes())
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise MiravoxError(str(path), found=f"no pickle of numbers ({error})", wanted=wanted, remedy=remedy) from error
    top = _as_array(top)
    if isinstance(top, np.ndarray) and top.shape == ():
        top = top[()]
    if not isinstance(top, dict):
        raise MiravoxError(str(path), found=f"a pickled {type(top).__name__}", wanted=wanted, remedy=remedy)
    names = {k.decode() if isinstance(k, bytes) else str(k): _as_array(v) for k, v in top.items()}
    return {k: v for k, v in names.items() if isinstance(v, np.ndarray) and v.dtype != object}


class Recorded:
    """An object that a pickle wants made: what was to be called, with which arguments, and the state set afterwards."""

    def __init__(self, name: str, arguments: Any = (), state: Any = None) -> None:
        self.name, self.arguments, self.state = name, arguments, state


def _as_array(thing: Any) -> Any:
    """A recorded array as an array; anything else as it is."""
    if not isinstance(thing, Recorded):
        return thing
    state = thing.state
    if thing.name.endswith("_reconstruct") and isinstance(state, tuple):
        _, shape, kind, by_column, data = state
        dtype = np.dtype(_text(kind.arguments[0]))
        if dtype.hasobject:
            return data[0] if shape == () else data
        if kind.state is not None and _text(kind.state[1]) == ">":
            dtype = dtype.newbyteorder(">")
        raw = data.encode("latin-1") if isinstance(data, str) else bytes(data)
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if by_column else "C")
    if isinstance(state, dict):
        parts = {_text(k): _as_array(v) for k, v in state.items()}
        if "x" in parts:  # chumpy
            return parts["x"]
        if {"data", "indices", "indptr"} <= parts.keys():  # scipy
            maker = " ".join(t.name for t in (thing, *thing.arguments) if isinstance(t, Recorded))
            kind = csc_matrix if "csc" in maker else csr_matrix
            return kind((parts["data"], parts["indices"], parts["indptr"]), parts["_shape"]).toarray()
    return thing


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _replayed(data: bytes) -> Any:
    """What a pickle describes, calls being recorded instead of made."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}

    def since_mark() -> list[Any]:
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    for code, argument, _ in pickletools.genops(data):
        name = code.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("NONE", "NEWTRUE", "NEWFALSE"):
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_SET"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(Recorded(str(argument)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(Recorded(f"{module} {attribute}"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, what = stack.pop(), stack.pop()
            stack.append(Recorded(what.name, arguments) if what.name != "_codecs encode" else arguments[0])
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state = state
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            items = stack[-count:]
            del stack[-count:]
            stack.append(tuple(items))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name == "LIST":
            stack.append(since_mark())
        elif name == "DICT":
            items = since_mark()
            stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        elif name == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif name == "APPENDS":
            items = since_mark()
            stack[-1].extend(items)
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1][key] = value
        elif name == "SETITEMS":
            items = since_mark()
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif code.arg is not None and not code.stack_before:  # numbers, texts and bytes
            stack.append(argument)
        else:
            raise ValueError(f"pickle opcode {name}")
    raise ValueError("a pickle that does not end")
