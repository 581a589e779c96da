"""A listening port: accepts connections, ends those that are too slow, drains. Knows no request."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

from gateway.errors import GatewayError
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.own_context import own_context
from gateway.proxy.http.request import ClientLimits, Request
from gateway.proxy.http.sockets import BACKLOG, bound, places
from gateway.proxy.http.tls import TlsFiles

log = logging.getLogger("cuvee")

SWEEP_S = 0.25  # between two looks at all deadlines: one timer is cheaper than one per connection
FRESH_S = 0.5  # for so long, at least, an idle connection is kept when the listener closes
LAST_S = 1.0  # for the errors that end the last answers to leave
HANDSHAKE_S, SHUTDOWN_S = 10.0, 5.0  # of TLS, at most
LOG_S = 60.0  # between two lines that say the same


class Listener:
    """A listening port and its connections, from `listen` to `close`.

    serve: has a request served; see `Server`. closing: whether `leave` or `close` was called.
    connections: the open ones. refused: see `Server`. evicted: connections closed to make room,
    since the start. budget: for the bodies in memory.
    """

    def __init__(
        self,
        limits: ClientLimits,
        serve: Callable[[ClientConnection, Request], None],
        *,
        refused: Callable[[GatewayError], None] = lambda _: None,
        budget: BodyBudget | None = None,
    ) -> None:
        """budget: of the listener, and of the backends' pools; default: no limit."""
        self.limits = limits
        self.serve = serve
        self.refused = refused
        self.closing = False
        self.connections: set[ClientConnection] = set()
        self.budget = budget or BodyBudget()
        self.budget.relieve = self._relieve
        self.evicted = 0
        self._servers: list[asyncio.Server] = []
        self._held: list[socket.socket] = []
        self._files: TlsFiles | None = None
        self._every_client = True
        self._securing: asyncio.Task[None] | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._log_due_s: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Listener {len(self.connections)} connections>"

    async def listen(self, host: str, port: int) -> int:
        """Begin to accept at the first address of a host; return the port, which may be 0 for a
        free one. Raises OSError."""
        held = bound(next(places(host, port)))
        number = int(held.getsockname()[1])
        await self.accept([held])
        return number

    async def accept(self, sockets: Sequence[socket.socket]) -> None:
        """Begin to accept on these sockets, which the listener closes when it closes."""
        self._held = [*self._held, *sockets]
        self._servers += await self._serving(sockets)
        self._sweep()

    async def _serving(self, sockets: Sequence[socket.socket]) -> list[asyncio.Server]:
        """Servers on copies of these sockets. Raises OSError for certificates that cannot be
        used."""
        loop, files = asyncio.get_running_loop(), self._files
        tls: dict[str, Any] = {}
        if files is not None:
            tls["ssl"] = own_context(files, every_client=self._every_client)
            tls |= {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": SHUTDOWN_S}
        return [
            await loop.create_server(
                lambda: cast(asyncio.Protocol, ClientConnection(self)),
                sock=held.dup(),
                backlog=BACKLOG,
                **tls,
            )
            for held in sockets
        ]

    def secure(self, files: TlsFiles | None, *, every_client: bool = True) -> None:
        """Speak TLS with these files to whoever connects from now on; `None`: no TLS. What is
        connected goes on as it is. every_client: whether each must show a certificate."""
        same = _identity(files) == _identity(self._files)
        self._files, self._every_client = files, every_client
        if self._held and not same:
            loop = asyncio.get_running_loop()
            self._securing = loop.create_task(self._renew(self._securing))

    async def _renew(self, before: asyncio.Task[None] | None) -> None:
        """Put other servers in the place of those that accept. Who waits to be accepted waits at
        the sockets, which stay."""
        loop = asyncio.get_running_loop()
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        try:
            renewed = await self._serving(self._held)
        except OSError as error:
            log.error("the certificates cannot be used, the last good ones stay: %s", error)
            return
        former, self._servers = self._servers, renewed
        # asyncio's own loop serves what it has accepted a turn later, and by then the server must
        # not be closed; uvloop has nothing to take away here.
        for server in former:
            for held in server.sockets:
                loop.remove_reader(held.fileno())
        await asyncio.sleep(0)
        for server in former:
            server.close()
        if not self._held:  # nothing is accepted any more
            self.stop_accepting()

    def stop_accepting(self) -> None:
        """Accept no more; what is connected goes on."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for held in self._held:
            held.close()
        self._held = []

    def leave(self) -> None:
        """Keep no connection alive after its answer from now on, but go on accepting."""
        self.closing = True

    async def close(
        self,
        patience_s: float,
        end: Callable[[], None] | None = None,
        fresh_s: float = FRESH_S,
    ) -> None:
        """Accept no more, let the answers under way end within `patience_s`; then call `end`, which
        may end the others by an error, and soon reset what is left. fresh_s: for how long after its
        last answer a connection may get one more request, whose answer then tells the end."""
        self.closing = True
        self.stop_accepting()
        await self._empty(patience_s, max(FRESH_S, min(fresh_s, patience_s / 2)))
        if end is not None and self.connections:
            end()
            await self._empty(LAST_S, FRESH_S)
        for client in tuple(self.connections):
            client.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _empty(self, patience_s: float, fresh_s: float) -> None:
        """Close idle connections until there are none left, at most for so long. One that was just
        made, or just got an answer, may have a request under way. So may one whose process had no
        CPU for a while: only what is idle at two looks, with reading between them, is closed."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + patience_s
        before: dict[ClientConnection, float] = {}
        while self.connections and loop.time() < until_s:
            idle_until_s = loop.time() - fresh_s + self.limits.idle_s
            idle = {
                client: client.deadline_s
                for client in self.connections
                if client.idle and client.deadline_s <= idle_until_s
            }
            for client, deadline_s in idle.items():
                if before.get(client) == deadline_s:
                    client.close()
            before = idle
            await asyncio.sleep(SWEEP_S / 5)

    def make_room(self, newest: ClientConnection) -> None:
        """Close the connections that were idle for longest, or the newest one if none is idle.

        A process without a free file descriptor could neither accept nor reach its backends.
        """
        self._warn("the limit of %d client connections is reached", self.limits.connections)
        idle = [client for client in self.connections if client.idle and client is not newest]
        idle.sort(key=lambda client: client.deadline_s)
        # Several at once, because finding them means to look at all.
        for client in idle[: 1 + len(idle) // 100] or (newest,):
            self.connections.discard(client)
            self.evicted += 1
            client.close()

    def _relieve(self) -> None:
        """Refuse uploads that are not complete, and cut off clients that do not read large answers,
        whoever was idle for longest first, until the budget is kept."""
        budget = self.budget
        self._warn("the limit of %d bytes of bodies in memory is reached", budget.limit)
        holders = [client for client in self.connections if client.holds]
        for client in sorted(holders, key=lambda client: client.progress_s):
            if budget.used > budget.limit:
                client.overload()

    def _warn(self, message: str, limit: int) -> None:
        """Log a line, unless the same one was logged a moment ago."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._log_due_s.get(message, 0.0):
            self._log_due_s[message] = now_s + LOG_S
            log.warning(message, limit)

    def _sweep(self) -> None:
        """End the connections whose deadline has passed."""
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_S, self._sweep)
        now_s = loop.time()
        for client in tuple(self.connections):
            if client.deadline_s <= now_s:
                client.expire()


def _identity(files: TlsFiles | None) -> tuple[str, ...]:
    return () if files is None else files.identity
