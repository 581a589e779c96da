"""Decodes what a backend sends: events of a stream, and the usage of a whole reply.

JSON of another shape decodes to `None`; the bytes are passed on to the client all the same.
"""

from typing import Final

import msgspec

from gateway.proxy.events_schema import Event, Usage, WholeReply

# Cannot occur inside a JSON string: the quotes would have backslashes there.
USAGE: Final = b'"usage":'
OBJECTS: Final = 8  # in a usage at most: itself and the details of prompt and answer
_EVENT: Final = msgspec.json.Decoder(Event)
_WHOLE: Final = msgspec.json.Decoder(WholeReply)
_USAGE: Final = msgspec.json.Decoder(Usage)


def event_of(data: bytes) -> Event | None:
    """Decode the data of one event; `None` if it is not JSON of the expected shape."""
    try:
        return _EVENT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


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
            if usage.completion_tokens is not None or usage.prompt_tokens is not None:
                return usage
    try:
        return _WHOLE.decode(reply).usage
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
