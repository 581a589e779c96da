"""Asks the engines how much they have, so that requests of other clients count as load too.

Engines are asked at the same time and each at its own pace: a slow one delays no other. What is
known of one steers while it is fresh: `Backend.foreign` and `Backend.asleep` are numbers that the
data path reads; nobody waits for this loop. Knows no request.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from gateway.config.upstream import Upstream
from gateway.control.engine_metrics import read
from gateway.control.typical_load import TypicalLoads
from gateway.control.unreported_hits import UnreportedHits
from gateway.proxy.engines import metric_names
from gateway.proxy.probe import Page
from gateway.routing.backend import Backend
from gateway.routing.fleet import Fleet
from gateway.routing.table import RoutingTable
from gateway.telemetry.engine_reading import EngineFigures, EngineReading
from gateway.telemetry.loops import Loops

log = logging.getLogger("cuvee.scrape")

STALE = 3  # intervals after which what an engine said counts no more
LOOKS = 3  # in a row that must agree that an engine has requests of others, or that it is behind
RARELY_S = 60.0  # between two questions to an engine that shows no metrics
OFF_S = 1.0  # between two looks whether the interval is still 0
BEHIND = 0.1  # of what runs: with more waiting in several looks, an engine has no room


class Pages(Protocol):
    """Where the pages come from: `proxy/probe`."""

    async def page(self, backend: Backend) -> Page:
        """The page of a backend."""

    def upstream(self, pool: str) -> Upstream:
        """How the engines of a pool are spoken to."""


class Watched:
    """What is known of one backend's engine.

    state: `None` if it is not known, or not fresh. good_at_s: when its page was read last, seconds.
    next_s: before then it is not asked. asking: whether a question is under way. told: what the log
    has said of its metrics. extra, waiting: in the last looks, sequences that are not ours, and
    sequences in the queue.
    """

    __slots__ = (
        "asking", "extra", "failures", "good_at_s", "next_s", "state", "told", "waiting"
    )  # fmt: skip

    def __init__(self) -> None:
        self.state: EngineReading | None = None
        self.good_at_s: float | None = None
        self.next_s = 0.0
        self.failures = 0
        self.asking = False
        self.told = ""
        self.extra: deque[int] = deque(maxlen=LOOKS)
        self.waiting: deque[int] = deque(maxlen=LOOKS)

    def __repr__(self) -> str:
        return f"<Watched {self.state!r}, {self.failures} failures>"

    def look(self, state: EngineReading, ours: int) -> None:
        """Take what it said. ours: sequences that this gateway had there at that time."""
        self.state, self.good_at_s = state, state.at_s
        self.extra.append(state.requests - ours)
        self.waiting.append(state.waiting or 0)

    def forget(self) -> None:
        """Nothing is known of it from now on."""
        self.state = None
        self.extra.clear()
        self.waiting.clear()

    @property
    def foreign(self) -> int:
        """Sequences of other clients: the least of the last looks, because requests that were just
        sent or have just ended are on one side of the difference only."""
        return max(0, min(self.extra)) if len(self.extra) == LOOKS else 0

    @property
    def behind(self) -> bool:
        """Whether sequences wait in look after look: it has no room, whatever our sums say."""
        if len(self.waiting) < LOOKS or self.state is None:
            return False
        return min(self.waiting) > max(1.0, BEHIND * self.state.running)


class Scrape:
    """Asks all backends that are up for their metrics, and corrects their load.

    hits: what the engines have counted in their prefix caches.
    """

    def __init__(
        self,
        fleet: Fleet,
        pages: Pages,
        *,
        table: Callable[[], RoutingTable],
        loops: Loops | None = None,
    ) -> None:
        """table: returns the one in force. loops: where it tells how it is."""
        self._loops = loops or Loops()
        self._fleet = fleet
        self._pages = pages
        self._typical = TypicalLoads(table)
        self.hits = UnreportedHits()
        self._watched: dict[str, Watched] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Scrape of {len(self._watched)} backends>"

    async def run(self, interval_s: Callable[[], float]) -> None:
        """Ask all backends at this interval, which may change, for ever; 0: ask none."""
        try:
            while True:
                try:
                    await self.look(interval_s())
                    self._loops.good("scrape", time.time())
                except Exception as error:
                    log.exception("a round of questions for metrics failed")
                    self._loops.failed("scrape", repr(error))
                await asyncio.sleep(interval_s() or OFF_S)
        finally:
            for task in tuple(self._tasks):
                task.cancel()

    async def look(self, interval_s: float) -> None:
        """Begin to ask all backends of which it is time, one in each turn of the event loop, and
        forget what is too old. interval_s: until the next look; 0: ask none and forget all."""
        clock = asyncio.get_running_loop().time
        backends = self._fleet.backends
        self._keep(backends)
        for backend in backends:
            one = self._watched[backend.name]
            if one.state is not None and clock() - one.state.at_s > STALE * interval_s:
                self._forget(backend, one)
            if not interval_s or one.asking or not backend.healthy or clock() < one.next_s:
                continue
            one.asking = True
            task = asyncio.get_running_loop().create_task(self._ask(backend, one))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(0)  # many in one turn would stall streams

    async def answered(self) -> None:
        """Wait for the answers to all questions that are under way."""
        await asyncio.gather(*self._tasks)

    def state(self, backend: str) -> EngineReading | None:
        """What is known of a backend's engine, by the backend's name."""
        one = self._watched.get(backend)
        return None if one is None else one.state

    def figures(self, now_s: float) -> tuple[EngineFigures, ...]:
        """What the metrics show, of all backends that were ever asked."""
        return tuple(self._figures(now_s))

    def _figures(self, now_s: float) -> Iterator[EngineFigures]:
        for backend in self._fleet.backends:
            one = self._watched.get(backend.name)
            if one is None or (one.good_at_s is None and not one.failures):
                continue
            yield EngineFigures(
                backend=backend.name,
                pool=backend.pool,
                state=one.state,
                foreign=one.foreign,
                age_s=None if one.good_at_s is None else now_s - one.good_at_s,
                failures=one.failures,
            )

    def _keep(self, backends: tuple[Backend, ...]) -> None:
        """Watch these backends and no others."""
        before = self._watched
        self._watched = {b.name: before.get(b.name) or Watched() for b in backends}
        self.hits.keep(self._watched)

    async def _ask(self, backend: Backend, one: Watched) -> None:
        try:
            await self._asked(backend, one)
        except Exception:
            log.exception("backend %s could not be asked for its metrics", backend.name)
        finally:
            one.asking = False

    async def _asked(self, backend: Backend, one: Watched) -> None:
        clock = asyncio.get_running_loop().time
        at_s, before = clock(), backend.in_flight
        page, status, reason = await self._pages.page(backend)
        if page is None:
            self._missed(backend, one, status, reason, clock())
            return
        upstream = self._pages.upstream(backend.pool)
        names, models = metric_names(upstream.engine), upstream.names.values()
        state = read(page, names, models=models, at_s=at_s)
        if state is None:
            self._missed(backend, one, 404, "its page has no name that is known", clock())
            return
        if one.told:
            log.info("backend %s (%s) shows its metrics again", backend.name, backend.url)
            one.told = ""
        # What came or ended in between may be on either side of the engine's numbers.
        one.look(state, max(before, backend.in_flight))
        self.hits.look(backend.name, backend.pool, state)
        self._steer(backend, one)

    def _missed(
        self, backend: Backend, one: Watched, status: int | None, reason: str, now_s: float
    ) -> None:
        """There was no page, or none of an engine."""
        if status is None:  # this process was late
            return
        if 300 <= status < 500:  # it has none, and will have none in two seconds
            one.next_s = now_s + RARELY_S
            level, text = logging.INFO, "shows no metrics"
        else:
            one.failures += 1
            level, text = logging.WARNING, "did not show its metrics"
        if one.told != text:
            one.told = text
            log.log(level, "backend %s (%s) %s: %s", backend.name, backend.url, text, reason)

    def _steer(self, backend: Backend, one: Watched) -> None:
        """Let the data path know what an engine has beside what we gave it."""
        asleep = one.state is not None and one.state.sleeping is True
        if asleep != backend.asleep:
            text = "sleeps: it gets no requests" if asleep else "is awake"
            log.warning("backend %s (%s) %s", backend.name, backend.url, text)
        self._fleet.sleeps(backend, asleep, asyncio.get_running_loop().time())
        load = one.foreign * self._typical.load(backend) if one.foreign else 0.0
        if one.behind:
            load = max(load, 1.0 - backend.load)
        backend.foreign = load

    def _forget(self, backend: Backend, one: Watched) -> None:
        one.forget()
        self._steer(backend, one)
