"""HTTP at a tortured engine: requests in, one after the other, answers out in bytes.

The text of an answer names its request and counts the tokens, so that a client can tell whether it
got its own answer, and all of it. Knows no gateway.
"""

import asyncio
from typing import Protocol

import msgspec

from loadtest.torture.fates import LATER, Fate
from loadtest.torture.network import VirtualTransport

IDLE_S = 5.0  # uvicorn closes an idle connection after it
HEAD = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%b"
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
ERROR = (
    b'{"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError",'
    b'"param":null,"code":500}}'
)
BUSY = (
    b'{"error":{"message":"The engine is currently busy.","type":"Service Unavailable",'
    b'"param":null,"code":503}}'
)


class Sizes(msgspec.Struct):
    """The true sizes of a request, which the gateway does not read."""

    input_tokens: int
    output_tokens: int
    poison: bool = False


class UsageOption(msgspec.Struct):
    include_usage: bool = False


class GenerationBody(msgspec.Struct):
    """The fields of a request's body that an engine reads."""

    vllm_xargs: Sizes
    user: str  # the id of the request
    stream: bool = False
    stream_options: UsageOption | None = None


class Generator(Protocol):
    """The engine behind a connection. frail: whether a poisonous request kills it. health: the
    status of its health path; `None`: no answer."""

    @property
    def frail(self) -> bool: ...

    @property
    def health(self) -> int | None: ...

    def crash(self) -> None: ...

    def fate_of(self, body: GenerationBody) -> Fate: ...

    def submit(self, stream: "EngineStream") -> int: ...

    def abort(self, key: int) -> None: ...

    def join(self, connection: "EngineConnection") -> None: ...

    def part(self, connection: "EngineConnection") -> None: ...


class EngineStream:
    """One request under way at an engine. sent: tokens that were sent. sent_s: when."""

    def __init__(self, connection: "EngineConnection", body: GenerationBody, fate: Fate) -> None:
        self.body = body
        self.sent, self.sent_s = 0, 0.0
        self._connection = connection
        self._fate = fate
        self._broken = False  # what the engine still generates is nobody's: another may follow

    def progress(self, produced: int, now_s: float) -> None:
        """Send tokens up to `produced`."""
        start, self.sent, self.sent_s = self.sent, max(self.sent, produced), now_s
        if not self.body.stream or (start and self._fate in LATER):
            if start and self.body.stream:
                self._break_off()
            return
        if self.sent > start:
            self._connection.chunk(self._event(start, self.sent, "null"))

    def finish(self, now_s: float) -> None:
        """Send the rest and the end."""
        total = self.body.vllm_xargs.output_tokens
        if self._fate in LATER:
            self._break_off()
        elif not self.body.stream:
            self._connection.whole(self._whole(total))
        else:
            reason = b'"abort"' if self._fate is Fate.ABORT else b'"stop"'
            stop = self.sent if self._fate is Fate.ABORT else total
            self._connection.chunk(self._event(self.sent, stop, reason.decode()))
            options = self.body.stream_options
            if options is not None and options.include_usage:
                usage = b'data: {"id":"x","choices":[],"usage":%b}\n\n' % self._usage(total)
                self._connection.chunk(usage)
            self._connection.end()

    def _break_off(self) -> None:
        if not self._broken:
            self._broken = True
            self._connection.break_off(self._fate)

    def _text(self, start: int, stop: int) -> bytes:
        return b"<%b %d %d>" % (self.body.user.encode(), start, stop) if stop > start else b""

    def _event(self, start: int, stop: int, reason: str) -> bytes:
        return (
            b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,'
            b'"delta":{"content":"%b"},"finish_reason":%b}]}\n\n'
            % (self._text(start, stop), reason.encode())
        )

    def _whole(self, total: int) -> bytes:
        return (
            b'{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{'
            b'"role":"assistant","content":"%b"},"finish_reason":"%b"}],"usage":%b}'
            % (
                b"" if self._fate is Fate.ABORT else self._text(0, total),
                b"abort" if self._fate is Fate.ABORT else b"stop",
                self._usage(total),
            )
        )

    def _usage(self, total: int) -> bytes:
        inputs = self.body.vllm_xargs.input_tokens
        return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
            inputs, total, inputs + total,
        )  # fmt: skip


class EngineConnection(asyncio.Protocol):
    """One connection to an engine: requests in, one after the other, answers out."""

    def __init__(self, engine: Generator) -> None:
        self._engine = engine
        self._transport: VirtualTransport | None = None
        self._received = b""
        self._key: int | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, VirtualTransport)
        self._transport = transport
        self._engine.join(self)
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._engine.part(self)
        if self._idle is not None:
            self._idle.cancel()
        if self._key is not None:
            key, self._key = self._key, None
            self._engine.abort(key)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
        if len(rest) < size:
            return
        self._received = rest[size:]
        if self._idle is not None:
            self._idle.cancel()
        if head.startswith(b"GET"):
            self._health()
        else:
            self._generate(msgspec.json.decode(rest[:size], type=GenerationBody))

    def reset(self) -> None:
        """The engine's process died."""
        transport, self._transport, self._key = self._transport, None, None
        if self._idle is not None:
            self._idle.cancel()
        if transport is not None:
            transport.sever()

    def chunk(self, event: bytes) -> None:
        """Write one event as one HTTP chunk."""
        if self._transport is not None:
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))

    def end(self) -> None:
        """End a stream."""
        self.chunk(b"data: [DONE]\n\n")
        self._write(b"0\r\n\r\n")
        self._done()

    def whole(self, body: bytes) -> None:
        """Write a whole answer."""
        self._write(HEAD % (200, b"OK", b"application/json", len(body), body))
        self._done()

    def break_off(self, fate: Fate) -> None:
        """End an answer that has begun as its fate says."""
        if fate is Fate.CUT_LATER:
            self._close()
        elif fate is Fate.EVENT:
            self.chunk(b"data: " + ERROR + b"\n\n")
            self.end()

    def _generate(self, body: GenerationBody) -> None:
        engine = self._engine
        fate = engine.fate_of(body)
        if fate in (Fate.ERROR, Fate.POISON):
            if fate is Fate.POISON and engine.frail:
                engine.crash()
                return
            self._write(HEAD % (500, b"Error", b"application/json", len(ERROR), ERROR))
        elif fate is Fate.BUSY:
            self._write(HEAD % (503, b"Busy", b"application/json", len(BUSY), BUSY))
        elif fate is Fate.EMPTY:
            self._write(HEAD % (200, b"OK", b"application/json", 0, b""))
        elif fate is Fate.GARBAGE:
            self._write(b"\x00\x01garbage\r\n\r\n")
        if fate in (Fate.CUT, Fate.GARBAGE):
            self._close()
        elif fate in (Fate.ERROR, Fate.POISON, Fate.BUSY, Fate.EMPTY):
            self._done()
        elif fate is not Fate.HANG:
            if body.stream:
                self._write(STREAM)
            if fate is Fate.ABORT:
                EngineStream(self, body, fate).finish(0.0)
                return
            self._key = engine.submit(EngineStream(self, body, fate))

    def _health(self) -> None:
        status = self._engine.health
        if status is None:
            return
        self._write(HEAD % (status, b"Health", b"text/plain", 0, b""))
        self._done()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _done(self) -> None:
        self._key = None
        self._rest()

    def _rest(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self._loop.call_later(IDLE_S, self._close)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
