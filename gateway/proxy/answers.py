"""Whether a whole reply of status 200 is an answer to its request. No I/O.

Engines that stop answer 200 with what they have, and servers that are no engine answer 200 with
whatever they have.
"""

from typing import Final

import msgspec

from gateway.proxy.events_schema import STOPPED, WholeReply
from gateway.routing.endpoints import EMBEDDINGS, MESSAGES, Endpoint

# Neither can occur inside a JSON string: the quotes would have backslashes there.
REASON: Final = b'"finish_reason":"'
VECTOR: Final = b'"embedding":'
DONE: Final = b'stop"'  # the reason of most answers
BRACE: Final = 125  # `}`: the last byte of an object
STOPS: Final = tuple(b'%b"' % reason.encode() for reason in STOPPED)
LONGEST: Final = max(len(stop) for stop in STOPS)
NO_JSON: Final = "The backend answered with what is no JSON of its kind."
NO_DATA: Final = "The backend answered without any data."
ERROR_INSIDE: Final = "The backend answered with an error inside a 200."
STOPPED_EARLY: Final = "The backend stopped before its answer was whole."
_WHOLE: Final = msgspec.json.Decoder(WholeReply)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
NULL, NONE, BLANKS = b"null", b"[]", b" \t\r\n"
NOTHING: Final = msgspec.Raw(NULL)
STOP_REASON: Final = "stop_reason"
# How Responses and Messages say why an answer ends, and that the engine gave it up.
REASON_KEYS: Final = ("status", STOP_REASON)
GAVE_UP: Final = (b'"failed"', b'"cancelled"', b'"abort"', b'"error"')
# How an error says that it is one where its fields do not stand in an object of their own.
ERROR: Final = b'"error"'
KIND_KEYS: Final = ("object", "type")
# Engines differ in what these routes answer; what has one of these is an answer of an API like
# OpenAI's, and not of a service that is no engine.
MARKS: Final = ("object", "choices", "usage")
# Keys of lists with an entry for each input: an empty one answers nothing.
LISTS: Final = ("data", "results", "scores")
EMPTY_VECTORS: Final = (NONE, NULL, b'""')


def fault(reply: bytes, endpoint: Endpoint, *, one_choice: bool = False) -> str | None:
    """What is wrong with a whole reply; `None` if it is an answer.

    A reply that has the finish reasons of its choices, or a vector, is not decoded: it may have
    100 KiB; but one that was cut off does not end as an object does. one_choice: whether it was
    asked for one only, so that there is one reason to look for.
    """
    if endpoint.answer:
        return _fault_of_object(reply, endpoint)
    at = reply.find(REASON)
    if at >= 0:
        if _cut_off(reply):
            return NO_JSON
        start = at + len(REASON)
        if one_choice and reply[start : start + len(DONE)] == DONE:
            return None
        return _stopped(reply, at)
    try:
        whole = _WHOLE.decode(reply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return NO_JSON
    if bytes(whole.error) != NULL:
        return ERROR_INSIDE
    if any(choice.stopped for choice in whole.choices):
        return STOPPED_EARLY
    if not (whole.choices and all(c.ended for c in whole.choices)):
        return "The backend answered without any output."
    return None


def _fault_of_object(reply: bytes, endpoint: Endpoint) -> str | None:
    """The same where the answer stands under a key of its own."""
    at = reply.find(VECTOR) if endpoint is EMBEDDINGS else -1
    if at >= 0:
        start = at + len(VECTOR)
        if _cut_off(reply):
            return NO_JSON
        return NO_DATA if reply[start : start + 5].lstrip().startswith(EMPTY_VECTORS) else None
    try:
        fields = _OBJECT.decode(reply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Some engines rank without an object around the list.
        listed = "results" in endpoint.answer and reply.lstrip()[:1] == b"["
        if endpoint.form:  # the client may ask for subtitles or plain text
            return NO_JSON if reply.lstrip()[:1] in (b"<", b"{") else None
        return None if listed and _entries(reply) else NO_JSON
    if bytes(fields.get("error", NOTHING)) != NULL:
        return ERROR_INSIDE
    if any(bytes(fields.get(key, NOTHING)) == ERROR for key in KIND_KEYS):
        return ERROR_INSIDE
    # A message says why it ends; vLLM has no word for one that it gave up, and says null.
    if endpoint is MESSAGES and bytes(fields.get(STOP_REASON, ERROR)) == NULL:
        return STOPPED_EARLY
    if endpoint.typed and any(bytes(fields.get(k, NOTHING)) in GAVE_UP for k in REASON_KEYS):
        return STOPPED_EARLY
    for key in endpoint.answer:
        value = bytes(fields.get(key, NOTHING))
        if value != NULL and not (key in LISTS and value.translate(None, BLANKS) == NONE):
            return None
        if value != NULL:
            return NO_DATA
    if endpoint is not EMBEDDINGS and any(mark in fields for mark in MARKS):
        return None
    return NO_DATA


def _cut_off(reply: bytes) -> bool:
    """Whether a reply ends inside its object, as one may whose end is that of its connection."""
    return reply[len(reply) - 1] != BRACE and not reply.rstrip().endswith(b"}")


def _entries(reply: bytes) -> bool:
    """Whether a reply is a list with entries."""
    try:
        return bool(msgspec.json.decode(reply, type=list))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _stopped(reply: bytes, at: int) -> str | None:
    """The same for a reply with a finish reason at `at`, and perhaps others behind it."""
    while at >= 0:
        start = at + len(REASON)
        if reply[start : start + LONGEST].startswith(STOPS):
            return STOPPED_EARLY
        at = reply.find(REASON, start)
    return None
