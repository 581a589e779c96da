"""Whether a whole reply of status 200 is an answer to its request. No I/O.

Engines that stop answer 200 with what they have, and servers that are no engine answer 200 with
whatever they have.
"""

from typing import Final

import msgspec

from gateway.proxy.events_schema import STOPPED, WholeReply
from gateway.routing.endpoints import Endpoint

# Neither can occur inside a JSON string: the quotes would have backslashes there.
REASON: Final = b'"finish_reason":"'
VECTOR: Final = b'"embedding":'
DONE: Final = b'stop"'  # the reason of most answers
STOPS: Final = tuple(b'%b"' % reason.encode() for reason in STOPPED)
LONGEST: Final = max(len(stop) for stop in STOPS)
_WHOLE: Final = msgspec.json.Decoder(WholeReply)


def fault(reply: bytes, endpoint: Endpoint, *, one_choice: bool = False) -> str | None:
    """What is wrong with a whole reply; `None` if it is an answer.

    A reply that has the finish reasons of its choices, or a vector, is not decoded: it may have
    100 KiB. one_choice: whether it was asked for one only, so that there is one reason to look for.
    """
    if endpoint.generates:
        at = reply.find(REASON)
        if at >= 0:
            start = at + len(REASON)
            if one_choice and reply[start : start + len(DONE)] == DONE:
                return None
            return _stopped(reply, at)
    else:
        at = reply.find(VECTOR)
        if at >= 0:
            start = at + len(VECTOR)
            empty = reply[start : start + 4].lstrip().startswith(b"[]")
            return "The backend answered without any data." if empty else None
    try:
        whole = _WHOLE.decode(reply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "The backend answered with what is no JSON of its kind."
    if bytes(whole.error) != b"null":
        return "The backend answered with an error inside a 200."
    if endpoint.generates and any(choice.stopped for choice in whole.choices):
        return "The backend stopped before its answer was whole."
    if endpoint.generates and not (whole.choices and all(c.ended for c in whole.choices)):
        return "The backend answered without any output."
    return None if endpoint.generates or whole.data else "The backend answered without any data."


def _stopped(reply: bytes, at: int) -> str | None:
    """The same for a reply with a finish reason at `at`, and perhaps others behind it."""
    while at >= 0:
        start = at + len(REASON)
        if reply[start : start + LONGEST].startswith(STOPS):
            return "The backend stopped before its answer was whole."
        at = reply.find(REASON, start)
    return None
