"""Reads a backend's JSON. Whatever is no object of ours is `None`, and passes on all the same."""

from typing import Final

import msgspec

from gateway.proxy.event import Event, Usage, Whole

USAGE: Final = b'"usage":'  # in a string of JSON the quotes would have backslashes
_EVENT: Final = msgspec.json.Decoder(Event)
_WHOLE: Final = msgspec.json.Decoder(Whole)
_USAGE: Final = msgspec.json.Decoder(Usage)


def event_of(data: bytes) -> Event | None:
    """One event of a stream, from its data."""
    try:
        return _EVENT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def usage_of(reply: bytes) -> Usage | None:
    """What a whole reply says was used, if it says so.

    Engines say it last, so that the last object is it and the rest of the reply need not be read.
    """
    at = reply.rfind(b"{")
    try:
        if at >= len(USAGE) and reply[at - len(USAGE) : at] == USAGE:
            return _USAGE.decode(reply[at : reply.find(b"}", at) + 1])
        return _WHOLE.decode(reply).usage
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
