"""Where and how a request is sent to each backend: connections, first lines, keys, time limits.

Knows no request: all that requests to one endpoint of one backend have in common is made once.
"""

from collections.abc import Mapping
from typing import Final

from gateway.config.schema import GatewaySection
from gateway.config.upstream import TlsPaths, Upstream
from gateway.proxy.engines import ANY, EngineDialect, dialects
from gateway.proxy.http.pool import ConnectionPool, ConnectionPools
from gateway.proxy.http.tls import TlsFiles
from gateway.routing.backend import Backend
from gateway.routing.endpoints import Endpoint

UNKNOWN: Final = Upstream()


class Target:
    """One endpoint of one backend; never changed.

    connections: to the backend. start: the request line and the header lines that all requests
    have. first_byte_s, unary_s: time limits, seconds. forwards: whether the backend gets the keys
    of clients.
    """

    __slots__ = ("connections", "first_byte_s", "forwards", "start", "unary_s")

    def __init__(
        self,
        *,
        connections: ConnectionPool,
        start: bytes,
        first_byte_s: float,
        unary_s: float,
        forwards: bool,
    ) -> None:
        self.connections = connections
        self.start = start
        self.first_byte_s = first_byte_s
        self.unary_s = unary_s
        self.forwards = forwards

    def __repr__(self) -> str:
        return f"<Target {self.connections!r}>"  # not the lines: they may hold a key


class Targets:
    """All targets of one process, made when they are first needed."""

    def __init__(self, connection_pools: ConnectionPools) -> None:
        self._connection_pools = connection_pools
        self._made: dict[tuple[str, str], Target] = {}

    def __repr__(self) -> str:
        return f"<Targets {len(self._made)} made>"

    def configure(self, upstreams: Mapping[str, Upstream], settings: GatewaySection) -> None:
        """Make targets by these settings from now on."""
        self._upstreams = dict(upstreams)
        self._dialects = dialects(upstreams)
        self._first_byte_s, self._unary_s = settings.first_byte_timeout_s, settings.unary_timeout_s
        self._made.clear()

    def target(self, backend: Backend, endpoint: Endpoint) -> Target:
        """The target of an endpoint of a backend."""
        key = (backend.url, endpoint.path)
        target = self._made.get(key)
        if target is None:
            target = self._made[key] = self.made(backend, "POST", endpoint.path)
        return target

    def dialect(self, backend: Backend) -> EngineDialect:
        """How the engine of a backend speaks."""
        return self.dialect_of(backend.pool)

    def dialect_of(self, pool: str) -> EngineDialect:
        """How the engines of a pool speak, by its name."""
        return self._dialects.get(pool, ANY)

    def forget(self, backend: Backend) -> None:
        """Close the connections of a backend that left the fleet, busy ones when they get idle."""
        for key in [key for key in self._made if key[0] == backend.url]:
            del self._made[key]
        self._connection_pools.forget(backend.url)

    def made(self, backend: Backend, method: str, path: str) -> Target:
        """A target that is not kept: another path of a backend, by another method. path: as it is
        written into the first line."""
        upstream = self._upstreams.get(backend.pool, UNKNOWN)
        connections = self._connection_pools.pool(
            backend.url,
            reuse_s=self.dialect(backend).reuse_s,
            tls=tls_files(upstream),
            connect_timeout_s=upstream.connect_timeout_s,
        )
        start = connections.request_start(method, path) + header_lines(upstream)
        return Target(
            connections=connections,
            start=start,
            first_byte_s=upstream.first_byte_timeout_s or self._first_byte_s,
            unary_s=upstream.unary_timeout_s or self._unary_s,
            forwards=upstream.forwards,
        )


def header_lines(upstream: Upstream) -> bytes:
    """The header lines that the engines of a pool get with every request."""
    return b"".join(
        [f"{name.lower()}: {value}\r\n".encode("latin-1") for name, value in upstream.headers]
    )


def tls_files(upstream: Upstream) -> TlsFiles | None:
    """The files for connections to a pool's engines; `None`: as the system has it."""
    return files_of(upstream.tls)


def files_of(paths: TlsPaths | None) -> TlsFiles | None:
    """Files of the configuration as connections take them; `None`: there are none."""
    if paths is None:
        return None
    return TlsFiles(
        ca=paths.ca,
        certificate=paths.certificate,
        key=paths.key,
        print=paths.print,
        server_name=paths.server_name,
    )
