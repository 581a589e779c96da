"""The admin port of one gateway: its socket, which a successor may get, and the server on it."""

import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack

from gateway.admin.server import AdminServer
from gateway.config.schema import GatewaySection
from gateway.insight import Insight
from gateway.runtime import naming
from gateway.workers.handover import Handover


class AdminPort:
    """Open while it is in use; an async context manager."""

    def __init__(self, settings: GatewaySection, insight: Insight, handover: Handover) -> None:
        """handover: has the socket of a predecessor, if there is one."""
        self._settings, self._insight, self._handover = settings, insight, handover
        self._stack = AsyncExitStack()
        self._server: AdminServer
        self._socket: socket.socket

    async def __aenter__(self) -> "AdminPort":
        """Listen, and answer. Raises OSError when another program has the port."""
        host, port = self._settings.admin_host, self._settings.admin_port
        async with AsyncExitStack() as stack:
            with naming("gateway.admin_port", host, port):
                self._socket = self._handover.admin_port(host, port)
            stack.callback(self._socket.close)
            await stack.enter_async_context(self._insight.page)
            self._server = await stack.enter_async_context(
                AdminServer(
                    self._insight.answers(),
                    self._insight.actions(),
                    streams=self._insight.streams(),
                    host=host,
                    port=port,
                    listening=self._socket.dup(),
                )
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """The base URL, for clients on this machine."""
        return self._server.url

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The listening sockets that a successor gets: none of a port that was free by chance."""
        return [self._socket] if self._settings.admin_port else []

    def leave(self) -> None:
        """A successor serves the port."""
        self._server.leave()
        self._socket.close()
