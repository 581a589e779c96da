"""Probing the backends: what answers is up, what does not is down. Knows no request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.routing.backend import Backend, Fleet

log = logging.getLogger("cuvee.health")

Probe = Callable[[str], Awaitable[bool | None]]
LOST = 3  # probes without an answer in a row, after which nobody need wait for the backend


class Health:
    """Marks backends by their `/health`; it alone writes `Backend.healthy`."""

    def __init__(
        self,
        fleet: Fleet,
        probe: Probe,
        *,
        looked: Callable[[], None],
        lost: Callable[[Backend], None],
    ) -> None:
        """probe: whether a URL answers; `None`: not known, then nothing changes. looked: called
        after every round. lost: told of a backend that has not answered for a while."""
        self._fleet = fleet
        self._probe = probe
        self._looked = looked
        self._lost = lost
        self._silent: dict[str, int] = {}
        self._turn = asyncio.Lock()

    async def run(self, interval_s: float) -> None:
        """Probes for ever."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("a round of probes failed")
            await asyncio.sleep(interval_s)

    async def look(self) -> None:
        """Probes every backend once, all at the same time but for a turn of the event loop."""
        await asyncio.gather(*map(self._mark, self._fleet.backends))
        self._looked()

    async def _mark(self, backend: Backend) -> None:
        async with self._turn:
            await asyncio.sleep(0)  # one begins per turn: between them the streams go on
        up = await self._probe(f"{backend.url}/health")
        if up is None:
            return
        silent = self._silent[backend.name] = 0 if up else self._silent.get(backend.name, 0) + 1
        if silent == LOST:
            self._lost(backend)
        if up == backend.healthy:
            return
        backend.probed(up)
        log.warning("backend %s (%s) is %s", backend.name, backend.url, "up" if up else "down")
