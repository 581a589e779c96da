"""One connection to a backend and the exchange on it. Knows no route, no lease and no client.

HTTP/1.1 over `asyncio.Protocol` and httptools (llhttp). A connection carries one exchange at a time
and is kept for the next one if the exchange ended cleanly; else it is closed, which makes an engine
abort. It is never closed by half: vLLM takes that for a client that left.
"""

import asyncio
from typing import Final, Protocol, cast

import httptools

from gateway.errors import UpstreamError
from gateway.proxy.http import chunked, fastpath
from gateway.proxy.http.chunked import LAST_CHUNK
from gateway.proxy.http.headers import Headers, field
from gateway.proxy.http.reply import Reply

LOOSE_BYTES: Final = 256 * 1024  # that may come without a piece of a body: heads, trailers
CHUNKED_HEAD: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class ConnectionOwner(Protocol):
    """What a connection belongs to: the pool that keeps it between two exchanges."""

    def put_back(self, connection: "BackendConnection") -> None:
        """The connection is idle and can carry the next exchange."""

    def discard(self, connection: "BackendConnection") -> None:
        """The connection is closed."""


class BackendConnection:
    """One connection to a backend; an `asyncio.Protocol` by its methods."""

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._head: fastpath.Head | None = None  # of the last ordinary reply
        self._headers: Headers = []
        self._pieces: list[bytes] = []
        self._headed = self._ended = self._keep = self._paused = False
        self._between = self._aligned = False  # chunks; and so is the parser, to the byte
        self._ahead = False  # of the parser, which has not seen the head of the stream
        self._loose = 0
        self.idle_since_s = 0.0

    def __repr__(self) -> str:
        return f"<BackendConnection {self._owner!r} {'busy' if self._reply else 'idle'}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, head: bytes, body: bytes) -> Reply:
        """Begins an exchange on an idle connection."""
        reply = self._reply = Reply(self)
        self._loose = 0
        if self._transport is None:  # lost between being taken and being used
            reply.broke(UpstreamError("The backend closed the connection."))
        elif len(body) < 65536:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return reply

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:  # nobody asked: whatever it is, it is no answer
            self.abort()
        elif self._aligned:
            self._passed(reply, data)
        elif reply.began or not self._at_once(reply, data):
            self._parse(reply, data)

    def _at_once(self, reply: Reply, data: bytes) -> bool:
        """Takes an ordinary reply, whole or a stream, without the parser; whether it was one."""
        found = fastpath.reply(data, self._head)
        if found is None:
            return False
        head = found.head
        self._head = head if head.kept else None
        reply.began, reply.status, reply.headers = True, 200, head.headers
        reply.passing = head.passing
        if head.chunked:
            reply.stream = self._ahead = self._aligned = True
            if found.body:
                self._passed(reply, found.body)
        else:
            self._keep = True
            reply.received(found.body)
            self._free(reply)
        reply.notify()
        return True

    def _passed(self, reply: Reply, data: bytes) -> None:
        """Passes on whole chunks as they came, and takes the end of a stream of which the parser
        knows nothing. Everything else is the parser's."""
        piece, framed, ended = chunked.chunk(data), data, False
        if piece is None:
            ended = self._ahead and data[-len(LAST_CHUNK) :] == LAST_CHUNK
            framed = data[: -len(LAST_CHUNK)] if ended else data
            piece = chunked.chunks(framed)
            if piece is None:
                self._parse(reply, data)
                return
        self._loose = 0
        if ended:
            self._keep = True
            self._free(reply)
        if piece:
            reply.received(piece, framed)
        if ended:
            reply.notify()

    def _parse(self, reply: Reply, data: bytes) -> None:
        """Has the parser read what is not ordinary."""
        reply.began = True
        broken = self._fed(data)
        self._aligned = self._between and data[-2:] == b"\r\n"
        pieces, headed = self._pieces, self._headed
        self._headed = False
        if self._ended:
            self._keep = self._keep and broken is None  # what follows a whole reply is not ours
            self._free(reply)
        if pieces:
            self._pieces, self._loose = [], 0
            reply.received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        else:
            self._loose += len(data)
            if self._loose > LOOSE_BYTES:
                broken = broken or "The backend's headers do not end."
        if reply.complete:
            reply.notify()
        elif broken is not None:
            self._break(reply, broken)
        elif headed:
            reply.notify()

    def _fed(self, data: bytes) -> str | None:
        """Feeds the parser; what is wrong, if anything."""
        try:
            if self._ahead:
                self._ahead = False
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
        reply = self._reply
        if reply is None:
            return
        if reply.status and error is None and self._until_close(reply):
            self._reply = None
            reply.ended()
            reply.notify()
        else:
            what = "broke off" if reply.status else "closed the connection without an answer"
            why = "." if error is None else f": {error}"
            self._break(reply, f"The backend {what}{why}")

    def eof_received(self) -> None:
        """Nothing more will come: the transport closes."""

    def pause_writing(self) -> None:
        """The backend reads slowly: what is to be sent is one request, and here already."""

    def resume_writing(self) -> None: ...

    def pause(self, still: bool) -> None:
        """Stops or continues reading: a slow client slows its own upstream only."""
        if still is not self._paused and self._transport is not None:
            self._paused = still
            (self._transport.pause_reading if still else self._transport.resume_reading)()

    def abort(self) -> None:
        """Closes at once."""
        self._reply = None
        if self._transport is not None:
            self._transport.abort()

    def fail(self, message: str) -> None:
        """Closes at once, and tells whoever waits for a reply."""
        reply = self._reply
        self.abort()
        if reply is not None:
            reply.broke(UpstreamError(message))

    def _until_close(self, reply: Reply) -> bool:
        """Whether the body of the reply ends with the connection: RFC 9112 §6.3, the last case."""
        return (
            field(reply.headers, b"content-length") is None
            and field(reply.headers, b"transfer-encoding") is None
        )

    def _break(self, reply: Reply, message: str) -> None:
        if self._reply is reply:
            self.abort()
        reply.broke(UpstreamError(message))

    def _free(self, reply: Reply) -> None:
        """The reply is whole: the connection is free before anybody is told."""
        self._reply, self._ended = None, False
        self._between = self._aligned = self._ahead = False
        reply.ended()
        transport = self._transport
        if transport is None:
            return
        # With a request still on its way, the backend answered before it had read it.
        if self._keep and not transport.get_write_buffer_size():
            self.pause(False)
            self._owner.put_back(self)
        else:
            transport.close()

    # What the parser calls, from inside feed_data.

    def on_message_begin(self) -> None:
        if self._ended:
            self._keep = False  # more than was asked for: what comes next could not be told apart

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, []
        status = self._parser.get_status_code()
        if status < 100:
            raise ValueError(f"status {status}")
        reply = self._reply
        if status < 200 or reply is None or self._ended:
            return  # 100 Continue and 103 Early Hints: the answer is still to come
        if reply.status:
            return  # the head of a stream, which the parser sees late
        kind = field(headers, b"content-type")
        reply.status, reply.headers = status, headers
        reply.stream = kind is not None and kind.lower().startswith(b"text/event-stream")
        self._headed = True

    def on_chunk_header(self) -> None:
        self._between = False

    def on_chunk_complete(self) -> None:
        self._between = True

    def on_body(self, piece: bytes) -> None:
        if not self._ended:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self._headers = []  # trailers end here
        if self._reply is not None and self._reply.status and not self._ended:
            self._ended = True
            # Asked later, the parser says no: a gateway that never reuses a connection.
            self._keep = self._parser.should_keep_alive()
