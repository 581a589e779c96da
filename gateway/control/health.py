"""Probing the backends: what answers is up, what does not is down. Knows no request."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.routing.backend import Backend
from gateway.routing.fleet import Fleet

log = logging.getLogger("cuvee.health")

Probe = Callable[[Backend], Awaitable[bool | None]]
LOST = 3  # probes without an answer in a row, after which nothing need wait for the backend


class Health:
    """Marks backends by their health endpoint; it alone writes `Backend.healthy`."""

    def __init__(
        self,
        fleet: Fleet,
        probe: Probe,
        *,
        on_probed: Callable[[], None],
        on_lost: Callable[[Backend], None],
    ) -> None:
        """probe: asks a backend whether it is well; `None`: not known, which changes nothing.
        on_probed: called after every round. on_lost: called with a backend that has not answered
        for a while."""
        self._fleet = fleet
        self._probe = probe
        self._on_probed = on_probed
        self._on_lost = on_lost
        self._misses: dict[str, int] = {}  # probes without an answer in a row, by backend
        self._turn = asyncio.Lock()

    async def run(self, interval_s: float) -> None:
        """Probes for ever."""
        while True:
            try:
                await self.probe_all()
            except Exception:
                log.exception("a round of probes failed")
            await asyncio.sleep(interval_s)

    async def probe_all(self) -> None:
        """Probes all backends concurrently; starts one probe per turn of the event loop, so that
        streams are not stalled."""
        backends = self._fleet.backends
        await asyncio.gather(*map(self._mark, backends))
        names = {backend.name for backend in backends}
        self._misses = {name: n for name, n in self._misses.items() if name in names}
        self._on_probed()

    async def _mark(self, backend: Backend) -> None:
        async with self._turn:
            await asyncio.sleep(0)  # 64 probes begun at once held streams up for 15 ms
        up = await self._probe(backend)
        if up is None:
            return
        misses = self._misses[backend.name] = 0 if up else self._misses.get(backend.name, 0) + 1
        if misses == LOST:
            self._on_lost(backend)
        if up == backend.healthy:
            return
        backend.probed(up)
        log.warning("backend %s (%s) is %s", backend.name, backend.url, "up" if up else "down")
