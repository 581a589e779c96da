"""Plans, tables, statistics and the messages between processes as bytes and back: one codec.

A byte of version and then MessagePack by msgspec, which reads exactly the types it is asked for:
unlike a pickle it runs no code, so it may come from another host. MessagePack and not JSON because
plans hold infinities (what a pool cannot serve) and histograms are keyed by pairs of numbers.
"""

from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

# Raised whenever a field of an encoded type changes in any way but one: a new field with a default.
# tests/gateway/cluster/test_codec.py fails when it was forgotten.
VERSION = 1

T = TypeVar("T")


class CodecError(Exception):
    """Bytes that are not what they should be: another version, another type, or cut."""


def encode(value: object) -> bytes:
    """A value of the product as bytes."""
    return bytes((VERSION,)) + msgspec.msgpack.encode(value)


def decode(data: bytes, kind: type[T]) -> T:
    """The value of this type (or union of types) that was encoded. Raises CodecError."""
    if not data or data[0] != VERSION:
        version = data[0] if data else None
        raise CodecError(f"version {version} cannot be read: this program speaks {VERSION}")
    try:
        value: T = _decoder(cast(Hashable, kind)).decode(memoryview(data)[1:])
        return value
    except (msgspec.DecodeError, ValueError) as error:  # values check themselves when they are made
        raise CodecError(f"not a {kind}: {error}") from error


@cache
def _decoder(kind: Any) -> Any:
    """Making a decoder takes longer than decoding; there are a dozen types at most."""
    return msgspec.msgpack.Decoder(kind)
