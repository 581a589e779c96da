"""Takes over what was counted on the data plane, at intervals, for the plans and the metrics."""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from gateway import logs
from gateway.config.load import Loaded
from gateway.control.scrape import Scrape
from gateway.journal.journal import DecisionJournal
from gateway.key_desk import KeyDesk
from gateway.otel.exporter import Exporter
from gateway.planning import Planning
from gateway.processes import usages
from gateway.routing.affinity import Affinity
from gateway.routing.fleet import Fleet
from gateway.routing.table import RoutingTable
from gateway.telemetry.engine_reading import EngineFigures
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.seen_request import SeenRequest
from gateway.telemetry.stats_schema import StatsDelta
from gateway.trace_file import TraceFile
from gateway.workers.choice import affinity_of
from gateway.workers.plane import DataPlane

log = logging.getLogger("cuvee")

COUNT_S = 0.2  # between two takings
MOST_SEEN = 4096  # requests that wait for the page: ten seconds of many workers


class Counting:
    """Adds what happened to the observed demand, to the metrics, to the trace and to telemetry.
    desk: for the keys of clients."""

    def __init__(
        self,
        plane: DataPlane,
        planning: Planning,
        metrics: Metrics,
        journal: DecisionJournal,
        engines: Scrape | None = None,
        *,
        add: Callable[[StatsDelta, float], None] | None = None,
    ) -> None:
        """engines: what they say of themselves; `None`: they are not asked. add: takes what
        happened for the plan, with the share of the workers that report; default: `planning`."""
        self._add = add
        self._engines = engines
        self._plane = plane
        self._planning = planning
        self._metrics = metrics
        self._journal = journal
        self._trace, self._telemetry = TraceFile(), Exporter(metrics)
        self.desk = KeyDesk(plane.board, journal, metrics.loops)
        self._seen: deque[SeenRequest] = deque(maxlen=MOST_SEEN)

    @property
    def table(self) -> RoutingTable:
        """The table that the data plane routes by."""
        return self._plane.table

    def affinity(self, fleet: Fleet, switches: Mapping[str, str]) -> Affinity | None:
        """See `affinity_of`."""
        return affinity_of(self._plane, fleet, switches)

    def take_seen(self) -> list[SeenRequest]:
        """Those since the last call, as far as they were kept."""
        taken = list(self._seen)
        self._seen.clear()
        return taken

    def configure(self, loaded: Loaded) -> None:
        """Write the trace, send the telemetry and look after the keys of this configuration from
        now on."""
        self._trace.configure(loaded)
        self._telemetry.configure(loaded)
        self.desk.configure(loaded)
        self._seen.clear()  # their buckets are numbered by the one before

    @contextmanager
    def tracing(self, loaded: Loaded) -> Iterator[None]:
        """Write and send them while this is open, to the last request: the data plane is to end
        before this is left."""
        self.configure(loaded)
        try:
            yield
        finally:
            self.take()
            self._trace.close()
            self._telemetry.close()

    def take(self) -> None:
        """Take what happened since the last call."""
        delta = self._plane.drain()
        if self._engines is not None:
            self._engines.hits.fill(delta, self._planning.plan.buckets)
        workers = self._plane.pids or (os.getpid(),)
        seen = sum(w is not None for w in workers) / len(workers)
        if self._add is None:
            self._planning.add(delta, seen=seen)
        else:
            self._add(delta, seen)
        self._metrics.add(delta)
        since_s = time.time() - asyncio.get_running_loop().time()
        self._metrics.exemplars.add(delta.seen, since_s)
        self._metrics.exemplars.add_traced(delta.traced, since_s)
        self._telemetry.add(delta.spans, delta.untold)
        self._seen.extend(delta.seen)
        self._journal.add(delta.by_pool, delta.uses)
        self._journal.fleet(self._planning.backends)
        self._metrics.bill = running, asleep_usd = self._planning.bill
        self._journal.spend(running, asleep_usd)
        self.desk.add(delta.uses, running)
        self._trace.add(delta.served, delta.unrecorded)
        self._metrics.staffed(self._plane.gauges(), self._plane.replaced)

    def measure(self) -> None:
        """Show what the processes of this gateway use, what their logs lost, how fast the
        engines are and what they say of themselves."""
        found = self._planning.paces.found
        self._metrics.paced(
            {one.pool: one.pace for one in found if one.pace is not None},
            {(name, one.pool): pace for one in found for name, pace in one.backends.items()},
        )
        workers = {f"worker-{n}": pid for n, pid in enumerate(self._plane.pids)}
        own = "supervisor" if workers else "gateway"
        dropped = {own: logs.dropped()}
        if workers:
            dropped |= {f"worker-{n}": g.log_dropped for n, g in self._plane.gauges().items()}
        pids = {own: os.getpid()} | workers | {"solver": self._planning.solver_pid}
        self._metrics.measured(usages(pids), dropped)
        self._metrics.traced(self._trace.requests)
        self._metrics.spans = self._telemetry.requests
        self._metrics.scraped(self.engines)

    @property
    def engines(self) -> Sequence[EngineFigures]:
        """What the engines said of themselves when they were last asked."""
        now_s = asyncio.get_running_loop().time()
        return () if self._engines is None else self._engines.figures(now_s)

    async def run(self) -> None:
        """Take at intervals, for ever."""
        while True:
            await asyncio.sleep(COUNT_S)
            try:
                self.take()
                self._metrics.loops.good("counting", time.time())
            except Exception as error:
                log.exception("what happened could not be counted")
                self._metrics.loops.failed("counting", repr(error))
