"""A client of a simulated world: sends one request at a time over one connection, reads the answer
to its end, checks it, or leaves. Knows the gateway only by its bytes."""

import asyncio
import re
from collections.abc import Callable
from math import isfinite

import msgspec

from loadtest.torture.ledger import Ask, Ledger

SLOW_S = 2.0  # for so long a slow client reads nothing
TEXT = re.compile(rb"<([^ >]+) (\d+) (\d+)>")
BYTES_PER_TOKEN = 4
LAST_CHUNK = b"\r\n0\r\n\r\n"


class TorturingClient(asyncio.Protocol):
    """One connection. idle: whether another request may be sent on it."""

    def __init__(self, ledger: Ledger, on_idle: Callable[["TorturingClient"], None]) -> None:
        """on_idle: called when an answer is whole and the connection stays open."""
        self._ledger = ledger
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._ask: Ask | None = None
        self._received = bytearray()
        self._body = -1  # where the body begins, or -1
        self._length = -1  # of the body, -1: it is chunked
        self._leaving: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @property
    def open(self) -> bool:
        """Whether it is connected."""
        return self._transport is not None

    @property
    def idle(self) -> bool:
        transport = self._transport
        return self._ask is None and transport is not None and not transport.is_closing()

    def send(self, ask: Ask) -> None:
        """Send a request."""
        assert self._transport is not None
        self._ask, self._body, self._length = ask, -1, -1
        self._received.clear()
        self._ledger.begin(ask)
        body = request_body(ask)
        self._transport.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nx-request-id: %b\r\n"
            b"authorization: Bearer %b\r\nx-cuvee-slo-class: %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (ask.id.encode(), ask.caller.encode(), ask.slo_class.encode(), len(body), body)
        )
        if isfinite(ask.leaves_s):
            self._leaving = self._loop.call_later(ask.leaves_s, self.leave)

    def leave(self) -> None:
        """Close the connection, whatever is under way."""
        if self._ask is not None:
            self._end("left")
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._ask is not None:
            self._end("cut")

    def data_received(self, data: bytes) -> None:
        ask = self._ask
        if ask is None:
            self._ledger.fail(f"{len(data)} bytes after the end of an answer: {data[:80]!r}")
            return
        if ask.first_s is None:
            ask.first_s = self._ledger.now_s
            if ask.slow and self._transport is not None:
                self._transport.pause_reading()
                self._loop.call_later(SLOW_S, self._read_on)
        self._received += data
        if self._body < 0:
            self._read_head(ask)
        if self._body >= 0 and self._is_whole():
            self._check(ask)

    def _read_on(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def _read_head(self, ask: Ask) -> None:
        at = self._received.find(b"\r\n\r\n")
        if at < 0:
            return
        head = bytes(self._received[:at]).lower()
        ask.status, self._body = int(head[9:12]), at + 4
        _, found, rest = head.partition(b"\r\ncontent-length: ")
        self._length = int(rest.partition(b"\r\n")[0]) if found else -1

    def _is_whole(self) -> bool:
        if self._length < 0:
            return self._received.endswith(LAST_CHUNK)
        return len(self._received) >= self._body + self._length

    def _check(self, ask: Ask) -> None:
        """An answer is whole: is it the right one, and all of it?"""
        body = bytes(self._received[self._body :])
        if self._length >= 0 and len(body) > self._length:
            self._ledger.fail(f"more bytes than the answer has: {ask!r}")
        if self._length < 0 and b'data: {"error"' in body:
            self._end("event")
        else:
            if ask.status == 200:
                self._check_text(ask, body)
            self._end("whole")
        if self.idle:
            self._on_idle(self)

    def _check_text(self, ask: Ask, body: bytes) -> None:
        reached = 0
        for found in TEXT.finditer(body):
            name, start, stop = found.groups()
            if name.decode() != ask.id or int(start) != reached:
                self._ledger.fail(f"text of another place or request, {found[0]!r}: {ask!r}")
                return
            reached = int(stop)
        ask.tokens = reached
        if reached != ask.output_tokens:
            self._ledger.fail(f"{reached} tokens in an answer that looks whole: {ask!r}")

    def _end(self, how: str) -> None:
        ask, self._ask = self._ask, None
        assert ask is not None
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        self._ledger.end(ask, how)


def request_body(ask: Ask) -> bytes:
    """The JSON of a request. Its prompt has as many bytes as its tokens have on average; the true
    sizes stand where only an engine reads them."""
    return msgspec.json.encode(
        {
            "model": ask.model,
            "messages": [{"role": "user", "content": "w" * (BYTES_PER_TOKEN * ask.input_tokens)}],
            "stream": ask.stream,
            "user": ask.id,
            "vllm_xargs": {
                "input_tokens": ask.input_tokens,
                "output_tokens": ask.output_tokens,
                "poison": ask.poison,
            },
        }
    )
