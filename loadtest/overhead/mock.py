"""A backend of canned replies for benchmarks: it must never be what limits them. No engine.

A request is answered at once, or streamed as one event per interval on an absolute schedule, at the
event loop's whole milliseconds. The replies have the shape and the size of vLLM's. A process of its
own: `python -m loadtest.overhead.mock`.
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import cast

import click
import msgspec
import uvloop

MODEL = "mock"
ID = "chatcmpl-84046d38dd05cc0c"
CREATED = 1700000000
HEAD_END = b"\r\n\r\n"
BACKLOG = 4096  # Linux cuts a longer one to net.core.somaxconn, whose default this is
# One address for each proxy: Linux has 28,232 ports for all connections to one address and port
# (ip_local_port_range, 32768 to 60999), and several proxies with 10,000 streams would use them up.
HOSTS = tuple(f"127.0.0.{number}" for number in range(1, 17))
# `"stream"` is searched for in so many bytes at either end of a body: clients and routers put it
# before or after the messages, and a search of the whole body would cost more with each KiB.
EDGE_BYTES = 1024


def _json_reply(value: object) -> bytes:
    body = msgspec.json.encode(value)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + HEAD_END + body


def _event(data: bytes) -> bytes:
    """One event as one HTTP chunk, as uvicorn frames it."""
    payload = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _chunk(**fields: object) -> bytes:
    head = {"id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": MODEL}
    return _event(msgspec.json.encode(head | fields))


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


UNARY = _json_reply(
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
MODELS = _json_reply(
    {
        "object": "list",
        "data": [{"id": MODEL, "object": "model", "created": CREATED, "max_model_len": 8192}],
    }
)
HEALTH = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
GET_REPLIES = {b"/health": HEALTH, b"/v1/models": MODELS}  # what routers probe, by path
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
ROLE = _chunk(choices=_choice({"role": "assistant", "content": ""}))
CHUNK = _chunk(choices=_choice({"content": " gardens"}))  # some 230 bytes, as vLLM's chunks


@cache
def stream_end(chunks: int) -> bytes:
    """What follows the last content chunk: finish, usage, [DONE] and the end of the body."""
    finish = _chunk(choices=_choice({"content": ""}, "stop"))
    usage = _chunk(choices=[], usage=_usage(chunks))
    return finish + usage + _event(b"[DONE]") + b"0\r\n\r\n"


def stream_events(chunks: int) -> int:
    """`data:` events of a stream of so many content chunks: role, chunks, finish, usage, [DONE]."""
    return 1 + chunks + 3


class StreamSpec(msgspec.Struct, frozen=True):
    """What a request says of its stream: the number of chunks, and as `seed` the milliseconds
    between two of them. Both are OpenAI's own fields, which every proxy passes on."""

    max_tokens: int = 100
    max_completion_tokens: int | None = None  # what the SGLang router makes of max_tokens
    seed: int = 20

    @property
    def chunks(self) -> int:
        return self.max_completion_tokens or self.max_tokens


decode_spec = msgspec.json.Decoder(StreamSpec).decode


class MockBackend(asyncio.Protocol):
    """One client connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rest = self._head = b""
        self._length = 0  # of the body that follows `_head`
        self._sent, self._started_s, self._spec = 0, 0.0, StreamSpec()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer every whole request in what was read; keep the beginning of the next one."""
        data = self._rest + data if self._rest else data
        while (body := data.find(HEAD_END) + len(HEAD_END)) >= len(HEAD_END):
            head = data[:body]
            if head != self._head:  # most requests have the head of the one before
                self._head, self._length = head, _content_length(head)
            end = body + self._length
            if len(data) < end:
                break
            self._answer(head, data[body:end])
            data = data[end:]
        self._rest = data

    def _answer(self, head: bytes, body: bytes) -> None:
        if not self._transport:
            return
        if not head.startswith(b"POST "):
            request_line = head.split(b" ", 2)
            # `PRI * HTTP/2.0`: routers try HTTP/2 first, and fall back when the connection ends.
            if len(request_line) < 3 or request_line[0] == b"PRI":
                self._transport.abort()
                return
            self._transport.write(GET_REPLIES.get(request_line[1], NOT_FOUND))
        elif _is_stream(body):
            self._spec = decode_spec(body)
            self._sent, self._started_s = 0, self._loop.time()
            self._send_chunk(STREAM_HEAD + ROLE)  # vLLM sends the role with the first token
        else:
            self._transport.write(UNARY)

    def _schedule(self) -> None:
        """Set the timer for the next chunk, counted from the stream's start: no delay adds up."""
        due_s = self._started_s + self._sent * self._spec.seed / 1e3
        self._timer = self._loop.call_at(due_s, self._send_chunk)

    def _send_chunk(self, before: bytes = b"") -> None:
        if not self._transport:
            return
        self._sent += 1
        last = self._sent >= self._spec.chunks
        self._transport.write(before + CHUNK + stream_end(self._sent) if last else before + CHUNK)
        if not last:
            self._schedule()


async def listen(port: int, hosts: Sequence[str] = HOSTS[:1]) -> asyncio.Server:
    """Serve on loopback; port 0 takes a free one. Several processes may share a port."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(MockBackend, hosts, port, backlog=BACKLOG, reuse_port=True)


@click.command()
@click.option("--port", type=int, required=True)
def main(port: int) -> None:
    """Serve canned replies on loopback until ended."""

    async def serve() -> None:
        server = await listen(port, HOSTS)
        await server.serve_forever()

    uvloop.run(serve())


def _is_stream(body: bytes) -> bool:
    ends = body[:EDGE_BYTES] + body[-EDGE_BYTES:]
    return b'"stream":true' in ends or b'"stream": true' in ends


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    return int(lower[at + 15 : lower.index(b"\r\n", at)]) if at >= 0 else 0


if __name__ == "__main__":
    main()
