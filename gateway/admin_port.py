"""The admin port of one gateway: its socket, which a successor may get, and the server on it."""

import logging
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack

from gateway.access.admin_access import AdminAccess, AdminOpener
from gateway.admin.server import AdminServer
from gateway.config.admin_keys import AdminKey
from gateway.config.load import Loaded
from gateway.insight import Insight
from gateway.proxy.targets import files_of
from gateway.runtime import naming
from gateway.workers.handover import Handover

log = logging.getLogger("cuvee")


class AdminPort:
    """Open while it is in use; an async context manager."""

    def __init__(self, loaded: Loaded, insight: Insight, handover: Handover) -> None:
        """handover: has the socket of a predecessor, if there is one."""
        self._settings, self._insight, self._handover = loaded.config.gateway, insight, handover
        self._loaded = loaded
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
            self._server = AdminServer(
                self._insight.answers(),
                self._insight.actions(),
                streams=self._insight.streams(),
                host=host,
                port=port,
                listening=self._socket.dup(),
            )
            self.configure(self._loaded)
            await stack.enter_async_context(self._server)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def configure(self, loaded: Loaded) -> None:
        """Let in whom this configuration lets in, from now on."""
        keys = loaded.admin
        access = AdminAccess(_opener(keys.read), _opener(keys.write))
        self._server.configure(access, files_of(loaded.admin_tls))

    def announce(self, host: str, port: int) -> None:
        """Have the log say where the gateway listens. host, port: of the data port."""
        scheme = "http" if self._loaded.tls is None else "https"
        log.info("listening on %s://%s:%d, admin on %s", scheme, host, port, self.url)

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


def _opener(key: AdminKey | None) -> AdminOpener | None:
    return None if key is None else AdminOpener(key.digest, key.certificates)
