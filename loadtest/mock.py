"""A backend of canned replies for benchmarks: it must never be what limits them. No engine.

One request is answered at once, or streamed as one event per interval on an absolute schedule. The
replies have the shape and the size of vLLM's. Runs as its own process: `python -m loadtest.mock`.
"""

import asyncio
from typing import cast

import click
import msgspec
import uvloop

MODEL = "mock"
ID = "chatcmpl-84046d38dd05cc0c"
CREATED = 1700000000
HEAD_END = b"\r\n\r\n"


def _json(reply: object) -> bytes:
    body = msgspec.json.encode(reply)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + HEAD_END + body


def _event(data: bytes) -> bytes:
    """One event as one HTTP chunk, as uvicorn frames it."""
    payload = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _chunk(**fields: object) -> bytes:
    named = {"id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": MODEL}
    return _event(msgspec.json.encode(named | fields))


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> list[dict[str, object]]:
    return [
        {
            "index": 0,
            "delta": delta,
            "logprobs": None,
            "finish_reason": finish_reason,
            "token_ids": None,
        }
    ]


PROMPT_TOKENS = 256
TEXT = "the quick river turns past seven quiet gardens and a mill before it meets the wide grey sea"


def _usage(tokens: int) -> dict[str, int]:
    total = PROMPT_TOKENS + tokens
    return {"prompt_tokens": PROMPT_TOKENS, "total_tokens": total, "completion_tokens": tokens}


UNARY = _json(
    {
        "id": ID,
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
            }
        ],
        "usage": _usage(len(TEXT.split())),
        "system_fingerprint": "mock",
    }
)
UNARY_BYTES = len(UNARY) - UNARY.index(HEAD_END) - len(HEAD_END)
MODELS = _json(
    {
        "object": "list",
        "data": [{"id": MODEL, "object": "model", "created": CREATED, "max_model_len": 8192}],
    }
)
HEALTH = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
UNKNOWN = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
ROLE = _chunk(choices=_choice({"role": "assistant", "content": ""}))
CHUNK = _chunk(choices=_choice({"content": " gardens"}))


def ending(chunks: int) -> bytes:
    """What follows the last content chunk: finish, usage, [DONE] and the end of the body."""
    finish = _chunk(choices=_choice({"content": ""}, "stop"))
    usage = _chunk(choices=[], usage=_usage(chunks))
    return finish + usage + _event(b"[DONE]") + b"0\r\n\r\n"


def events(chunks: int) -> int:
    """How many `data:` events a stream of so many content chunks has, [DONE] included."""
    return 1 + chunks + 3


class Backend(asyncio.Protocol):
    """One client connection. chunks: content events of a stream, interval_s apart."""

    def __init__(self, chunks: int, interval_s: float) -> None:
        self._chunks, self._interval_s, self._ending = chunks, interval_s, ending(chunks)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rest = b""
        self._sent, self._began_s = 0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        while (body := data.find(HEAD_END) + len(HEAD_END)) >= len(HEAD_END):
            head = data[:body]
            end = body + _length(head)
            if len(data) < end:
                break
            self._answer(head, data[body:end])
            data = data[end:]
        self._rest = data

    def _answer(self, head: bytes, body: bytes) -> None:
        if not self._transport:
            return
        if not head.startswith(b"POST "):
            path = head.split(b" ", 2)[1]
            self._transport.write({b"/health": HEALTH, b"/v1/models": MODELS}.get(path, UNKNOWN))
        elif b'"stream":true' in body or b'"stream": true' in body:
            self._transport.write(STREAM_HEAD + ROLE)
            self._sent, self._began_s = 0, self._loop.time()
            self._schedule()
        else:
            self._transport.write(UNARY)

    def _schedule(self) -> None:
        due_s = self._began_s + (self._sent + 1) * self._interval_s
        self._timer = self._loop.call_at(due_s, self._tick)

    def _tick(self) -> None:
        if not self._transport:
            return
        self._sent += 1
        last = self._sent >= self._chunks
        self._transport.write(CHUNK + self._ending if last else CHUNK)
        if not last:
            self._schedule()


async def listen(port: int, *, chunks: int, interval_s: float) -> asyncio.Server:
    """Serves on loopback; port 0 takes a free one."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Backend(chunks, interval_s), "127.0.0.1", port)


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--chunks", type=click.IntRange(1), default=100, show_default=True)
@click.option("--interval-ms", type=float, default=20.0, show_default=True)
def command(port: int, chunks: int, interval_ms: float) -> None:
    """Serve canned replies on loopback until ended."""

    async def serve() -> None:
        server = await listen(port, chunks=chunks, interval_s=interval_ms / 1e3)
        await server.serve_forever()

    uvloop.run(serve())


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    return int(lower[at + 15 : lower.index(b"\r\n", at)]) if at >= 0 else 0


if __name__ == "__main__":
    command()
