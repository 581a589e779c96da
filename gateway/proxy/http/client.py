"""One client connection: requests in, answers out, in the order of the requests.

HTTP/1.1 over `asyncio.Protocol`: keep-alive, pipelining, 100 Continue, deadlines and slow readers.
`request_parser` parses what comes. The server gets each request complete, and writes its answer to
the same object. Knows no backend and no model.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final, cast

from gateway.errors import GatewayError, Overloaded, RequestTimeout
from gateway.proxy.http.answer import for_page, last_answer, send_whole, stream_start
from gateway.proxy.http.body_budget import SMALL
from gateway.proxy.http.chunked import LAST_CHUNK
from gateway.proxy.http.headers import error_head
from gateway.proxy.http.phase import Phase
from gateway.proxy.http.request import Pausable, Request
from gateway.proxy.http.request_parser import RequestParser
from gateway.proxy.http.server import Server

BURST: Final = 16  # requests of one client that are served before other clients get their turn
LINGER_S: Final = 10.0  # how long a client that got an early error may go on sending; see _close_on
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
UNREAD: Final = 1 << 20  # more of an answer than this is cut off where memory is short


class ClientConnection:
    """A client connection and the answer under way on it; an `asyncio.Protocol` by its methods.

    What the client sends is in a phase of `RequestParser`. Independently of that, an answer is
    under way or not (`busy`), and the client reads what is written or not (`stalled`).

    deadline_s: when the client must have made progress, in seconds of the loop's clock.
    unread_bytes: of its answers, in memory because it did not read them at the last look. source:
    paused while the client does not read. on_disconnect: called if the client disconnects while an
    answer is under way.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._parser = RequestParser(server.limits, server.budget, self._send_continue)
        self._requests = self._parser.requests
        self._budget = server.budget
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None  # whose answer is under way
        self._answer_complete = self._paused = False  # paused: the client is not read
        self._serving = False  # in `_serve`, which a finished answer would otherwise enter again
        self.unread_bytes, self.stalled = 0, False
        self.source: Pausable | None = None
        self.on_disconnect: Callable[[], None] | None = None
        self.deadline_s = inf

    def __repr__(self) -> str:
        return f"<ClientConnection {self._request!r}, {len(self._requests)} waiting>"

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._request is not None

    @property
    def holds(self) -> bool:
        """Whether much memory is held for what the client does not send or does not read."""
        return self._parser.part_bytes > SMALL or self.unread_bytes > UNREAD

    @property
    def progress_s(self) -> float:
        """When the client last sent or read something, as far as is known."""
        self._note_progress()
        return self.deadline_s - (self._limits.stalled_s if self.stalled else self._limits.body_s)

    @property
    def idle(self) -> bool:
        """Whether no request is under way, waiting or partly received."""
        return not (self._request or self._requests or self._parser.receiving)

    def known(self, name: str) -> object:
        """What the transport knows of the client, such as its certificate."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    # Callbacks of the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self.deadline_s = self._loop.time() + self._limits.idle_s
        self._server.connections.add(self)
        if len(self._server.connections) > self._limits.connections:
            self._server.make_room(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.deadline_s = inf
        self._server.connections.discard(self)
        self._count_unread(0)
        self._parser.close()
        on_disconnect, self.on_disconnect, self.source = self.on_disconnect, None, None
        if on_disconnect is not None:
            on_disconnect()

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        before = parser.phase
        if before is Phase.STOPPED:
            if parser.drop(len(data)):
                self.abort()
            return
        try:
            parser.feed(data)
        except GatewayError as error:
            self._refuse(error)
            return
        if (
            parser.receiving
            # A head has one deadline, or a client could send a byte at a time for ever; a body gets
            # a new one with every piece.
            and not (parser.phase is Phase.HEAD and before is Phase.HEAD)
            and not (self.busy or self.stalled or self._requests)
        ) or (self._request is not None and self._request.uploading):
            self._arm_read_deadline()
        if parser.held_bytes > SMALL and self._budget.exceeded and parser.held_bytes:
            self.overload()
        elif self._requests:
            self._serve()

    def eof_received(self) -> None:
        """Return nothing, so that the transport closes: who closes one side looks gone."""

    def pause_writing(self) -> None:
        self.stalled = True
        self._count_unread(self._buffered_bytes())
        self._arm(self._limits.stalled_s)
        if self.source is not None:
            self.source.pause()

    def resume_writing(self) -> None:
        self.stalled = False
        self._count_unread(0)
        self._arm_read_deadline()
        if self.source is not None:
            self.source.resume()
        if self._requests and not self.busy:
            self._serve()

    def set_reading(self, wanted: bool) -> None:
        """Read from the client or not: a backend that does not read slows down its own client."""
        if wanted is self._paused and self._transport is not None:
            self._paused = not wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()
            self._arm_read_deadline()

    def _send_continue(self) -> None:
        """Tell a client that waits for it to send the body, once all earlier requests are
        answered: the answers must stay in order (RFC 9110 §10.1.1)."""
        if self._requests or self._request is not None:
            return
        self._parser.phase = Phase.BODY
        if self._transport is not None:
            self._transport.write(CONTINUE)

    # Called by the server of a request.

    def respond(self, head: bytes, body: bytes) -> None:
        """Write a complete answer. head: status line and headers, without length and connection."""
        request, self._answer_complete = self._request, True
        if self._transport is not None and request is not None:
            head = for_page(head, request, self._limits)
            send_whole(self._transport, head, body, request, keep=self._keep(request))

    def count(self, size: int) -> None:
        """Note by how many bytes the body of the request under way has grown."""
        self._budget.used += size

    def respond_error(self, error: GatewayError, lines: bytes = b"") -> None:
        """Write an error as a complete answer. lines: header lines besides those of the error."""
        self.respond(error_head(error) + lines, error.body())

    def start(self, head: bytes, first: bytes) -> None:
        """Write the head of a streamed answer and its first piece at once."""
        request = self._request
        if self._transport is None or request is None:
            return
        head = for_page(head, request, self._limits)
        # An HTTP/1.0 client knows no chunks (RFC 9112 §7.1): the connection ends with the answer.
        request.keep_alive = request.keep_alive and request.http11
        self._transport.write(stream_start(head, first, request, keep=self._keep(request)))

    def write(self, piece: bytes) -> None:
        """Write another piece of a streamed answer."""
        transport, request = self._transport, self._request
        if transport is not None and request is not None and piece:
            transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if request.http11 else piece)

    def forward(self, chunks: bytes, piece: bytes) -> None:
        """Write another piece of a streamed answer that came as whole chunks of this content."""
        transport, request = self._transport, self._request
        if transport is not None and request is not None:
            transport.write(chunks if request.http11 else piece)

    def end(self) -> None:
        """Write the end of a streamed answer, which is complete."""
        self._answer_complete = True
        if self._transport is not None and self._request is not None and self._request.http11:
            self._transport.write(LAST_CHUNK)

    def finish(self) -> None:
        """Begin the next request. Break the connection off if the answer is not complete."""
        request, self._request = self._request, None
        self.on_disconnect = self.source = None
        if request is None:
            return
        self._budget.used -= len(request.body)
        if request.upload is not None:
            request.upload.end()
            self.set_reading(True)
        if self._transport is None:
            return
        if not self._answer_complete:  # the client would take the next answer for the rest of it
            self.abort()
            return
        if not request.keep_alive:
            self._parser.clear()
            (self._linger if request.uploading else self.close)()
            return
        if self._parser.phase is Phase.EXPECTING:
            self._send_continue()
        if not self.stalled:
            self._arm_read_deadline()
        if self._requests and not self._serving:
            self._serve()

    def abort(self) -> None:
        """Reset the connection: what was sent is incomplete and must not look complete."""
        self._parser.clear()
        self._count_unread(0)
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close when all that was written has left; requests that wait are dropped."""
        self._parser.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._count_unread(self._buffered_bytes())
            self._arm(self._limits.stalled_s)
            self._transport.close()

    def expire(self) -> None:
        """Called when `deadline_s` has passed: answer 408 if a request did not arrive in time; else
        end the connection, unless the client reads its answer, however slowly."""
        late, request = RequestTimeout("the request did not arrive in time"), self._request
        if request is not None and request.upload is not None and request.uploading:
            self.deadline_s = inf
            request.upload.fail(late)
        elif self._parser.receiving and not self.busy and not self.stalled:
            self._refuse(late)
        elif not self._note_progress():
            self.abort()

    def _note_progress(self) -> bool:
        """Set a new deadline if the client has read some of its answer since the last look."""
        buffered_bytes = self._buffered_bytes()
        if buffered_bytes >= self.unread_bytes:
            return False
        self._count_unread(buffered_bytes)
        self._arm(self._limits.stalled_s)
        return True

    def overload(self) -> None:
        """Cut off a client that does not read; else refuse what it has sent and is not begun."""
        if self.unread_bytes > UNREAD:
            self.abort()
        else:
            self._parser.clear()
            self._refuse(Overloaded())

    def _count_unread(self, size: int) -> None:
        """Note how much of its answers the client has not read."""
        self._budget.used += size - self.unread_bytes
        self.unread_bytes = size

    def _arm(self, limit_s: float) -> None:
        """Set the deadline."""
        self.deadline_s = self._loop.time() + limit_s

    def _arm_read_deadline(self) -> None:
        """Set the deadline for what the client sends next; none while an answer is under way and no
        body comes. After `stop` it stays as it is."""
        request = self._request
        if request is not None and (self._paused or not request.uploading):
            self.deadline_s = inf
        elif self._parser.phase is not Phase.STOPPED:
            self._arm(self._parser.patience_s)

    def _buffered_bytes(self) -> int:
        """How much of what was written the client has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _serve(self) -> None:
        """Serve the waiting requests one after the other; none while the client does not read."""
        self._serving = True
        try:
            for _ in range(BURST):
                if not self._requests or self._request is not None or self.stalled:
                    break
                next_one = self._requests.popleft()
                if isinstance(next_one, GatewayError):
                    self._close_on(next_one)
                    break
                self._parser.held_bytes -= len(next_one.body)  # `finish` gives them back
                self._request, self._answer_complete = next_one, False
                self._arm_read_deadline()
                if next_one.upload is not None:
                    next_one.upload.begin(self)
                self._server.serve(self, next_one)
            else:
                self._loop.call_soon(self._serve)
        except BaseException:
            self.abort()  # the caller may be another connection, which would not close this one
            raise
        finally:
            self._serving = False

    def _refuse(self, error: GatewayError) -> None:
        """Answer with an error after the waiting requests, then close: the rest has no parse."""
        self._parser.stop()
        self._requests.append(error)
        self._serve()

    def _close_on(self, error: GatewayError) -> None:
        """Write an error, and nothing after it."""
        if self._transport is not None:
            self._server.refused(error)
            self._transport.write(last_answer(error))
            self._linger()

    def _linger(self) -> None:
        """Close this direction, and read and drop what comes for LINGER_S: closing with unread
        bytes resets a connection, and the client would lose the answer (RFC 9112 §9.6)."""
        if self._transport is not None:
            if self._transport.can_write_eof():  # TLS has no half of a connection
                self._transport.write_eof()
            self._arm(LINGER_S)

    def _keep(self, request: Request) -> bool:
        """Whether the connection is kept: asked once, the client counts on what it is told."""
        request.keep_alive &= not (self._server.closing or request.uploading)
        return request.keep_alive
