"""A port: accepts connections, ends those that take too long, drains. Knows no request."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.request import ClientLimits, Request

SWEEP_S = 0.25
BACKLOG = 1024


class Listener:
    """A listening port and its connections, from `listen` to `close`."""

    def __init__(
        self,
        limits: ClientLimits,
        serve: Callable[[ClientConnection, Request], None],
        *,
        shared: bool = False,
    ) -> None:
        """serve: has a request served. shared: whether other processes listen on the same port."""
        self.limits = limits
        self.serve = serve
        self.closing = False
        self.open: set[ClientConnection] = set()
        self._shared = shared
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Listener {len(self.open)} connections>"

    async def listen(self, host: str, port: int) -> int:
        """Begins to accept; the port (0 takes a free one). Raises OSError."""
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
        """Accepts no more, lets answers under way end within `patience_s`, then breaks them off."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + patience_s
        while self.open and loop.time() < until_s:
            for client in tuple(self.open):
                if client.idle:
                    client.close()
            await asyncio.sleep(SWEEP_S / 5)
        for client in tuple(self.open):
            client.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_S, self._sweep)
        now_s = loop.time()
        for client in tuple(self.open):
            if client.due_s <= now_s:
                client.overdue()
