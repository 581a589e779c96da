"""The values of all metrics. Adds up the statistics of all workers; reads the fleet at each scrape.

Names and meanings of the metrics are in `definitions`. Knows no request.
"""

from collections.abc import Iterator, Mapping, Sequence

from gateway.routing.fleet import Fleet
from gateway.telemetry import control_definitions as control
from gateway.telemetry import definitions as metric
from gateway.telemetry.cluster_metrics import ClusterFigures, cluster_families
from gateway.telemetry.discovery_metrics import discovered
from gateway.telemetry.engine_metric_families import engines
from gateway.telemetry.engine_reading import EngineFigures
from gateway.telemetry.exemplars import Exemplars
from gateway.telemetry.exposition import Family, labelled, openmetrics, text
from gateway.telemetry.kv_metrics import kv_families
from gateway.telemetry.kv_reading import KvFigures
from gateway.telemetry.loop_metrics import loop_families
from gateway.telemetry.loops import Loops
from gateway.telemetry.metric import Metric
from gateway.telemetry.plan_metrics import plan_families, spending
from gateway.telemetry.prefix_hits import PrefixHits
from gateway.telemetry.process_metrics import processes, workers
from gateway.telemetry.request_metrics import ByClass, latencies, promises, requests, summed
from gateway.telemetry.scaling_metrics import ScalingFigures, scaling
from gateway.telemetry.size_metrics import Figures, estimates, learned
from gateway.telemetry.stats_schema import (
    LAG_S,
    PoolStats,
    ProcessUsage,
    StatsDelta,
    WorkerGauges,
)
from planner.model.plan import Plan


class Metrics:
    """The metrics of one gateway. No method is called per request.

    hits: the prefix hits by caller and pool, which are too many for labels. loops: how the loops of
    the control plane are. exemplars: single requests in the histograms. by_class: all requests that
    ended. totals: what is not by pool. workers: their gauges.
    """

    def __init__(self, fleet: Fleet, *, build: Mapping[str, str] | None = None) -> None:
        """build: labels of `cuvee_build_info`."""
        self._fleet = fleet
        self._build = build
        self.hits = PrefixHits()
        self.loops, self.exemplars = Loops(), Exemplars()
        self.by_class: ByClass = {}
        self._plan: Plan | None = None
        # What pools that are scaled are to have, as it was ordered last; `None`: not yet.
        self.orders: Mapping[str, int | None] = {}
        # $/h of what runs, by pool, and what those that sleep add to the plan's cost.
        self.bill: tuple[Mapping[str, float], float] = ({}, 0.0)
        self.spans: Mapping[str, int] = {}  # of how many requests, by what came of them
        self._plan_at_s = 0.0
        self._plans = self._replaced = 0
        self.totals = StatsDelta()  # without what is by pool, and without the demand
        self._looks: dict[str, int] = {}
        self._solved_at_s: float | None = None
        self._processes: Mapping[str, ProcessUsage] = {}
        self._dropped: Mapping[str, int] = {}
        self._traced: Mapping[str, int] = {}
        self.workers: Mapping[int, WorkerGauges] = {}
        self._reloaded, self._reloaded_at_s = True, 0.0
        self._pool_paces: Mapping[str, float] = {}
        self._backend_paces: Mapping[tuple[str, str], float] = {}
        self._bytes_per_token: Figures = ()
        self._payload_tokens: Figures = ()
        self._engines: Sequence[EngineFigures] = ()
        self._sources: Mapping[str, tuple[float, int]] = {}
        self._found: Mapping[str, int] = {}
        self._cluster: ClusterFigures | None = None
        self._scaled: Sequence[ScalingFigures] = ()
        self._kv: Sequence[KvFigures] = ()

    def __repr__(self) -> str:
        return f"<Metrics of {len(self.by_class)} classes and pools over {self._fleet!r}>"

    def add(self, delta: StatsDelta) -> None:
        """Add the statistics of a worker since its last report."""
        for key, pool_stats in delta.by_pool.items():
            self.by_class.setdefault(key, PoolStats.none()).add(pool_stats)
        self.hits.add(delta.hits)
        self.totals.add(
            StatsDelta(
                refusals=delta.refusals,
                failures=delta.failures,
                ejections=delta.ejections,
                lag=delta.lag,
            )
        )

    def planned(self, plan: Plan, now_s: float) -> None:
        """Show a plan from now on: it was put in force. now_s: Unix time."""
        self._plans += 1
        self._plan, self._plan_at_s = plan, now_s
        self._solved_at_s = now_s

    def looked(self, result: str, now_s: float) -> None:
        """Count a look at the demand. result: `idle`, `kept`, `replaced` or `failed`. now_s: Unix
        time."""
        self._looks[result] = self._looks.get(result, 0) + 1
        if result in ("kept", "replaced"):
            self._solved_at_s = now_s

    def staffed(self, workers: Mapping[int, WorkerGauges], replaced: int) -> None:
        """Show the gauges of the workers that serve, and how many workers were replaced since the
        start."""
        self.workers, self._replaced = workers, replaced

    def measured(self, processes: Mapping[str, ProcessUsage], dropped: Mapping[str, int]) -> None:
        """Show what the processes use, and how many lines of their logs were dropped; by process,
        as the label says it."""
        self._processes, self._dropped = processes, dropped

    def traced(self, requests: Mapping[str, int]) -> None:
        """Show how many requests are in the trace, and how many are lost; none without a trace."""
        self._traced = requests

    def paced(self, pools: Mapping[str, float], backends: Mapping[tuple[str, str], float]) -> None:
        """Show how fast pools, and backends by their name and pool, are beside their profiles."""
        self._pool_paces, self._backend_paces = pools, backends

    def learned(self, bytes_per_token: Figures, payload_tokens: Figures) -> None:
        """Show what was learned of prompts: by model and endpoint, and by model and kind of what is
        no text."""
        self._bytes_per_token, self._payload_tokens = bytes_per_token, payload_tokens

    def scraped(self, engines: Sequence[EngineFigures]) -> None:
        """Show what engines said of themselves."""
        self._engines = engines

    def configured(self, successful: bool, at_s: float) -> None:
        """Show whether the configuration could be used when it was read last, and when one could,
        in seconds since 1970."""
        self._reloaded, self._reloaded_at_s = successful, at_s

    def discovered(
        self, sources: Mapping[str, tuple[float, int]], pools: Mapping[str, int]
    ) -> None:
        """Show sources of backends and how many they found; see `discovery_metrics`."""
        self._sources, self._found = sources, pools

    def allied(self, figures: ClusterFigures) -> None:
        """Show the cluster that this gateway is one of."""
        self._cluster = figures

    def scaled(self, pools: Sequence[ScalingFigures]) -> None:
        """Show the pools that are scaled."""
        self._scaled, self.orders = pools, {one.pool: one.ordered for one in pools}

    def heard(self, engines: Sequence[KvFigures]) -> None:
        """Show what engines published of their prefix caches."""
        self._kv = engines

    def text(self) -> bytes:
        """The page in Prometheus' text format."""
        return text(self.families())

    def openmetrics(self) -> bytes:
        """The page as OpenMetrics, with exemplars."""
        return openmetrics(self.families())

    def families(self) -> list[Family]:
        """All metrics that have values."""
        by_pool = summed(self.by_class)
        families = [*requests(by_pool), *promises(self.by_class)]
        families += latencies(by_pool, self.exemplars)
        families.append(estimates(by_pool))
        families += learned(self._bytes_per_token, self._payload_tokens)
        families += _backends(self._fleet)
        families += [*engines(self._engines), *kv_families(self._kv)]
        families += _paces(self._pool_paces, self._backend_paces)
        families += _faults(self.totals, self._fleet, self.workers)
        families += workers(self.workers)
        families += self._gateway()
        families += discovered(self._sources, self._found)
        families += loop_families(self.loops)
        families += cluster_families(self._cluster)
        families += [*scaling(self._scaled), *spending(*self.bill)]
        if self._plan is not None:
            families += plan_families(self._plan, self.orders)
            families.append(_single(control.PLAN_TIME, self._plan_at_s))
        families += processes(self._processes)
        return families

    def _gateway(self) -> Iterator[Family]:
        yield _single(metric.WORKERS, len(self.workers))
        yield _single(metric.WORKERS_REPLACED, self._replaced)
        yield _single(control.RELOADED, int(self._reloaded))
        yield _single(control.RELOADED_AT, self._reloaded_at_s)
        yield _single(control.PLANS, self._plans)
        if self._solved_at_s is not None:
            yield _single(control.LAST_SOLVE, self._solved_at_s)
        yield _counted(control.LOOKS, "result", self._looks)
        yield _counted(metric.LOG_DROPPED, "process", self._dropped)
        yield _counted(metric.TRACED, "result", self._traced)
        yield _counted(metric.OTEL, "result", self.spans)
        lag = Family(metric.LAG)
        lag.histogram("", LAG_S, self.totals.lag.counts, self.totals.lag.seconds)
        yield lag
        if self._build is not None:
            build = Family(metric.BUILD)
            build.add(labelled(**self._build), 1)
            yield build


def _backends(fleet: Fleet) -> Iterator[Family]:
    in_flight, load, up = (
        Family(metric.IN_FLIGHT), Family(metric.LOAD), Family(metric.BACKEND_UP)
    )  # fmt: skip
    for backend in fleet.backends:
        labels = labelled(backend=backend.name, pool=backend.pool)
        in_flight.add(labels, backend.in_flight)
        load.add(labels, backend.load)
        up.add(labels, int(backend.healthy))
    yield from (in_flight, load, up)


def _paces(
    pools: Mapping[str, float], backends: Mapping[tuple[str, str], float]
) -> Iterator[Family]:
    """Those that are known."""
    of_backends, of_pools = Family(metric.BACKEND_PACE), Family(metric.POOL_PACE)
    for (backend, pool), pace in backends.items():
        of_backends.add(labelled(backend=backend, pool=pool), pace)
    for pool, pace in pools.items():
        of_pools.add(labelled(pool=pool), pace)
    yield from (of_backends, of_pools)


def _faults(
    totals: StatsDelta, fleet: Fleet, workers: Mapping[int, WorkerGauges]
) -> Iterator[Family]:
    """Refused requests, and what backends did wrong, as far as they are still in the fleet."""
    refusals, resting = Family(metric.REFUSALS), Family(metric.RESTING)
    for (status, reason), count in totals.refusals.items():
        refusals.add(labelled(code=str(status), reason=reason), count)
    pools = {backend.name: backend.pool for backend in fleet.backends}
    kinds = []
    for definition, counts in (
        (metric.FAILURES, totals.failures), (metric.EJECTIONS, totals.ejections)
    ):  # fmt: skip
        family = Family(definition)
        for (backend, kind), count in counts.items():
            if backend in pools:
                family.add(labelled(backend=backend, kind=kind, pool=pools[backend]), count)
        kinds.append(family)
    for backend, pool in pools.items():
        count = sum(backend in worker.resting for worker in workers.values())
        resting.add(labelled(backend=backend, pool=pool), count)
    yield from (refusals, *kinds, resting)


def _counted(definition: Metric, label: str, counts: Mapping[str, int]) -> Family:
    """A metric with one label."""
    family = Family(definition)
    for value, count in counts.items():
        family.add(labelled(**{label: value}), count)
    return family


def _single(definition: Metric, value: float) -> Family:
    """A metric that has one sample and no labels."""
    family = Family(definition)
    family.add("", value)
    return family
