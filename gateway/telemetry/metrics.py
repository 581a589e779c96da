"""The values of all metrics. Adds up the statistics of all workers; reads the fleet at each scrape.

Names and meanings of the metrics are in `definitions`. Knows no request.
"""

from collections.abc import Iterator, Mapping

from gateway.routing.fleet import Fleet
from gateway.telemetry import definitions as metric
from gateway.telemetry.exposition import Family, labelled, text
from gateway.telemetry.stats_schema import TPOT_S, TTFT_S, PoolStats, StatsDelta, WorkerGauges
from planner.model.plan import Plan


class Metrics:
    """The metrics of one gateway. No method is called per request."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._by_pool: dict[tuple[str, str], PoolStats] = {}
        self._plan: Plan | None = None
        self._plans = self._replaced = 0
        self._workers: Mapping[int, WorkerGauges] = {}
        self._reloaded, self._reloaded_at_s = True, 0.0

    def __repr__(self) -> str:
        return f"<Metrics of {len(self._by_pool)} models and pools over {self._fleet!r}>"

    def add(self, delta: StatsDelta) -> None:
        """Add the statistics of a worker since its last report."""
        for key, pool_stats in delta.by_pool.items():
            self._by_pool.setdefault(key, PoolStats.none()).add(pool_stats)

    def planned(self, plan: Plan) -> None:
        """Show a plan from now on: it was put in force."""
        self._plans += 1
        self._plan = plan

    def staffed(self, workers: Mapping[int, WorkerGauges], replaced: int) -> None:
        """Show the gauges of the workers that serve, and how many workers were replaced since the
        start."""
        self._workers, self._replaced = workers, replaced

    def configured(self, successful: bool, at_s: float) -> None:
        """Show whether the configuration could be used when it was read last, and when one could,
        in seconds since 1970."""
        self._reloaded, self._reloaded_at_s = successful, at_s

    def text(self) -> bytes:
        """The page in Prometheus' text format."""
        families = [*_requests(self._by_pool), *_latencies(self._by_pool), *_backends(self._fleet)]
        families += _workers(self._workers)
        families += self._gateway()
        if self._plan is not None:
            families += _plan(self._plan)
        return text(families)

    def _gateway(self) -> Iterator[Family]:
        yield _single(metric.WORKERS, len(self._workers))
        yield _single(metric.WORKERS_REPLACED, self._replaced)
        yield _single(metric.RELOADED, int(self._reloaded))
        yield _single(metric.RELOADED_AT, self._reloaded_at_s)
        yield _single(metric.PLANS, self._plans)


def _requests(by_pool: dict[tuple[str, str], PoolStats]) -> Iterator[Family]:
    requests, decisions = Family(metric.REQUESTS), Family(metric.DECISIONS)
    retries, tokens = Family(metric.RETRIES), Family(metric.TOKENS)
    by_model: dict[str, int] = {}
    for (model, pool), stats in by_pool.items():
        for outcome, count in stats.outcomes.items():
            requests.add(labelled(model=model, outcome=outcome, pool=pool), count)
        for decision, count in stats.decisions.items():
            decisions.add(labelled(decision=decision, model=model, pool=pool), count)
        tokens.add(labelled(direction="input", model=model, pool=pool), stats.input_tokens)
        tokens.add(labelled(direction="output", model=model, pool=pool), stats.output_tokens)
        by_model[model] = by_model.get(model, 0) + stats.retries
    for model, count in by_model.items():
        retries.add(labelled(model=model), count)
    yield from (requests, decisions, retries, tokens)


def _latencies(by_pool: dict[tuple[str, str], PoolStats]) -> Iterator[Family]:
    """The histograms of TTFT and TPOT; a pool without a value has none."""
    ttft, tpot = Family(metric.TTFT), Family(metric.TPOT)
    for (model, pool), stats in by_pool.items():
        labels = labelled(model=model, pool=pool)
        for family, bounds, seconds in ((ttft, TTFT_S, stats.ttft), (tpot, TPOT_S, stats.tpot)):
            if any(seconds.counts):
                family.histogram(labels, bounds, seconds.counts, seconds.seconds)
    yield from (ttft, tpot)


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


def _workers(gauges: Mapping[int, WorkerGauges]) -> Iterator[Family]:
    queued, connections = Family(metric.QUEUED), Family(metric.CONNECTIONS)
    budget, breakers = Family(metric.RETRY_BUDGET), Family(metric.BREAKERS_OPEN)
    for number, worker in gauges.items():
        labels = labelled(worker=str(number))
        queued.add(labels, worker.queued)
        connections.add(labels, worker.connections)
        budget.add(labels, worker.retry_budget)
        breakers.add(labels, worker.breakers_open)
    yield from (queued, connections, budget, breakers)


def _plan(plan: Plan) -> Iterator[Family]:
    desired, load = Family(metric.DESIRED_BACKENDS), Family(metric.PLANNED_LOAD)
    for pool, count, mean in zip(plan.pools, plan.backends, plan.load, strict=True):
        desired.add(labelled(pool=pool), count)
        load.add(labelled(pool=pool), mean)
    yield from (desired, load)
    yield _single(metric.PLAN_USD, plan.usd_per_hour)
    yield _single(metric.PLAN_BOUND_USD, plan.lower_bound_usd_per_hour)
    yield _single(metric.PLAN_SOLVE_S, plan.solve_s)


def _single(definition: metric.Metric, value: float) -> Family:
    """A metric that has one sample and no labels."""
    family = Family(definition)
    family.add("", value)
    return family
