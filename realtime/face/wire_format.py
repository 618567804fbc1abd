"""The wire format of protocol buffers, read without trust: every length against the bytes that are there, every field
against a schema, and no recursion.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

# Kinds of fields. NUMBERS and FLOATS may be given one by one, or packed; MESSAGES are there any number of times.
NUMBER, FLOAT, BYTES, NUMBERS, FLOATS, MESSAGES = range(6)
Schema = Mapping[int, tuple[str, int]]  # number of a field: its name and kind
Message = dict[str, list[Any]]


class BadMessage(Exception):
    """What is wrong with a message, in words for the user."""


def read_message(data: memoryview, schema: Schema) -> Message:
    """Every field of one message. Raises BadMessage for a field that is not in the schema, is there twice, or ends
    behind the message's end.
    """
    message: Message = {name: [] for name, _ in schema.values()}
    for number, wire, value in _fields(data):
        if number not in schema:
            raise BadMessage(f"a part that export does not write (field {number})")
        name, kind = schema[number]
        if kind in (NUMBERS, FLOATS) and wire == 2:
            message[name] += _numbers(value) if kind == NUMBERS else struct.unpack(f"<{len(value) // 4}f", value)
            continue
        if wire != {NUMBER: 0, NUMBERS: 0, FLOAT: 5, FLOATS: 5}.get(kind, 2):
            raise BadMessage("a damaged file")
        if kind in (NUMBER, FLOAT, BYTES) and message[name]:
            raise BadMessage(f"{name} twice")
        message[name].append(value)
    return message


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and value of every field."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, wire, value
        elif wire == 2:
            length, at = _varint(data, at)
            if not 0 <= length <= len(data) - at:
                raise BadMessage("a damaged file")
            yield key >> 3, wire, data[at : at + length]
            at += length
        elif wire == 5:
            yield key >> 3, wire, struct.unpack_from("<f", data, at)[0]
            at += 4
        else:
            raise BadMessage("a damaged file")


def _numbers(data: memoryview) -> list[int]:
    at, numbers = 0, []
    while at < len(data):
        number, at = _varint(data, at)
        numbers.append(number)
    return numbers


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A signed 64 bit number and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
        if shift > 63:
            raise BadMessage("a damaged file")
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value, at


def one(message: Message, name: str, default: Any = None) -> Any:
    """A field that is there once, or its default. Raises BadMessage if it is missing and has none."""
    values = message[name]
    if not values and default is None:
        raise BadMessage(f"no {name}")
    return values[0] if values else default


def text(message: Message, name: str) -> str:
    return bytes(one(message, name, b"")).decode()
