"""Server-sent events as vLLM writes them, and the HTTP chunks around them. Knows no answers."""

import json

import msgspec

from loadtest.emulator.refusals import JsonObject, RequestRefused

DONE = b"data: [DONE]\n\n"


def http_chunk(event: bytes) -> bytes:
    """One event as one HTTP chunk: uvicorn frames them so, whatever TCP makes of them."""
    return b"%x\r\n%b\r\n" % (len(event), event)


def sse_event(value: JsonObject) -> bytes:
    """One JSON object as a server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def named_event(value: JsonObject) -> bytes:
    """One JSON object as an event with a name, which is its `type`."""
    name: str = value["type"]
    return b"event: " + name.encode() + b"\n" + sse_event(value)


def error_event(refused: RequestRefused) -> bytes:
    """An error inside a stream. vLLM writes these with spaces, unlike all its other JSON."""
    return b"data: " + json.dumps(refused.body).encode() + b"\n\n"
