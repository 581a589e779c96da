"""Connections to backends: one exchange out, a reply in. Knows no route, no lease and no client.

HTTP/1.1 over `asyncio.Protocol` and httptools (llhttp). A connection carries one exchange at a time
and is kept for the next one if the exchange ended cleanly; else it is closed, which makes an engine
abort. It is never closed by half: vLLM takes that for a client that left.
"""

import asyncio
import ssl
from collections import deque
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from gateway.errors import ConnectFailed, UpstreamError
from gateway.proxy.http import fastpath
from gateway.proxy.http.fastpath import CHUNKED_HEAD, LAST_CHUNK
from gateway.proxy.http.headers import Headers, field
from gateway.proxy.http.reply import Reply

KEEP_ALIVE_S: Final = 4.0  # vLLM (uvicorn) closes idle connections after 5 s
SWEEP_S: Final = 1.0
LATE_S: Final = 0.25  # a timer of ours that is later has no word about others
LOOSE_BYTES: Final = 256 * 1024  # that may come without a piece of a body: heads, trailers
MOST = 16384  # connections to one backend; far above what its load lets through


class BackendConnection:
    """One connection to a backend; an `asyncio.Protocol` by its methods."""

    def __init__(self, connection_pool: "ConnectionPool") -> None:
        self._connection_pool = connection_pool
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
        return f"<BackendConnection {self._connection_pool!r} {'busy' if self._reply else 'idle'}>"

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
        piece, framed, ended = fastpath.chunk(data), data, False
        if piece is None:
            ended = self._ahead and data[-len(LAST_CHUNK) :] == LAST_CHUNK
            framed = data[: -len(LAST_CHUNK)] if ended else data
            piece = fastpath.chunks(framed)
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
        self._connection_pool.discard(self)
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
            self._connection_pool.put_back(self)
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


class ConnectionPool:
    """One backend's address and the connections to it; the last one used is used first."""

    def __init__(self, url: str, *, connect_timeout_s: float) -> None:
        self._clock = asyncio.get_running_loop().time
        parts = urlsplit(url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self._tls else 80)
        self.base = parts.path.rstrip("/")
        self.authority = parts.netloc.rpartition("@")[2]
        self._connect_timeout_s = connect_timeout_s
        self._idle: deque[BackendConnection] = deque()
        self._open: set[BackendConnection] = set()
        self._dialling = 0
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"<ConnectionPool {self.host}:{self.port}, {len(self._idle)} of {len(self._open)} idle>"
        )

    def prefix(self, method: str, path: str) -> bytes:
        """How a request for a path of it begins."""
        line = f"{method} {self.base}{path} HTTP/1.1\r\nhost: {self.authority}\r\n"
        return line.encode("latin-1")

    def take(self, now_s: float) -> BackendConnection | None:
        """An idle connection that the backend has not closed yet, as far as is known."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open and now_s - connection.idle_since_s < KEEP_ALIVE_S:
                return connection
            connection.abort()
        return None

    def put_back(self, connection: BackendConnection) -> None:
        """Keeps a connection whose exchange ended cleanly for the next one."""
        if self._closed:
            connection.abort()
            return
        connection.idle_since_s = self._clock()
        self._idle.append(connection)

    def discard(self, connection: BackendConnection) -> None:
        """Called by a connection: it is no more."""
        self._open.discard(connection)

    async def dial(self) -> BackendConnection:
        """A new connection. Raises ConnectFailed."""
        if len(self._open) + self._dialling >= MOST:
            raise ConnectFailed(f"The backend has {MOST} connections, which is the limit.")
        loop = asyncio.get_running_loop()
        dialling = loop.create_task(self._dial(loop))
        self._dialling += 1
        try:
            return await dialling
        except BaseException:
            dialling.cancel()  # whoever wanted it is gone
            dialling.add_done_callback(self._unwanted)
            raise
        finally:
            self._dialling -= 1

    def _unwanted(self, dialled: "asyncio.Task[BackendConnection]") -> None:
        """A connection that stood just when nobody wanted it any more is for the next one."""
        if not dialled.cancelled() and dialled.exception() is None:
            self.put_back(dialled.result())

    def _connection(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, BackendConnection(self))

    async def _dial(
        self, loop: asyncio.AbstractEventLoop, *, again: bool = True
    ) -> BackendConnection:
        """again: once more if time was up only because this process itself was late."""
        due_s = loop.time() + self._connect_timeout_s
        try:
            async with asyncio.timeout_at(due_s):
                _, made = await loop.create_connection(
                    self._connection, self.host, self.port, ssl=self._tls
                )
        except TimeoutError:
            if again and loop.time() - due_s > LATE_S:
                return await self._dial(loop, again=False)
            limit_s = self._connect_timeout_s
            raise ConnectFailed(f"The backend did not accept within {limit_s:g} s.") from None
        except (OSError, ValueError) as error:  # ssl.SSLError is the one, a name's encoding another
            raise ConnectFailed(f"The backend cannot be reached: {error}") from error
        connection = cast(BackendConnection, made)
        # Not when it is made: of one that is cancelled after that uvloop never tells the end.
        if connection.open:
            self._open.add(connection)
        if self._closed:
            connection.abort()
        return connection

    def sweep(self, now_s: float) -> None:
        """Closes what was idle for too long; the oldest are at the left."""
        idle = self._idle
        while idle and (not idle[0].open or now_s - idle[0].idle_since_s >= KEEP_ALIVE_S):
            idle.popleft().abort()

    def retire(self) -> None:
        """Closes idle connections now, and the others when their exchange ends."""
        self._closed = True
        while self._idle:
            self._idle.popleft().abort()

    def close(self) -> None:
        """Closes all, those still being dialled too."""
        self._closed = True
        for connection in tuple(self._open):
            connection.fail("The gateway is shutting down.")


class ConnectionPools:
    """Keep-alive connections to all backends; an async context manager."""

    def __init__(self, *, connect_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._by_url: dict[str, ConnectionPool] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._clock = asyncio.get_running_loop().time

    async def __aenter__(self) -> "ConnectionPools":
        self._sweep()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection_pool in self._by_url.values():
            connection_pool.close()

    def pool(self, url: str) -> ConnectionPool:
        """The origin of a backend's base URL, the same for the same URL."""
        connection_pool = self._by_url.get(url)
        if connection_pool is None:
            connection_pool = ConnectionPool(url, connect_timeout_s=self._connect_timeout_s)
            self._by_url[url] = connection_pool
        return connection_pool

    def forget(self, url: str) -> None:
        """A backend is gone: closes its idle connections, the others when their exchange ends."""
        pool = self._by_url.pop(url, None)
        if pool is not None:
            pool.retire()

    async def send(self, connection_pool: ConnectionPool, head: bytes, body: bytes) -> Reply:
        """Sends a request and waits for the head of the reply.

        A connection that the backend closed while it was idle is replaced once, invisibly: only if
        it had been used before and no byte of an answer came. Raises ConnectFailed if nothing could
        be sent, UpstreamError if the connection broke before the head.
        """
        fresh = False
        while True:
            connection = None if fresh else connection_pool.take(self._clock())
            fresh = connection is None
            reply = (connection or await connection_pool.dial()).send(head, body)
            try:
                while not reply.status:
                    if reply.error is not None:
                        raise reply.error
                    await reply.change()
            except BaseException as error:
                reply.close()
                if error is not reply.error or fresh or reply.began:
                    raise
                fresh = True
            else:
                return reply

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_S, self._sweep)
        for connection_pool in self._by_url.values():
            connection_pool.sweep(loop.time())
