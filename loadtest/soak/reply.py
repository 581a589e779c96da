"""What a scripted engine writes in answer to one request, part by part. Bytes; no I/O."""

from dataclasses import dataclass
from random import Random
from typing import Literal

import msgspec

from loadtest.soak.faults import EngineFault
from loadtest.soak.traffic import CHAT, EMBEDDINGS, MODEL, piece

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"
LONGEST_PROMPT = 16_000  # bytes; what a body has beyond it is no prompt
HTML = b"<html><body>It works!</body></html>"


class AskedFields(msgspec.Struct):
    """The fields of a request that an answer depends on. prompt_tokens: not of the body; made from
    its length."""

    max_tokens: int = 1
    stream: bool = False
    padding: int = 0
    stream_options: dict[str, bool] | None = None
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What an engine does with one request.

    parts: written one after the other, with pauses between them. end: what it does then with the
    connection; `wait`: nothing, for ever. whole: whether it is a whole answer.
    """

    number: int
    parts: tuple[bytes, ...]
    end: Literal["keep", "close", "reset", "wait"] = "keep"
    whole: bool = False


def script(
    path: str, number: int, body: bytes, fault: EngineFault | None, random: Random
) -> Script:
    """The script of one request. path: of its endpoint. fault: that hits it."""
    match fault:
        case EngineFault.RESET:
            return Script(number=number, parts=(), end="reset")
        case EngineFault.SILENT:
            return Script(number=number, parts=(), end="wait")
        case EngineFault.GARBAGE:
            return Script(number=number, parts=(b"\0\1\2\3 no HTTP\r\n\r\n",), end="wait")
        case EngineFault.ERROR:
            return Script(number=number, parts=(_error(500, "Internal Server Error"),))
        case EngineFault.FULL:
            return Script(number=number, parts=(_error(503, "Service Unavailable"),))
        case EngineFault.LIMITED:
            return Script(number=number, parts=(_error(429, "Too Many Requests"),))
        case EngineFault.PAGE:
            return Script(number=number, parts=(whole(HTML, b"text/html"),))
    fields = msgspec.json.decode(body, type=AskedFields)
    fields.prompt_tokens = min(len(body), LONGEST_PROMPT) // 4
    if path == EMBEDDINGS:
        fields.max_tokens = 1
    empty = fault is EngineFault.ABORTED
    parts = _stream(path, number, fields, empty) if fields.stream else (
        b"", whole(_unary(path, number, fields, empty), b"application/json")
    )  # fmt: skip
    return _cut(Script(number=number, parts=parts, whole=not empty), fault, random)


def _cut(whole: Script, fault: EngineFault | None, random: Random) -> Script:
    """The script with the faults that hit inside an answer."""
    if fault not in (EngineFault.TRUNCATED, EngineFault.CUT, EngineFault.STALL):
        return whole
    head, first = whole.parts[0], whole.parts[1]
    if fault is EngineFault.TRUNCATED:
        return Script(number=whole.number, parts=(head + first[: len(first) // 2],), end="close")
    kept = random.randrange(1, len(whole.parts))
    last = whole.parts[kept]
    parts = (*whole.parts[:kept], last[: random.randrange(len(last))])
    return Script(
        number=whole.number, parts=parts, end="reset" if fault is EngineFault.CUT else "wait"
    )


def _stream(path: str, number: int, fields: AskedFields, empty: bool) -> tuple[bytes, ...]:
    """Head, an event for each piece, and the end; each in an HTTP chunk of its own."""
    count = 0 if empty else fields.max_tokens
    events = [_event(path, piece(number, n, fields.padding), None) for n in range(count)]
    end = _event(path, "", "abort" if empty else "stop")
    if fields.stream_options:
        usage = _usage(fields, count)
        end += _data({"id": "soak", "model": MODEL, "choices": [], "usage": usage})
    return (STREAM, *map(_chunk, events), _chunk(end + DONE) + LAST_CHUNK)


def _event(path: str, text: str, finish_reason: str | None) -> bytes:
    said = {"delta": {"content": text}} if path == CHAT else {"text": text}
    choice = {"index": 0, **said, "finish_reason": finish_reason}
    return _data({"id": "soak", "model": MODEL, "choices": [choice]})


def _unary(path: str, number: int, fields: AskedFields, empty: bool) -> bytes:
    """The body of a whole answer."""
    if path == EMBEDDINGS:
        data = [{"object": "embedding", "index": 0, "embedding": [] if empty else [number + 0.5]}]
        return msgspec.json.encode({"object": "list", "data": data, "model": MODEL})
    count = 0 if empty else fields.max_tokens
    text = "".join(piece(number, n, fields.padding) for n in range(count))
    said = {"message": {"role": "assistant", "content": text}} if path == CHAT else {"text": text}
    choice = {"index": 0, **said, "finish_reason": "abort" if empty else "stop"}
    answer = {"id": "soak", "model": MODEL, "choices": [choice], "usage": _usage(fields, count)}
    return msgspec.json.encode(answer)


def _usage(fields: AskedFields, count: int) -> dict[str, int]:
    inputs = fields.prompt_tokens
    return {"prompt_tokens": inputs, "completion_tokens": count, "total_tokens": inputs + count}


def _data(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def whole(body: bytes, content_type: bytes) -> bytes:
    """An answer with a body of this length."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (content_type, len(body)) + body


def _error(status: int, reason: str) -> bytes:
    body = msgspec.json.encode({"error": {"message": f"scripted {status}", "type": "scripted"}})
    again = "" if status == 500 else "retry-after: 1\r\n"
    head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n{again}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
