"""Decodes what a backend sends: events of a stream, and the usage of a whole reply.

JSON of another shape decodes to `None`; the bytes are passed on to the client all the same.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.proxy.events_schema import Event, StreamEvent, TypedEvent, Usage, WholeReply
from gateway.proxy.framing import events
from gateway.routing.endpoints import Endpoint

# Cannot occur inside a JSON string: the quotes would have backslashes there.
USAGE: Final = b'"usage":'
OBJECTS: Final = 8  # in a usage at most: itself and the details of prompt and answer
FINGERPRINT: Final = b'"system_fingerprint"'
_EVENT: Final = msgspec.json.Decoder(Event)
_TYPED: Final = msgspec.json.Decoder(TypedEvent)
_WHOLE: Final = msgspec.json.Decoder(WholeReply)
_USAGE: Final = msgspec.json.Decoder(Usage)


def event_of(data: bytes) -> Event | None:
    """Decode the data of one event; `None` if it is not JSON of the expected shape."""
    try:
        return _EVENT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def typed_event_of(data: bytes) -> TypedEvent | None:
    """The same for a stream whose events say their kind."""
    try:
        return _TYPED.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def reader(endpoint: Endpoint) -> Callable[[bytes], StreamEvent | None]:
    """What decodes the data of an endpoint's events."""
    return typed_event_of if endpoint.typed else event_of


def merged(earlier: Usage, later: Usage) -> Usage:
    """The usage of an answer that reports it twice: the later numbers count, and the earlier ones
    where there is no later one. Messages says the prompt first and the answer last."""
    if later.prompt_tokens is None:
        later.prompt_tokens = earlier.prompt_tokens
        later.cache_read_input_tokens = earlier.cache_read_input_tokens
    if later.completion_tokens is None:
        later.completion_tokens = earlier.completion_tokens
    return later


def fingerprint_of(piece: bytes) -> str | None:
    """The `system_fingerprint` in one event; `None` if it has none."""
    if FINGERPRINT in piece:
        for data in events(piece):
            event = event_of(data)
            if event is not None and isinstance(event.system_fingerprint, str):
                return event.system_fingerprint
    return None


def with_fingerprint(piece: bytes, fingerprint: str | None) -> bytes:
    """One event with a `system_fingerprint` as its last key, unless it has one."""
    at = piece.rfind(b"}")
    if fingerprint is None or at < 0 or fingerprint_of(piece) is not None:
        return piece
    # Of two equal keys, the other one null, JSON parsers take the last.
    value = msgspec.json.encode(fingerprint)
    return b"%b,%b:%b%b" % (piece[:at], FINGERPRINT, value, piece[at:])


def usage_of(reply: bytes) -> Usage | None:
    """The usage in a whole reply, or `None`.

    The usage alone is decoded where it can be cut out: a reply may have 100 KiB.
    """
    start = reply.rfind(b"{")
    if start >= len(USAGE) and reply[start - len(USAGE) : start] == USAGE:
        end = reply.find(b"}", start) + 1
    else:  # what comes last is an object in the usage, or behind it
        at = reply.rfind(USAGE)
        start = at + len(USAGE)
        end = _end(reply, start) if at >= 0 else 0
    if end:
        try:
            usage = _USAGE.decode(reply[start:end])
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # a brace was inside a text
        else:
            if usage.completion_tokens is not None and usage.prompt_tokens is not None:
                return usage
            usage.settle()
            if usage.completion_tokens is not None or usage.prompt_tokens is not None:
                return usage
    try:
        return _WHOLE.decode(reply).usage
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def answer_id_of(reply: bytes) -> str | None:
    """The id of a whole reply, by which a later request may refer to it."""
    try:
        return _WHOLE.decode(reply).id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _end(reply: bytes, start: int) -> int:
    """Where the object that begins at `start` ends, by its braces; 0 if it is not found."""
    end = start
    for _ in range(OBJECTS):
        end = reply.find(b"}", end) + 1
        if not end or reply.count(b"{", start, end) == reply.count(b"}", start, end):
            return end
    return 0
