"""One client connection: requests in, answers out, in order. Knows no backend and no model.

HTTP/1.1 over `asyncio.Protocol` and httptools (llhttp): keep-alive, pipelining, 100-continue, both
body framings, limits, timeouts and slow readers. Whoever serves a request gets it whole and answers
through the same object.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol, cast
from uuid import uuid4

import httptools

from gateway.errors import BadRequest, GatewayError, HeadTooLarge, RequestTimeout, TooLarge
from gateway.proxy.heads import Headers, field, status_line, written

HEAD_BYTES = 32 * 1024  # of request line and headers together; nginx allows as much
LINGER_S = 2.0  # how long what an early-refused client still sends is read and dropped
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one client may take. Times in seconds.

    head_s: until the head is whole; also of a new connection. body_s: between two pieces of a body.
    idle_s: between two requests. stalled_s: with an answer that the client does not read.
    """

    body_bytes: int
    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 75.0
    stalled_s: float = 60.0


class Request:
    """One whole request. target: path and query as sent. fields: the headers by name, the last of
    each."""

    __slots__ = ("body", "fields", "headers", "keep", "method", "modern", "target")

    def __init__(
        self,
        *,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes,
        keep: bool,
        modern: bool,
    ) -> None:
        """keep: whether the client wants the connection kept. modern: HTTP/1.1, it knows chunks."""
        self.method = method
        self.target = target
        self.headers = headers
        self.fields = dict(headers)
        self.body = body
        self.keep = keep
        self.modern = modern

    def __repr__(self) -> str:
        return f"<Request {self.method!r} {self.target!r}, {len(self.body)} bytes>"

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("latin-1")


class Source(Protocol):
    """Where an answer comes from: it is stopped while the client does not read."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class House(Protocol):
    """What all connections of a server share. closing: no connection is kept any more."""

    bounds: Bounds
    closing: bool
    open: "set[Inbound]"

    def serve(self, client: "Inbound", request: Request) -> None:
        """Has a request served; `client.done()` is called once, now or later."""


class Inbound(asyncio.Protocol):
    """A client connection and the answer under way on it.

    due_s: when patience with the client ends, on the loop's clock. source: what is paused while
    the client does not read. left: called when the client goes away with an answer under way.
    """

    def __init__(self, house: "House") -> None:
        self._house = house
        self._bounds = house.bounds
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._requests: deque[Request | GatewayError] = deque()
        self._request: Request | None = None
        self._target = b""
        self._headers: Headers = []
        self._pieces: list[bytes] = []
        self._bytes = 0  # of the head while it comes, then of the body
        self._reading = self._framed = self._expecting = False
        self._serving = self._held = self._lingering = False
        self.stalled = False
        self.source: Source | None = None
        self.left: Callable[[], None] | None = None
        self.due_s = inf

    def __repr__(self) -> str:
        return f"<Inbound {self._request!r}, {len(self._requests)} waiting>"

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._request is not None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self.due_s = self._loop.time() + self._bounds.head_s
        self._house.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.due_s = inf
        self._house.open.discard(self)
        self._requests.clear()
        left, self.left, self.source = self.left, None, None
        if left is not None:
            left()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if not self._reading:
            self._reading = True
            self._bytes = 0
            if not self.busy:
                self.due_s = self._loop.time() + self._bounds.head_s
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, GatewayError) else BadRequest("bad request"))
        except httptools.HttpParserError as error:
            self._refuse(BadRequest(f"this is not HTTP/1.1: {error}"))
        else:
            self._after(len(data))

    def pause_writing(self) -> None:
        self.stalled = True
        self.due_s = self._loop.time() + self._bounds.stalled_s
        if self.source is not None:
            self.source.pause()

    def resume_writing(self) -> None:
        self.stalled = False
        self.due_s = inf if self.busy else self._loop.time() + self._bounds.idle_s
        if self.source is not None:
            self.source.resume()

    def _feed(self, data: bytes) -> None:
        """Gives bytes to the parser. An Upgrade is not made (RFC 9110 §7.8 leaves that to us)."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if data:
                    continue
            return

    def _after(self, count: int) -> None:
        """After bytes were parsed: limits and timers, then the first whole request."""
        if self._reading:
            if not self._framed:
                self._bytes += count
                if self._bytes > HEAD_BYTES:
                    self._refuse(HeadTooLarge("the request's head is too large"))
                    return
            elif not self.busy:
                self.due_s = self._loop.time() + self._bounds.body_s
        if self._requests:
            self._serve()

    # What the parser calls, from inside feed_data.

    def on_message_begin(self) -> None:
        self._reading, self._framed, self._expecting = True, False, False
        self._target, self._headers, self._pieces, self._bytes = b"", [], [], 0

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._framed, self._bytes = True, 0
        length = field(self._headers, b"content-length")
        if length is not None and int(length) > self._bounds.body_bytes:
            raise self._too_large()
        expect = field(self._headers, b"expect")
        if expect is not None and expect.lower() == b"100-continue":
            self._expecting = True
            if not self.busy:
                self._go_on()

    def on_body(self, piece: bytes) -> None:
        self._expecting = False
        self._pieces.append(piece)
        self._bytes += len(piece)
        if self._bytes > self._bounds.body_bytes:
            raise self._too_large()

    def on_message_complete(self) -> None:
        self._reading = self._expecting = False
        parser, pieces = self._parser, self._pieces
        self._requests.append(
            Request(
                method=parser.get_method(),
                target=self._target,
                headers=self._headers,
                body=pieces[0] if len(pieces) == 1 else b"".join(pieces),
                # Asked later, the parser says no.
                keep=parser.should_keep_alive(),
                modern=parser.get_http_version() != "1.0",
            )
        )

    def _too_large(self) -> TooLarge:
        limit = self._bounds.body_bytes
        return TooLarge(f"The body exceeds the limit of {limit} bytes.")

    def _go_on(self) -> None:
        """Tells a client that waits for it to send the body."""
        self._expecting = False
        if self._transport is not None:
            self._transport.write(CONTINUE)

    # What serves a request calls.

    def respond(self, head: bytes, body: bytes) -> None:
        """A whole answer. head: status line and headers, without length and connection."""
        request = self._request
        if self._transport is None or request is None:
            return
        end = self._connection(request)
        whole = b"%bcontent-length: %d\r\n%b\r\n" % (head, len(body), end)
        if request.method == b"HEAD":
            self._transport.write(whole)
        elif len(body) < 65536:
            self._transport.write(whole + body)
        else:
            self._transport.writelines((whole, body))

    def start(self, head: bytes, first: bytes) -> None:
        """The head of a streamed answer and its first piece, in one write."""
        request = self._request
        if self._transport is None or request is None:
            return
        end = self._connection(request)
        if request.modern:
            end += b"transfer-encoding: chunked\r\n"
            first = b"%x\r\n%b\r\n" % (len(first), first) if first else b""
        self._transport.write(b"%b%b\r\n%b" % (head, end, first))

    def write(self, piece: bytes) -> None:
        """Another piece of a streamed answer; not empty."""
        transport, request = self._transport, self._request
        if transport is not None and request is not None:
            transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if request.modern else piece)

    def end(self) -> None:
        """A streamed answer is whole."""
        if self._transport is not None and self._request is not None and self._request.modern:
            self._transport.write(LAST_CHUNK)

    def done(self) -> None:
        """The answer is over: the next request may begin."""
        request, self._request = self._request, None
        self.left = self.source = None
        if self._transport is None or request is None:
            return
        if not self._kept(request):
            self.close()
            return
        if self._expecting:
            self._go_on()
        if not self.stalled:
            patience_s = self._bounds.head_s if self._reading else self._bounds.idle_s
            self.due_s = self._loop.time() + patience_s
        if self._requests and not self._serving:
            self._serve()

    def abort(self) -> None:
        """Breaks the connection off: what was sent is not whole and must not look so."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Closes when what was written has left."""
        if self._transport is not None:
            self._transport.close()

    def overdue(self, now_s: float) -> None:
        """Patience with the client is over: called when `due_s` has passed."""
        if self.busy or self.stalled or self._lingering or not self._reading:
            self.abort()
        else:
            self._refuse(RequestTimeout("the request did not arrive in time"))

    def _serve(self) -> None:
        """Serves what is in line, one after the other; the client waits while there is a line."""
        self._serving = True
        while self._requests and self._request is None and self._transport is not None:
            found = self._requests.popleft()
            if isinstance(found, GatewayError):
                self._answer(found)
                break
            self._request = found
            self.due_s = inf
            self._house.serve(self, found)
        self._serving = False
        self._hold(bool(self._requests))

    def _hold(self, still: bool) -> None:
        if still is not self._held and self._transport is not None:
            self._held = still
            (self._transport.pause_reading if still else self._transport.resume_reading)()

    def _refuse(self, error: GatewayError) -> None:
        """The connection cannot go on: says so after what is under way, then closes."""
        self._lingering = True
        if self.busy:
            self._requests.append(error)
        else:
            self._requests.clear()
            self._answer(error)

    def _answer(self, error: GatewayError) -> None:
        if self._transport is None:
            return
        body = error.body()
        lines = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "x-request-id": uuid4().hex,
            "connection": "close",
        }
        head = status_line(error.status) + written(lines.items())
        self._transport.write(head + b"\r\n" + body)
        # Closing with bytes unread would reset the connection, and the answer with it.
        self.due_s = self._loop.time() + LINGER_S

    def _kept(self, request: Request) -> bool:
        return request.keep and not self._house.closing

    def _connection(self, request: Request) -> bytes:
        if not self._kept(request):
            return b"connection: close\r\n"
        return b"" if request.modern else b"connection: keep-alive\r\n"
