"""Reads a backend's JSON. Whatever is no object of ours is `None`, and passes on all the same."""

from typing import Final

import msgspec

from gateway.proxy.events_schema import Event, Usage, WholeReply

USAGE: Final = b'"usage":'  # in a string of JSON the quotes would have backslashes
_EVENT: Final = msgspec.json.Decoder(Event)
_WHOLE: Final = msgspec.json.Decoder(WholeReply)
_USAGE: Final = msgspec.json.Decoder(Usage)


def event_of(data: bytes) -> Event | None:
    """One event of a stream, from its data."""
    try:
        return _EVENT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def usage_of(reply: bytes) -> Usage | None:
    """What a whole reply says was used, if it says so.

    Engines say it last: if the last object is it, the rest of the reply need not be read.
    """
    at = reply.rfind(b"{")
    end = reply.find(b"}", at) + 1 if at >= len(USAGE) else 0
    if end and reply[at - len(USAGE) : at] == USAGE:
        try:
            found = _USAGE.decode(reply[at:end])
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # a brace in its text
        else:
            if found.completion_tokens is not None or found.prompt_tokens is not None:
                return found
    try:
        return _WHOLE.decode(reply).usage
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
