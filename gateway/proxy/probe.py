"""Health probes of backends, with the HTTP client of the data path. Knows no fleet.

It delays streams of the same process less than aiohttp would: 64 probes at once over aiohttp
stalled them for 15 ms.
"""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.config.upstream import Upstream
from gateway.errors import Unavailable, UpstreamError, UpstreamTimeout
from gateway.proxy.engines import ANY, dialects
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.pool import LATE_S, ConnectionPools
from gateway.proxy.http.reply import Reply
from gateway.proxy.targets import header_lines, tls_files
from gateway.routing.backend import Backend

# Whether the backend can serve, and what shows it, for the log; `None` if this process itself was
# late or has no free file descriptor, which says nothing about the backend.
Verdict = tuple[bool | None, str]


class Probe:
    """Probes backends on connections of its own; an async context manager."""

    def __init__(self, *, timeout_s: float, upstreams: Mapping[str, Upstream]) -> None:
        """Made in a running event loop. timeout_s: until the head of the answer. upstreams: by
        pool; for other pools the engine is unknown, and asks for no key."""
        self._follow(timeout_s, upstreams)
        # Twice the timeout, so that it is the timeout of `answers` that ends a probe.
        self._connection_pools = ConnectionPools(connect_timeout_s=2 * timeout_s)

    async def __aenter__(self) -> "Probe":
        await self._connection_pools.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection_pools.__aexit__(*_)

    def _follow(self, timeout_s: float, upstreams: Mapping[str, Upstream]) -> None:
        self._timeout_s = timeout_s
        self._dialects = dialects(upstreams)
        self._lines = {pool: header_lines(upstream) for pool, upstream in upstreams.items()}
        self._tls = {pool: tls_files(upstream) for pool, upstream in upstreams.items()}

    def configure(self, *, timeout_s: float, upstreams: Mapping[str, Upstream]) -> None:
        """Probe by these settings from now on."""
        self._follow(timeout_s, upstreams)
        self._connection_pools.configure(connect_timeout_s=2 * timeout_s)

    def forget(self, pool: str, url: str) -> None:
        """Close the connections to a backend of this pool and base URL, which left the fleet."""
        self._connection_pools.forget(self._health_url(pool, url))

    async def well(self, backend: Backend) -> Verdict:
        """Whether a backend can serve, by its health path."""
        return await self.answers(self._health_url(backend.pool, backend.url), backend.pool)

    def _health_url(self, pool: str, url: str) -> str:
        return url + self._dialects.get(pool, ANY).health

    async def answers(self, url: str, pool: str = "") -> Verdict:
        """Whether a GET of this URL answers 200 in time; a redirect does not count. pool: whose
        headers and certificates are used."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Verdict] = loop.create_future()
        due_s = loop.time() + self._timeout_s
        fiber = Fiber()
        timer = loop.call_at(due_s, fiber.cancel, UpstreamTimeout("The probe took too long."))
        try:
            fiber.start(self._ask(url, pool, answer, due_s))
            return await answer
        finally:
            timer.cancel()
            fiber.cancel(UpstreamError("The probe was given up."))

    async def _ask(
        self, url: str, name: str, answer: asyncio.Future[Verdict], due_s: float
    ) -> None:
        reply: Reply | None = None
        path = urlsplit(url).path
        verdict: Verdict = False, f"{path}: the probe failed"
        try:
            # The URL includes the path: there is only one.
            pool = self._connection_pools.pool(url, tls=self._tls.get(name))
            head = pool.request_start("GET", "") + self._lines.get(name, b"") + b"\r\n"
            reply = await pool.send(head, b"")
            # The body is not read: it may be long.
            verdict = reply.status == 200, f"{path} answered {reply.status}"
        except Unavailable as error:  # of file descriptors: a fault of this machine
            verdict = None, str(error)
        except UpstreamTimeout:
            late = asyncio.get_running_loop().time() - due_s > LATE_S
            reason = f"{path} did not answer within {self._timeout_s:g} s"
            verdict = (None if late else False), reason
        except UpstreamError as error:
            verdict = False, f"{path}: {error}"
        finally:
            if reply is not None:
                reply.close()
            if not answer.done():
                answer.set_result(verdict)
