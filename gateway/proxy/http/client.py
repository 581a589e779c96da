"""One client connection: requests in, answers out, in order. Knows no backend and no model.

HTTP/1.1 over `asyncio.Protocol`: keep-alive, pipelining, 100-continue, timeouts and slow readers;
what comes is parsed by `request_parser`. Whoever serves a request gets it whole and answers
through the same object.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final, Protocol, cast
from uuid import uuid4

from gateway.errors import GatewayError, RequestTimeout
from gateway.proxy.http.chunked import LAST_CHUNK
from gateway.proxy.http.headers import status_line, written
from gateway.proxy.http.request import ClientLimits, Pausable, Request
from gateway.proxy.http.request_parser import RequestParser

BURST: Final = 16  # requests of one client that are served before others get their turn
LINGER_S: Final = 10.0  # how long what an early-refused client still sends is read and dropped
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
EMPTY: Final = b"HTTP/1.1 204 "


class Server(Protocol):
    """What all connections of a server share. closing: no connection is kept any more."""

    limits: ClientLimits
    closing: bool
    open: "set[ClientConnection]"

    def serve(self, client: "ClientConnection", request: Request) -> None:
        """Has a request served; `client.done()` is called once, now or later."""


class ClientConnection:
    """A client connection and the answer under way on it; an `asyncio.Protocol` by its methods.

    due_s: when patience with the client ends, on the loop's clock. source: what is paused while
    the client does not read. left: called when the client goes away with an answer under way.
    """

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._parser = RequestParser(server.limits.body_bytes, self._go_on)
        self._requests = self._parser.requests
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._unread = 0  # of what was written, when it was last looked at
        self._serving = self._held = self._lingering = self._whole = False
        self.stalled = False
        self.source: Pausable | None = None
        self.left: Callable[[], None] | None = None
        self.due_s = inf

    def __repr__(self) -> str:
        return f"<ClientConnection {self._request!r}, {len(self._requests)} waiting>"

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._request is not None

    @property
    def idle(self) -> bool:
        """Whether nothing has come that is still to be answered."""
        return not (self._request or self._requests or self._parser.reading)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self.due_s = self._loop.time() + self._limits.idle_s
        self._server.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.due_s = inf
        self._server.open.discard(self)
        self._requests.clear()
        left, self.left, self.source = self.left, None, None
        if left is not None:
            left()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        parser = self._parser
        reading = parser.reading
        try:
            parser.feed(data)
        except GatewayError as error:
            self._refuse(error)
            return
        if self._requests:
            self._serve()
        elif parser.reading and (parser.framed or not reading) and not (self.busy or self.stalled):
            self._rest()

    def eof_received(self) -> None:
        """The client is gone, or pretends to be: the transport closes."""

    def pause_writing(self) -> None:
        self.stalled = True
        self._unread = self._leaving()
        self._allow(self._limits.stalled_s)
        if self.source is not None:
            self.source.pause()

    def resume_writing(self) -> None:
        self.stalled, self._unread = False, 0
        self._rest()
        if self.source is not None:
            self.source.resume()
        if self._requests and not self.busy:
            self._serve()

    def _go_on(self) -> None:
        """Tells a client that waits for it to send the body, once all before it is answered."""
        if self._requests or self._request is not None:
            return
        self._parser.expecting = False
        if self._transport is not None:
            self._transport.write(CONTINUE)

    # What serves a request calls.

    def respond(self, head: bytes, body: bytes) -> None:
        """A whole answer. head: status line and headers, without length and connection."""
        request, self._whole = self._request, True
        if self._transport is None or request is None:
            return
        end = self._connection(request)
        whole = b"%bcontent-length: %d\r\n%b\r\n" % (head, len(body), end)
        if head.startswith(EMPTY):
            whole = b"%b%b\r\n" % (head, end)  # RFC 9110 §8.6: no length where there is no body
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
        request.keep = request.keep and request.modern  # else its end is the connection's
        end = self._connection(request)
        if request.modern:
            end += b"transfer-encoding: chunked\r\n"
            first = b"%x\r\n%b\r\n" % (len(first), first) if first else b""
        self._transport.write(b"%b%b\r\n%b" % (head, end, first))

    def write(self, piece: bytes) -> None:
        """Another piece of a streamed answer."""
        transport, request = self._transport, self._request
        if transport is not None and request is not None and piece:
            transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if request.modern else piece)

    def forward(self, framed: bytes, piece: bytes) -> None:
        """Another piece of a streamed answer, which is in a chunk already."""
        transport, request = self._transport, self._request
        if transport is not None and request is not None:
            transport.write(framed if request.modern else piece)

    def end(self) -> None:
        """A streamed answer is whole."""
        self._whole = True
        if self._transport is not None and self._request is not None and self._request.modern:
            self._transport.write(LAST_CHUNK)

    def done(self) -> None:
        """The answer is over: the next request may begin, unless it is not whole."""
        request, self._request = self._request, None
        self.left = self.source = None
        if self._transport is None or request is None:
            return
        if not self._whole:  # the next answer would be taken for its rest
            self.abort()
            return
        if not request.keep or self._server.closing:
            self.close()
            return
        if self._parser.expecting:
            self._go_on()
        if not self.stalled:
            self._rest()
        if self._requests and not self._serving:
            self._serve()

    def abort(self) -> None:
        """Breaks the connection off: what was sent is not whole and must not look so."""
        self._lingering = True
        self._parser.stop()
        self._requests.clear()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Closes when what was written has left; nothing in line is served."""
        self._lingering = True
        self._parser.stop()
        self._requests.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._unread = self._leaving()
            self._allow(self._limits.stalled_s)
            self._transport.close()

    def overdue(self) -> None:
        """Patience with the client is over: called when `due_s` has passed."""
        leaving = self._leaving()
        if self._parser.reading and not self.busy and not self.stalled:
            self._refuse(RequestTimeout("the request did not arrive in time"))
        elif leaving < self._unread:  # slow, but it reads
            self._unread = leaving
            self._allow(self._limits.stalled_s)
        else:
            self.abort()

    def _allow(self, patience_s: float) -> None:
        self.due_s = self._loop.time() + patience_s

    def _rest(self) -> None:
        """Sets the patience with a client that nothing is written to."""
        limits = self._limits
        if self._request is not None:
            self.due_s = inf
        elif self._parser.reading:
            self.due_s = self._loop.time() + (
                limits.body_s if self._parser.framed else limits.head_s
            )
        elif not self._lingering:
            self.due_s = self._loop.time() + limits.idle_s

    def _leaving(self) -> int:
        """Bytes that were written and the client has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _serve(self) -> None:
        """Serves what is in line, one after the other; the client waits while there is a line.

        Who does not read its answers gets no more of them made.
        """
        self._serving = True
        try:
            for _ in range(BURST):
                if not self._requests or self._request is not None or self.stalled:
                    break
                found = self._requests.popleft()
                if isinstance(found, GatewayError):
                    self._answer(found)
                    break
                self._request, self._whole = found, False
                self.due_s = inf
                self._server.serve(self, found)
            else:
                self._loop.call_soon(self._serve)
        except BaseException:
            self.abort()  # whoever called may be a stranger: nobody else would close it
            raise
        finally:
            self._serving = False
        still = bool(self._requests) and not self._lingering
        if still is not self._held and self._transport is not None:
            self._held = still
            (self._transport.pause_reading if still else self._transport.resume_reading)()

    def _refuse(self, error: GatewayError) -> None:
        """The connection cannot go on: says so after what is in line, then closes."""
        self._lingering = True
        self._parser.stop()
        self._requests.append(error)
        self._serve()

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
        self._transport.write_eof()
        self._allow(LINGER_S)

    def _connection(self, request: Request) -> bytes:
        if not request.keep or self._server.closing:
            return b"connection: close\r\n"
        return b"" if request.modern else b"connection: keep-alive\r\n"
