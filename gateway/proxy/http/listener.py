"""A listening port: accepts connections, ends those that are too slow, drains. Knows no request."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import cast

from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.request import ClientLimits, Request

log = logging.getLogger("cuvee")

SWEEP_S = 0.25  # between two looks at all deadlines: one timer is cheaper than one per connection
BACKLOG = 1024
LOG_S = 60.0  # between two lines that say the same


class Listener:
    """A listening port and its connections, from `listen` to `close`.

    serve: has a request served; see `Server`. closing: whether `close` was called. connections:
    the open ones. budget: for the bodies in memory.
    """

    def __init__(
        self,
        limits: ClientLimits,
        serve: Callable[[ClientConnection, Request], None],
        *,
        budget: BodyBudget | None = None,
        shared: bool = False,
    ) -> None:
        """budget: of the listener, and of the backends' pools; default: no limit. shared: whether
        other processes listen on the same port (SO_REUSEPORT)."""
        self.limits = limits
        self.serve = serve
        self.closing = False
        self.connections: set[ClientConnection] = set()
        self.budget = budget or BodyBudget()
        self.budget.relieve = self._relieve
        self._shared = shared
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._log_due_s: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Listener {len(self.connections)} connections>"

    async def listen(self, host: str, port: int) -> int:
        """Begin to accept; return the port, which may be 0 for a free one. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: cast(asyncio.Protocol, ClientConnection(self)),
            host,
            port,
            backlog=BACKLOG,
            reuse_port=self._shared or None,
        )
        self._sweep()
        listening: socket.socket = self._server.sockets[0]
        return int(listening.getsockname()[1])

    async def close(self, patience_s: float) -> None:
        """Accept no more, let the answers under way end within `patience_s`, then reset the other
        connections."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + patience_s
        while self.connections and loop.time() < until_s:
            for client in tuple(self.connections):
                if client.idle:
                    client.close()
            await asyncio.sleep(SWEEP_S / 5)
        for client in tuple(self.connections):
            client.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()

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
