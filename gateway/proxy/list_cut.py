"""Cuts a request of many prompts into several of fewer, and joins their answers. No I/O.

Prompts and vectors are not decoded: they move as the bytes that they are.
"""

from typing import Any, Final

import msgspec

from gateway.errors import InvalidAnswer
from gateway.routing.endpoints import EMBEDDINGS, Endpoint

NULL: Final = b"null"
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECTS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


class PromptList:
    """The body of one request, whose prompt is a list. count: of its prompts."""

    __slots__ = ("_fields", "_key", "_prompts", "count")

    def __init__(self, body: bytes, endpoint: Endpoint) -> None:
        """Raises msgspec.DecodeError, UnicodeDecodeError or KeyError if its prompt is no list."""
        self._fields: Any = _OBJECT.decode(body)
        self._key = endpoint.prompt
        self._prompts: Any = _LIST.decode(self._fields[self._key])
        self.count = len(self._prompts)

    def __repr__(self) -> str:
        return f"<PromptList of {self.count}>"

    def part(self, start: int, end: int) -> bytes:
        """The same request for the prompts from `start` to before `end`."""
        prompts = [bytes(prompt) for prompt in self._prompts[start:end]]
        listed = msgspec.Raw(b"[%b]" % b",".join(prompts))
        return msgspec.json.encode(self._fields | {self._key: listed})


def joined(answers: list[bytes], entries: list[int], endpoint: Endpoint) -> bytes:
    """One answer made of those of the parts, in their order: all entries with their numbers in the
    whole, and the sum of the usage. entries: that each part was asked for. All else is the first
    one's. Raises InvalidAnswer."""
    key = "data" if endpoint is EMBEDDINGS else "choices"
    whole: Any = None
    listed: list[Any] = []
    usage: Any = None
    before = 0
    for answer, count in zip(answers, entries, strict=True):
        try:
            fields: Any = _OBJECT.decode(answer)
            found: Any = _OBJECTS.decode(fields[key])
            told: Any = msgspec.json.decode(fields.get("usage", NULL))
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
            raise InvalidAnswer("A part of the list was answered with what is no list.") from error
        for number, entry in enumerate(found):
            entry["index"] = before + _index(entry, number)
        listed += found
        before += count
        usage = told if whole is None else added(usage, told)
        whole = fields if whole is None else whole
    whole[key] = listed
    if usage is not None:
        whole["usage"] = usage
    return msgspec.json.encode(whole)


def added(one: Any, other: Any) -> Any:
    """The sum of two usages: of all numbers under the same keys, however deep; of what only one of
    them tells, that."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: added(one.get(key), other.get(key)) for key in one | other}
    if _is_number(one) and _is_number(other):
        return one + other
    return other if one is None else one


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _index(entry: Any, number: int) -> int:
    """The number of an entry in its part; its place where it has none."""
    raw = bytes(entry.get("index", b""))
    return int(raw) if raw.isdigit() else number
