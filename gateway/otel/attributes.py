"""Attributes of OTLP: named values of spans, events, points and of who sends them."""

from collections.abc import Mapping
from functools import cache
from typing import Final

from gateway.otel.wire import DOUBLE, FIXED64, LENGTH, SMALL, double, integer, message, tag, varint

KEY: Final = 1  # fields of a KeyValue
VALUE: Final = 2
TEXT: Final = 1  # fields of an AnyValue
FLAG: Final = 2
NUMBER: Final = 3
FRACTION: Final = 4
LONGEST_VARINT: Final = 10  # bytes
OPERATIONS: Final = {
    "chat": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}

Value = str | bool | int | float


def attribute(field: int, name: str, value: Value) -> bytes:
    """One attribute, as a field of what it belongs to."""
    if isinstance(value, bool):
        found = integer(FLAG, value)
    elif isinstance(value, int):
        found = integer(NUMBER, value)
    elif isinstance(value, float):
        found = double(FRACTION, value)
    else:
        found = message(TEXT, value.encode(errors="replace"))
    return message(field, message(KEY, name.encode()) + message(VALUE, found))


def attributes(field: int, values: Mapping[str, Value | None]) -> bytes:
    """Those that are known."""
    return b"".join(
        attribute(field, name, value)
        for name, value in values.items()
        if value is not None and value != ""
    )


@cache
def before(field: int, name: str, kind: int, size: int) -> bytes:
    """What stands before the value of an attribute whose encoding has so many bytes: the same for
    most requests. kind: what a field of an AnyValue of that kind begins with."""
    inner = SMALL[kind] + (varint(size) if kind & LENGTH else b"")
    whole = message(KEY, name.encode()) + tag(VALUE, LENGTH) + varint(len(inner) + size) + inner
    return tag(field, LENGTH) + varint(len(whole) + size) + whole


def before_number(field: int, name: str) -> list[bytes]:
    """What stands before the value of an attribute that is an integer, by the length of that."""
    return [before(field, name, NUMBER << 3, size) for size in range(LONGEST_VARINT + 1)]


def number(heads: list[bytes], value: int) -> bytes:
    """One attribute that is an integer, fast. heads: as of `before_number`."""
    told = varint(value)
    return heads[len(told)] + told


def text(field: int, name: str, value: str) -> bytes:
    """One attribute that is a text, fast."""
    told = value.encode(errors="replace")
    return before(field, name, TEXT << 3 | LENGTH, len(told)) + told


def fraction(field: int, name: str, value: float) -> bytes:
    """One attribute that is a number with a fraction, fast."""
    return before(field, name, FRACTION << 3 | FIXED64, DOUBLE.size) + DOUBLE.pack(value)


def operation(endpoint: str) -> str:
    """What the conventions call a request to an endpoint; others keep their own name."""
    return OPERATIONS.get(endpoint, endpoint)


def resource(values: Mapping[str, Value | None]) -> bytes:
    """Who sends, as the content of a Resource."""
    return attributes(1, values)


def scope(version: str) -> bytes:
    """What has made it, as the content of an InstrumentationScope."""
    return message(1, b"cuvee") + message(2, version.encode())
