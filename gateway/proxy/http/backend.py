"""One connection to a backend, and the exchange on it. Knows no route, no lease and no client.

HTTP/1.1 over `asyncio.Protocol` and httptools (llhttp). A connection carries one exchange at a time
and is kept for the next one if the exchange ended cleanly. Otherwise it is closed, which makes an
engine abort the request. It never closes one direction only: vLLM takes that for a client that
disconnected.
"""

import asyncio
from typing import Any, Final, Protocol, cast

import httptools

from gateway.errors import GatewayError, UpstreamError
from gateway.proxy.http import chunked
from gateway.proxy.http.answer import send
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.chunked import LAST_CHUNK
from gateway.proxy.http.head_memo import HeadMemo
from gateway.proxy.http.headers import Headers, first_value
from gateway.proxy.http.reply import Reply
from gateway.proxy.http.upload import Upload

# Limit of bytes from which llhttp makes no body: heads, trailers, chunk extensions without an end.
PENDING_BYTES: Final = 256 * 1024
ORDINARY: Final = b"HTTP/1.1 200 "  # how a reply begins whose head is worth keeping
# Fed to llhttp in place of the head of a stream that it has not seen.
CHUNKED_HEAD: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class ConnectionOwner(Protocol):
    """The pool that keeps a connection between two exchanges.

    memo: of the heads of all replies of this backend. Their Date changes every second, and one
    connection gets its next stream much later than that, so a memo of its own would never match.
    budget: for replies that are collected.
    """

    memo: HeadMemo
    budget: BodyBudget

    def put_back(self, connection: "BackendConnection") -> None:
        """The connection is idle and can carry the next exchange."""

    def discard(self, connection: "BackendConnection") -> None:
        """The connection is closed."""


class BackendConnection:
    """One connection to a backend; an `asyncio.Protocol` by its methods.

    idle_since_s: when the last exchange ended, in seconds of the loop's clock.
    """

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._memo, self._budget = owner.memo, owner.budget
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None  # of the exchange that is under way
        self._headers: Headers = []
        self._upload: Upload | None = None  # of the request, which is sent as it comes
        self._pieces: list[bytes] = []  # of the body, from one call of feed_data
        self._head_seen = False  # by llhttp, in this call of feed_data
        self._complete = False  # whether llhttp has read the whole reply
        self._reusable = False  # whether another exchange may follow this reply
        self._reading_paused = False
        # A read of whole chunks is passed on without llhttp, if llhttp stands between two chunks
        # (`_between_chunks`), at the end of what it was fed (`_aligned`); or if it has not seen the
        # head of the stream either (`_parser_behind`) and nothing but whole chunks has come since.
        self._between_chunks = self._aligned = self._parser_behind = False
        self._pending_bytes = 0
        self.idle_since_s = 0.0

    def __repr__(self) -> str:
        return f"<BackendConnection {self._owner!r} {'busy' if self._reply else 'idle'}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    @property
    def open(self) -> bool:
        """Whether the connection is open, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, head: bytes, body: bytes, upload: Upload | None = None) -> Reply:
        """Begin an exchange on an idle connection. upload: follows the body."""
        reply = self._reply = Reply(self, self._budget)
        self._pending_bytes = 0
        self._upload = upload
        if self._transport is None:  # lost between being taken and being used
            reply.fail(UpstreamError("The backend closed the connection."))
        else:
            send(self._transport, head, body)
            if upload is not None:
                upload.pass_to(self._pass_on)
        return reply

    def _pass_on(self, piece: bytes) -> None:
        """Send another piece of the body of the request."""
        if self._transport is not None:
            self._transport.write(piece)

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:  # bytes that answer no request must not be taken for the next reply
            self.abort()
        elif self._aligned:
            self._pass_chunks(reply, data)
        elif reply.started or not self._recognise(reply, data):
            self._parse(reply, data)

    def _recognise(self, reply: Reply, data: bytes) -> bool:
        """Take a reply, or the head of a stream, without llhttp if its head is the known one."""
        memo = self._memo
        start = memo.body_at(data)
        if start < 0:
            return False
        known = memo.known
        assert known is not None
        reply.started, reply.status, reply.headers = True, 200, known.headers
        reply.end_to_end = known.end_to_end
        body = data[start:]
        if known.stream:
            reply.stream = self._parser_behind = self._aligned = True
            if body:
                self._pass_chunks(reply, body)
        else:
            self._reusable = True
            reply.feed_body(body)
            self._release(reply)
        reply.notify()
        return True

    def _remember(self, reply: Reply, data: bytes) -> None:
        """Keep the head of a reply that llhttp has begun to read with `data`."""
        if not (self._reusable and self._memo.worth_keeping and data[: len(ORDINARY)] == ORDINARY):
            return
        codings = [value for name, value in reply.headers if name == b"transfer-encoding"]
        if not codings and self._complete and not reply.stream:
            self._memo.keep_message(data, reply.headers)
        elif len(codings) == 1 and codings[0].lower() == b"chunked" and reply.stream:
            self._memo.keep_stream(data, reply.headers)

    def _pass_chunks(self, reply: Reply, data: bytes) -> None:
        """Pass on whole chunks as they came. Everything else is left to llhttp, but for the end of
        a stream of which llhttp has seen nothing."""
        piece, chunks, ended = chunked.chunk(data), data, False
        if piece is None:
            ended = self._parser_behind and data[-len(LAST_CHUNK) :] == LAST_CHUNK
            chunks = data[: -len(LAST_CHUNK)] if ended else data
            piece = chunked.chunks(chunks)
            if piece is None:
                self._parse(reply, data)
                return
        self._pending_bytes = 0
        if ended:
            self._reusable = True
            self._release(reply)
        if piece:
            reply.feed_body(piece, chunks)
        if ended:
            reply.notify()

    def _parse(self, reply: Reply, data: bytes) -> None:
        """Have llhttp read what comes."""
        first, reply.started = not reply.started, True
        broken = self._feed(data)
        self._aligned = self._between_chunks and data[-2:] == b"\r\n"
        pieces, head_seen = self._pieces, self._head_seen
        self._head_seen = False
        if first and head_seen and broken is None:
            self._remember(reply, data)
        if self._complete:
            # What follows a complete reply answers no request.
            self._reusable = self._reusable and broken is None
            self._release(reply)
        if pieces:
            self._pieces, self._pending_bytes = [], 0
            reply.feed_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        else:
            self._pending_bytes += len(data)
            if self._pending_bytes > PENDING_BYTES:
                broken = broken or "The backend's headers do not end."
        if reply.complete:
            reply.notify()
        elif broken is not None:
            self._break(reply, broken)
        elif head_seen:
            reply.notify()

    def _feed(self, data: bytes) -> str | None:
        """Feed llhttp; return what is wrong with the bytes, or `None`."""
        try:
            if self._parser_behind:
                self._parser_behind = False
                self._parser.feed_data(CHUNKED_HEAD)
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return "The backend switched protocols."
        except httptools.HttpParserError as error:
            return f"The backend does not speak HTTP: {error}"
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._owner.discard(self)
        if self._reply is not None:
            self._lost(self._reply, error)
        self._parser = None  # it holds this object too, and only the garbage collector would end it

    def _lost(self, reply: Reply, error: Exception | None) -> None:
        if reply.status and error is None and self._until_close(reply):
            self._reply = None
            reply.finish()
            reply.notify()
        else:
            what = "broke off" if reply.status else "closed the connection without an answer"
            why = "." if error is None else f": {error}"
            self._break(reply, f"The backend {what}{why}")

    def eof_received(self) -> None:
        """Return nothing, so that the transport closes: no more will come."""

    def pause_writing(self) -> None:
        """Nothing else is to be done about a request that is in memory."""
        if self._upload is not None:
            self._upload.set_reading(False)

    def resume_writing(self) -> None:
        if self._upload is not None:
            self._upload.set_reading(True)

    def set_reading(self, wanted: bool) -> None:
        """Read from the backend or not: a slow client slows down only its own backend."""
        if wanted is self._reading_paused and self._transport is not None:
            self._reading_paused = not wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    def abort(self) -> None:
        """Close at once."""
        self._reply = None
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: GatewayError) -> None:
        """Close at once, and give the exchange under way this error."""
        reply = self._reply
        self.abort()
        if reply is not None:
            reply.fail(error)

    def _until_close(self, reply: Reply) -> bool:
        """Whether the body of the reply ends with the connection (RFC 9112 §6.3, the last case)."""
        return (
            first_value(reply.headers, b"content-length") is None
            and first_value(reply.headers, b"transfer-encoding") is None
        )

    def _break(self, reply: Reply, message: str) -> None:
        """Give the reply an error, and close if its exchange is still the one under way."""
        if self._reply is reply:
            self.abort()
        reply.fail(UpstreamError(message))

    def _release(self, reply: Reply) -> None:
        """End the exchange. The connection goes back to its pool before the reply's reader runs,
        which may want a connection at once."""
        self._reply, self._complete = None, False
        upload, self._upload = self._upload, None
        whole = upload is None or not upload.left
        self._between_chunks = self._aligned = self._parser_behind = False
        reply.finish()
        transport = self._transport
        if transport is None:
            return
        # A backend that answers before it has read the whole request may read the rest of it as the
        # next request, or never.
        if whole and self._reusable and not transport.get_write_buffer_size():
            self.set_reading(True)
            self._owner.put_back(self)
        else:
            transport.close()

    # Callbacks of llhttp, from inside feed_data.

    def on_message_begin(self) -> None:
        if self._complete:
            self._reusable = False  # a second reply to one request: the next cannot be told apart

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, []
        status = self._parser.get_status_code()
        if status < 100:
            raise ValueError(f"status {status}")
        reply = self._reply
        if status < 200 or reply is None or self._complete:
            return  # 100 Continue and 103 Early Hints: the final reply follows (RFC 9110 §15.2)
        self._reusable = self._parser.should_keep_alive()
        if reply.status:
            return  # CHUNKED_HEAD, in place of the head that llhttp has not seen
        content_type = first_value(headers, b"content-type")
        reply.status, reply.headers = status, headers
        reply.stream = content_type is not None and content_type.lower().startswith(
            b"text/event-stream"
        )
        self._head_seen = True

    def on_chunk_header(self) -> None:
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        self._between_chunks = True

    def on_body(self, piece: bytes) -> None:
        if not self._complete:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self._headers = []  # of the trailers, which are dropped
        if self._reply is not None and self._reply.status:
            self._complete = True
            # llhttp knows this only inside a callback: asked after feed_data, it says no.
            self._reusable = self._reusable and self._parser.should_keep_alive()
