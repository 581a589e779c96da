"""A listening port: accepts connections, ends those that are too slow, drains. Knows no request."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import cast

from gateway.errors import GatewayError
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.request import ClientLimits, Request
from gateway.proxy.http.sockets import BACKLOG, bound, places

log = logging.getLogger("cuvee")

SWEEP_S = 0.25  # between two looks at all deadlines: one timer is cheaper than one per connection
FRESH_S = 0.5  # for so long, at least, an idle connection is kept when the listener closes
LAST_S = 1.0  # for the errors that end the last answers to leave
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
        loop = asyncio.get_running_loop()
        for held in sockets:
            server = await loop.create_server(
                lambda: cast(asyncio.Protocol, ClientConnection(self)), sock=held, backlog=BACKLOG
            )
            self._servers.append(server)
        self._sweep()

    def stop_accepting(self) -> None:
        """Accept no more; what is connected goes on."""
        for server in self._servers:
            server.close()
        self._servers.clear()

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
