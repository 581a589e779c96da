"""Probes of backends for their health and their metrics, with the HTTP client of the data path.
Knows no fleet.

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
from gateway.proxy.targets import UNKNOWN, header_lines, tls_files
from gateway.routing.backend import Backend

# Whether the backend can serve, and what shows it, for the log; `None` if this process itself was
# late or has no free file descriptor, which says nothing about the backend.
Verdict = tuple[bool | None, str]
# The page of an engine's metrics, or `None`; and the status of the answer, 0 if there was none,
# `None` if this process itself was late or has no free file descriptor; and a text for the log.
Page = tuple[bytes | None, int | None, str]

METRICS = "/metrics"  # of all engines
LONGEST_PAGE = 4 << 20  # bytes; vLLM's page has 74 kB for each rank of data parallelism


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
        self._upstreams = dict(upstreams)

    def configure(self, *, timeout_s: float, upstreams: Mapping[str, Upstream]) -> None:
        """Probe by these settings from now on."""
        self._follow(timeout_s, upstreams)
        self._connection_pools.configure(connect_timeout_s=2 * timeout_s)

    def forget(self, pool: str, url: str) -> None:
        """Close the connections to a backend of this pool and base URL, which left the fleet."""
        self._connection_pools.forget(self._health_url(pool, url))
        self._connection_pools.forget(url + METRICS)

    def upstream(self, pool: str) -> Upstream:
        """How the engines of a pool are spoken to."""
        return self._upstreams.get(pool, UNKNOWN)

    async def page(self, backend: Backend) -> Page:
        """The page of a backend's metrics, within the time of a probe."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Page] = loop.create_future()
        due_s = loop.time() + self._timeout_s
        fiber = Fiber()
        timer = loop.call_at(due_s, fiber.cancel, UpstreamTimeout("The metrics took too long."))
        try:
            fiber.start(self._load(backend, answer, due_s))
            return await answer
        finally:
            timer.cancel()
            fiber.cancel(UpstreamError("The question was given up."))

    async def _load(self, backend: Backend, answer: "asyncio.Future[Page]", due_s: float) -> None:
        reply: Reply | None = None
        page: Page = None, 0, f"{METRICS}: the question failed"
        try:
            tls = self._tls.get(backend.pool)
            pool = self._connection_pools.pool(backend.url + METRICS, tls=tls)
            lines = b"accept-encoding: identity\r\n" + self._lines.get(backend.pool, b"")
            reply = await pool.send(pool.request_start("GET", "") + lines + b"\r\n", b"")
            page = None, reply.status, f"{METRICS} answered {reply.status}"
            if reply.status == 200:
                page = await _bounded(reply), 200, page[2]
        except Unavailable as error:  # of file descriptors: a fault of this machine
            page = None, None, str(error)
        except UpstreamTimeout:
            late = asyncio.get_running_loop().time() - due_s > LATE_S
            reason = f"{METRICS} did not come within {self._timeout_s:g} s"
            page = None, None if late else 0, reason
        except UpstreamError as error:
            page = None, 0, f"{METRICS}: {error}"
        finally:
            if reply is not None:
                reply.close()
            if not answer.done():
                answer.set_result(page)

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


async def _bounded(reply: Reply) -> bytes:
    """The whole body. Raises UpstreamError if it is too long or breaks off."""
    pieces: list[bytes] = []
    size = 0

    def take(piece: bytes, _: bytes | None) -> None:
        nonlocal size
        size += len(piece)
        if size > LONGEST_PAGE:
            reply.pause()
            reply.notify()
            return
        pieces.append(piece)

    reply.stream_to(take)
    while size <= LONGEST_PAGE and not reply.complete:
        if reply.error is not None:
            raise reply.error
        await reply.next_change()
    if size > LONGEST_PAGE:
        raise UpstreamError(f"is longer than {LONGEST_PAGE >> 20} MiB")
    return b"".join(pieces)
