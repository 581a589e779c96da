"""Probing the backends: what answers is up, what does not is down. Knows no request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.routing.backend import Backend, Fleet

log = logging.getLogger("cuvee.health")

Probe = Callable[[str], Awaitable[bool]]


class Health:
    """Marks backends by their `/health`; it alone writes `Backend.healthy`."""

    def __init__(self, fleet: Fleet, probe: Probe, *, changed: Callable[[], None]) -> None:
        """probe: whether a URL answers. changed: called after a backend came up."""
        self._fleet = fleet
        self._probe = probe
        self._changed = changed

    async def run(self, interval_s: float) -> None:
        """Probes for ever."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("a round of probes failed")
            await asyncio.sleep(interval_s)

    async def look(self) -> None:
        """Probes every backend once, all at the same time."""
        await asyncio.gather(*map(self._mark, self._fleet.backends))

    async def _mark(self, backend: Backend) -> None:
        up = await self._probe(f"{backend.url}/health")
        if up == backend.healthy:
            return
        backend.healthy = up
        log.warning("backend %s (%s) is %s", backend.name, backend.url, "up" if up else "down")
        if up:
            backend.succeeded()
            self._changed()
