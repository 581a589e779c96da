"""Keep-alive connections to backends: one pool for each backend, and all of them together.

Owns dialling, keeping and closing. Knows no route, no lease and no client.
"""

import asyncio
import ssl
from collections import deque
from typing import Final, cast
from urllib.parse import urlsplit

from gateway.errors import ConnectFailed
from gateway.proxy.http.backend import BackendConnection
from gateway.proxy.http.reply import Reply

KEEP_ALIVE_S: Final = 4.0  # vLLM (uvicorn) closes idle connections after 5 s
SWEEP_S: Final = 1.0
LATE_S: Final = 0.25  # a timer of ours that is later has no word about others
MOST = 16384  # connections to one backend; far above what its load lets through


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

    async def send(self, head: bytes, body: bytes) -> Reply:
        """Sends a request and waits for the head of the reply.

        A connection that the backend closed while it was idle is replaced once, invisibly: only if
        it had been used before and no byte of an answer came. Raises ConnectFailed if nothing could
        be sent, UpstreamError if the connection broke before the head.
        """
        fresh = False
        while True:
            connection = None if fresh else self.take(self._clock())
            fresh = connection is None
            reply = (connection or await self.dial()).send(head, body)
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

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_S, self._sweep)
        for connection_pool in self._by_url.values():
            connection_pool.sweep(loop.time())
