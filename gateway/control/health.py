"""Probes the backends: one that answers is up, one that does not is down. Knows no request."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from gateway.routing.backend import Backend
from gateway.routing.fleet import Fleet
from gateway.telemetry.loops import Loops

log = logging.getLogger("cuvee.health")

# Whether a backend can serve, and the reason; `None`: unknown, which changes nothing.
Probe = Callable[[Backend], Awaitable[tuple[bool | None, str]]]
LOST = 3  # failed probes in a row, after which requests stop waiting for the backend's first byte


class Health:
    """Marks backends as up or down by their health endpoint."""

    def __init__(
        self,
        fleet: Fleet,
        probe: Probe,
        *,
        on_probed: Callable[[], None],
        on_lost: Callable[[Backend], None],
        loops: Loops | None = None,
    ) -> None:
        """on_probed: called after every round. on_lost: called with a backend whose last `LOST`
        probes failed. loops: where it tells how it is."""
        self._fleet = fleet
        self._probe = probe
        self._on_probed = on_probed
        self._on_lost = on_lost
        self._loops = loops or Loops()
        self._failed: dict[str, int] = {}  # failed probes in a row, by name of the backend
        self._down_at_s: dict[str, float] = {}  # of those that are down and were up before
        self._turn, self._round = asyncio.Lock(), asyncio.Lock()

    async def run(self, interval_s: Callable[[], float]) -> None:
        """Probe all backends at this interval, which may change, for ever."""
        while True:
            try:
                await self.probe_all()
                self._loops.good("probes", time.time())
            except Exception as error:
                log.exception("a round of probes failed")
                self._loops.failed("probes", repr(error))
            await asyncio.sleep(interval_s())

    async def probe_all(self) -> None:
        """Probe all backends concurrently; start one probe per turn of the event loop, so that
        streams are not stalled. Rounds follow one another: probes at the same time would count as
        failures in a row."""
        async with self._round:
            backends = self._fleet.backends
            await asyncio.gather(*map(self._mark, backends))
            names = {backend.name for backend in backends}
            self._failed = {name: n for name, n in self._failed.items() if name in names}
            self._down_at_s = {name: s for name, s in self._down_at_s.items() if name in names}
            self._on_probed()

    async def _mark(self, backend: Backend) -> None:
        async with self._turn:
            await asyncio.sleep(0)  # 64 probes in one turn stalled streams for 15 ms
        up, reason = await self._probe(backend)
        if up is None:
            return
        failed = self._failed[backend.name] = 0 if up else self._failed.get(backend.name, 0) + 1
        if failed == LOST:
            self._on_lost(backend)
        if up != backend.healthy:
            self._fleet.probed(backend, up, asyncio.get_running_loop().time())
            self._tell(backend, reason)

    def _tell(self, backend: Backend, reason: str) -> None:
        """Log that a backend has come up or gone down."""
        name, now_s = f"{backend.name} ({backend.url})", asyncio.get_running_loop().time()
        if not backend.healthy:
            self._down_at_s[backend.name] = now_s
            log.warning("backend %s is down: %s", name, reason)
        elif (down_at_s := self._down_at_s.pop(backend.name, None)) is not None:
            log.warning("backend %s is up again after %.1f s", name, now_s - down_at_s)
        else:
            log.info("backend %s is up", name)
