"""Asks a backend whether it is well, with the data path's own HTTP client, which stalls the streams
of the same process less than any other would. Knows no fleet.
"""

import asyncio

from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.proxy.engines import ANY, EngineDialect
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.pool import LATE_S, ConnectionPools
from gateway.proxy.http.reply import Reply
from gateway.routing.backend import Backend

Found = asyncio.Future[bool | None]


class Probe:
    """Probes over HTTP, on connections of its own; an async context manager."""

    def __init__(self, *, timeout_s: float, dialects: dict[str, EngineDialect]) -> None:
        """Made in a running event loop. timeout_s: until the head of an answer is here. dialects:
        by pool; of a pool that is not in it the engine is not known."""
        self._timeout_s = timeout_s
        self._dialects = dialects
        self._connection_pools = ConnectionPools(
            connect_timeout_s=2 * timeout_s
        )  # it is ours that ends a probe

    async def __aenter__(self) -> "Probe":
        await self._connection_pools.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection_pools.__aexit__(*_)

    async def well(self, backend: Backend) -> bool | None:
        """Whether a backend says that it can serve; `None`: not known, as `answers` says."""
        dialect = self._dialects.get(backend.pool, ANY)
        return await self.answers(backend.url + dialect.health)

    async def answers(self, url: str) -> bool | None:
        """Whether a GET of `url` answers 200 in time, and does not only point elsewhere; `None` if
        this process itself was too late to know."""
        loop = asyncio.get_running_loop()
        found: Found = loop.create_future()
        due_s = loop.time() + self._timeout_s
        fiber = Fiber()
        timer = loop.call_at(due_s, fiber.cancel, UpstreamTimeout("The probe took too long."))
        try:
            fiber.start(self._ask(url, found, due_s))
            return await found
        finally:
            timer.cancel()
            fiber.cancel(UpstreamError("Nobody waits for the probe any more."))

    async def _ask(self, url: str, found: Found, due_s: float) -> None:
        reply: Reply | None = None
        well: bool | None = False
        try:
            pool = self._connection_pools.pool(url)  # of the path too: a backend has but this one
            reply = await self._connection_pools.send(pool, pool.prefix("GET", "") + b"\r\n", b"")
            well = reply.status == 200  # whatever the body: it may be long
        except UpstreamTimeout:
            if asyncio.get_running_loop().time() - due_s > LATE_S:
                well = None
        except UpstreamError:
            pass
        finally:
            if reply is not None:
                reply.close()
            if not found.done():
                found.set_result(well)
