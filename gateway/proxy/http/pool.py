"""Keep-alive connections to backends: one pool for each backend, and all of them together.

Owns dialling, keeping and closing. Knows no route, no lease and no client.
"""

import asyncio
import errno
from collections import deque
from typing import Final, cast
from urllib.parse import urlsplit

from gateway.errors import ConnectFailed, ConnectionLost, Unavailable, UpstreamError
from gateway.proxy.http.backend import BackendConnection
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.head_memo import HeadMemo
from gateway.proxy.http.headers import NOT_RETURNED
from gateway.proxy.http.reply import Reply
from gateway.proxy.http.tls import TlsContexts, TlsFiles
from gateway.proxy.http.upload import Upload

# Seconds after which an idle connection is not used again, unless the server is known to keep it
# longer: uvicorn, under vLLM and SGLang, closes idle connections after 5 s.
REUSE_S: Final = 4.0
SWEEP_S: Final = 1.0
# A timer of this process that fires later than this says nothing about a backend: the process was
# busy or stopped, and the backend's answer may lie unread in the socket.
LATE_S: Final = 0.25
# Connections to one backend. Far above what routing lets through: a bound for leaks. The limit of
# open files may be lower.
MOST = 16384
OWN_LIMITS: Final = (errno.EMFILE, errno.ENFILE)  # limits of this machine, not of a backend


class ConnectionPool:
    """The connections to one backend. The one used last is used first, so that the others get old
    and are closed when the load falls.

    host, port: from the URL. memo: of the heads of the backend's replies. connect_timeout_s: of
    the next connections. budget: for replies that are collected. tls: files for an https URL,
    `None`: as the system has it.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float,
        reuse_s: float = REUSE_S,
        contexts: TlsContexts | None = None,
        budget: BodyBudget | None = None,
    ) -> None:
        """url: base URL of the backend. reuse_s: seconds after which an idle connection is not used
        again; below the backend's own limit, so that no request meets a connection that the
        backend is closing. contexts: for https URLs; default: none are shared."""
        self._clock = asyncio.get_running_loop().time
        parts = urlsplit(url)
        self._contexts = contexts or TlsContexts()
        self._secure = parts.scheme == "https"
        self.tls: TlsFiles | None = None
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self._secure else 80)
        self.memo = HeadMemo(NOT_RETURNED)
        self.budget = budget or BodyBudget()
        self._base_path = parts.path.rstrip("/")
        self._authority = parts.netloc.rpartition("@")[2]
        self.connect_timeout_s = connect_timeout_s
        self._reuse_s = reuse_s
        self._idle: deque[BackendConnection] = deque()
        self._open: set[BackendConnection] = set()
        self._dialling = 0
        self._retired = False  # the backend left: requests under way may finish, and dial
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"<ConnectionPool {self.host}:{self.port}, {len(self._idle)} of {len(self._open)} idle>"
        )

    def request_start(self, method: str, path: str) -> bytes:
        """The request line and the Host line of a request. path: below the base URL."""
        line = f"{method} {self._base_path}{path} HTTP/1.1\r\nhost: {self._authority}\r\n"
        return line.encode("latin-1")

    async def send(self, head: bytes, body: bytes) -> Reply:
        """Send a request and wait for the head of the reply; send it once more if the connection
        was one that had been kept and is lost. Raises as `send_once`."""
        try:
            return await self.send_once(head, body)
        except ConnectionLost:
            return await self.send_once(head, body, fresh=True)

    async def send_once(
        self, head: bytes, body: bytes, *, fresh: bool = False, upload: Upload | None = None
    ) -> Reply:
        """Send a request and wait for the head of the reply.

        An idle connection may be one that the backend is closing, without a fault of anybody. So a
        request that fails on a connection that was used before, and before any byte of a reply has
        come, may be sent once more on a new connection. RFC 9110 §9.2.2 warns of repeating a POST,
        because the first one may have changed something; a completion changes nothing. Raises
        ConnectionLost in that case, ConnectFailed if nothing could be sent, UpstreamError if the
        connection broke before the head.

        fresh: whether to use a new connection. upload: follows the body, as it comes.
        """
        connection = None if fresh else self.take(self._clock())
        kept = connection is not None
        reply = (connection or await self.dial()).send(head, body, upload)
        try:
            while not reply.status:
                if reply.error is not None:
                    raise reply.error
                await reply.next_change()
        except BaseException as error:
            reply.close()
            if error is reply.error and kept and not reply.started:
                raise ConnectionLost(str(error)) from error
            raise
        return reply

    def take(self, now_s: float) -> BackendConnection | None:
        """An idle connection that is young enough, and open as far as is known; else `None`."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open and now_s - connection.idle_since_s < self._reuse_s:
                return connection
            connection.abort()
        return None

    def put_back(self, connection: BackendConnection) -> None:
        """Keep a connection whose exchange ended cleanly for the next exchange."""
        if self._retired or self._closed:
            connection.abort()
            return
        connection.idle_since_s = self._clock()
        self._idle.append(connection)

    def discard(self, connection: BackendConnection) -> None:
        """Forget a connection that is closed; called by the connection."""
        self._open.discard(connection)

    async def dial(self) -> BackendConnection:
        """A new connection. Raises ConnectFailed, or Unavailable if this machine has no free file
        descriptor, which is no fault of the backend."""
        if len(self._open) + self._dialling >= MOST:
            raise ConnectFailed(f"The backend has {MOST} connections, which is the limit.")
        loop = asyncio.get_running_loop()
        dialling = loop.create_task(self._dial(loop))
        self._dialling += 1
        try:
            return await dialling
        except BaseException:
            dialling.cancel()  # the request that wanted the connection was cancelled
            dialling.add_done_callback(self._keep_unwanted)
            raise
        finally:
            self._dialling -= 1

    def _keep_unwanted(self, dialled: "asyncio.Task[BackendConnection]") -> None:
        """Keep a connection for the next request if it was made just as its own was cancelled."""
        if not dialled.cancelled() and dialled.exception() is None:
            self.put_back(dialled.result())

    def _connection(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, BackendConnection(self))

    async def _dial(
        self, loop: asyncio.AbstractEventLoop, *, again: bool = True
    ) -> BackendConnection:
        """again: whether to dial once more if the time was up only because this process was
        late."""
        due_s = loop.time() + self.connect_timeout_s
        try:
            tls = self._contexts.context(self.tls) if self._secure else None
            name = self.tls.server_name if tls is not None and self.tls is not None else None
            async with asyncio.timeout_at(due_s):
                _, made = await loop.create_connection(
                    self._connection, self.host, self.port, ssl=tls, server_hostname=name
                )
        except TimeoutError:
            if again and loop.time() - due_s > LATE_S:
                return await self._dial(loop, again=False)
            limit_s = self.connect_timeout_s
            raise ConnectFailed(f"The backend did not accept within {limit_s:g} s.") from None
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; a bad name, ValueError
            if isinstance(error, OSError) and error.errno in OWN_LIMITS:
                message = "The gateway has no free file descriptor."
                raise Unavailable(message, retry_after_s=1.0) from error
            raise ConnectFailed(f"The backend cannot be reached: {error}") from error
        connection = cast(BackendConnection, made)
        # Counted here and not in connection_made: uvloop never calls connection_lost for one whose
        # dialling is cancelled after connection_made.
        if connection.open:
            self._open.add(connection)
        if self._closed:
            connection.abort()
        return connection

    def sweep(self, now_s: float) -> None:
        """Close the connections that were idle for too long; the oldest are at the left."""
        idle = self._idle
        while idle and (not idle[0].open or now_s - idle[0].idle_since_s >= self._reuse_s):
            idle.popleft().abort()

    def retire(self) -> None:
        """Close the idle connections now, and the others when their exchange ends."""
        self._retired = True
        self._close_idle()

    def secure(self, tls: TlsFiles | None) -> None:
        """Dial with these files from now on, and use no idle connection that was made with
        others."""
        before, self.tls = self.tls, tls
        if (before and before.identity) != (tls and tls.identity):
            self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.popleft().abort()

    def close(self) -> None:
        """Close all connections, and those still being dialled once they are made."""
        self._closed = True
        for connection in tuple(self._open):
            connection.fail(UpstreamError("The gateway is shutting down."))


class ConnectionPools:
    """The connection pools of all backends; an async context manager."""

    def __init__(self, *, connect_timeout_s: float, budget: BodyBudget | None = None) -> None:
        """budget: for the replies of all backends that are collected; default: no limit."""
        self._budget = budget
        self._connect_timeout_s = connect_timeout_s
        self._by_url: dict[str, ConnectionPool] = {}
        self._contexts = TlsContexts()
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def open(self) -> int:
        """Open connections to all backends."""
        return sum(len(pool._open) for pool in self._by_url.values())

    async def __aenter__(self) -> "ConnectionPools":
        self._sweep()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for pool in self._by_url.values():
            pool.close()

    def pool(
        self,
        url: str,
        *,
        reuse_s: float = REUSE_S,
        tls: TlsFiles | None = None,
        connect_timeout_s: float | None = None,
    ) -> ConnectionPool:
        """The pool of a backend, the same for the same base URL. reuse_s, tls: see
        `ConnectionPool`. connect_timeout_s: default: that of all."""
        pool = self._by_url.get(url)
        if pool is None:
            pool = self._by_url[url] = ConnectionPool(
                url,
                connect_timeout_s=self._connect_timeout_s,
                reuse_s=reuse_s,
                contexts=self._contexts,
                budget=self._budget,
            )
        if tls is not pool.tls:
            pool.secure(tls)
        if connect_timeout_s is not None:
            pool.connect_timeout_s = connect_timeout_s
        return pool

    def configure(self, *, connect_timeout_s: float) -> None:
        """Dial with this timeout from now on, at every backend."""
        self._connect_timeout_s = connect_timeout_s
        for pool in self._by_url.values():
            pool.connect_timeout_s = connect_timeout_s

    def forget(self, url: str) -> None:
        """Close the idle connections of a backend that left, and the others when their exchange
        ends."""
        pool = self._by_url.pop(url, None)
        if pool is not None:
            pool.retire()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_S, self._sweep)
        for pool in self._by_url.values():
            pool.sweep(loop.time())
