"""Decodes what a backend sends: events of a stream, and the usage of a whole reply.

JSON of another shape decodes to `None`; the bytes are passed on to the client all the same.
"""

from typing import Final

import msgspec

from gateway.proxy.events_schema import Event, Usage, WholeReply

# Cannot occur inside a JSON string: the quotes would have backslashes there.
USAGE: Final = b'"usage":'
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

    Engines write the usage last. If the last object of the reply is the usage, it alone is decoded:
    a reply may have 100 KiB.
    """
    at = reply.rfind(b"{")
    end = reply.find(b"}", at) + 1 if at >= len(USAGE) else 0
    if end and reply[at - len(USAGE) : at] == USAGE:
        try:
            usage = _USAGE.decode(reply[at:end])
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # the last brace was inside a text
        else:
            if usage.completion_tokens is not None or usage.prompt_tokens is not None:
                return usage
    try:
        return _WHOLE.decode(reply).usage
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
