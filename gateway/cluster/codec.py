"""Encodes values for other processes: plans, tables, statistics and messages.

One byte of version, then MessagePack by msgspec, which decodes exactly the type it is asked for.
Unlike a pickle it runs no code of the sender, so that a value may come from another host. It is not
JSON because plans hold infinities (a pool that cannot serve a bucket) and statistics have pairs of
numbers as keys.
"""

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

# To be increased with every change of the fields of an encoded type, except for a new field with a
# default. tests/gateway/cluster/test_codec.py fails when this was forgotten.
VERSION = 6

T = TypeVar("T")


class CodecError(Exception):
    """Bytes that cannot be decoded: of another version or another type, or cut off."""


def encode(value: object) -> bytes:
    """Encode a value."""
    return bytes((VERSION,)) + msgspec.msgpack.encode(value)


def decode(data: bytes, value_type: type[T]) -> T:
    """Decode a value of this type, or union of types. Raises CodecError."""
    if not data or data[0] != VERSION:
        version = data[0] if data else None
        raise CodecError(f"version {version} cannot be read: this program speaks {VERSION}")
    try:
        value: T = _decoder(cast(Hashable, value_type)).decode(memoryview(data)[1:])
        return value
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        # ValueError: a value that checks itself. RecursionError: an unknown field, nested deeply.
        raise CodecError(f"not a {value_type}: {error}") from error


@cache
def _decoder(value_type: Any) -> Any:
    """Making a decoder takes longer than decoding; there are a dozen types at most."""
    return msgspec.msgpack.Decoder(value_type)
