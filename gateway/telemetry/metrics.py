"""What a scrape shows, prefix `cuvee_`. Adds up tallies; reads living state on a scrape."""

from collections.abc import Iterator

from gateway.routing.backend import Fleet
from gateway.telemetry.exposition import Family, labelled, text
from gateway.telemetry.stats_schema import TPOT_S, TTFT_S, PoolStats, StatsDelta
from planner.model.plan import Plan


class Metrics:
    """All that is shown. Nothing here is called per request."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._by_pool: dict[tuple[str, str], PoolStats] = {}
        self._plan: Plan | None = None
        self._plans = self._replaced = 0
        self._workers = 1

    def __repr__(self) -> str:
        return f"<Metrics of {len(self._by_pool)} flows over {self._fleet!r}>"

    def add(self, delta: StatsDelta) -> None:
        """Counts what happened since a moment ago, in any process."""
        for key, pool_stats in delta.by_pool.items():
            self._by_pool.setdefault(key, PoolStats.none()).add(pool_stats)

    def planned(self, plan: Plan) -> None:
        """A plan was put in force."""
        self._plans += 1
        self._plan = plan

    def staffed(self, workers: int, replaced: int) -> None:
        """So many workers serve now, and so many were replaced since the start."""
        self._workers, self._replaced = workers, replaced

    def text(self) -> bytes:
        """The exposition."""
        families = [*_requests(self._by_pool), *_latencies(self._by_pool), *_backends(self._fleet)]
        families += self._gateway()
        if self._plan is not None:
            families += _plan(self._plan)
        return text(families)

    def _gateway(self) -> Iterator[Family]:
        yield _one("workers", "gauge", "Workers that serve.", self._workers)
        replaced = "Workers that ended and were replaced."
        yield _one("workers_replaced_total", "counter", replaced, self._replaced)
        yield _one("plans_total", "counter", "Plans put in force.", self._plans)


def _requests(by_pool: dict[tuple[str, str], PoolStats]) -> Iterator[Family]:
    requests = Family("cuvee_requests_total", "counter", "Requests by how they ended.")
    decisions = Family(
        "cuvee_decisions_total",
        "counter",
        "Routed requests by decision; all but planned are off-plan.",
    )
    retries = Family("cuvee_retries_total", "counter", "Further backends tried.")
    tokens = Family("cuvee_tokens_total", "counter", "Tokens of finished requests.")
    again: dict[str, int] = {}
    for (model, pool), pool_stats in by_pool.items():
        for outcome, count in pool_stats.outcomes.items():
            requests.add(labelled(model=model, outcome=outcome, pool=pool), count)
        for decision, count in pool_stats.decisions.items():
            decisions.add(labelled(decision=decision, model=model, pool=pool), count)
        tokens.add(labelled(direction="input", model=model, pool=pool), pool_stats.input_tokens)
        tokens.add(labelled(direction="output", model=model, pool=pool), pool_stats.output_tokens)
        again[model] = again.get(model, 0) + pool_stats.retries
    for model, count in again.items():
        retries.add(labelled(model=model), count)
    yield from (requests, decisions, retries, tokens)


def _latencies(by_pool: dict[tuple[str, str], PoolStats]) -> Iterator[Family]:
    """Histograms; a pool without any sample has none."""
    ttft = Family("cuvee_ttft_seconds", "histogram", "Time to first token.")
    tpot = Family("cuvee_tpot_seconds", "histogram", "Time per output token.")
    for (model, pool), pool_stats in by_pool.items():
        labels = labelled(model=model, pool=pool)
        for family, bounds, histogram in (
            (ttft, TTFT_S, pool_stats.ttft),
            (tpot, TPOT_S, pool_stats.tpot),
        ):
            if any(histogram.counts):
                family.histogram(labels, bounds, histogram.counts, histogram.seconds)
    yield from (ttft, tpot)


def _backends(fleet: Fleet) -> Iterator[Family]:
    flight = Family("cuvee_in_flight", "gauge", "Leases held.")
    load = Family("cuvee_load", "gauge", "Load held; 1 is SLO-full.")
    up = Family("cuvee_backend_up", "gauge", "Whether its probe was good.")
    for backend in fleet.backends:
        labels = labelled(backend=backend.name, pool=backend.pool)
        flight.add(labels, backend.in_flight)
        load.add(labels, backend.load)
        up.add(labels, int(backend.healthy))
    yield from (flight, load, up)


def _plan(plan: Plan) -> Iterator[Family]:
    wanted = Family("cuvee_desired_backends", "gauge", "Backends the plan uses.")
    load = Family("cuvee_planned_load", "gauge", "Mean load planned.")
    for pool, count, mean in zip(plan.pools, plan.backends, plan.load, strict=True):
        wanted.add(labelled(pool=pool), count)
        load.add(labelled(pool=pool), mean)
    yield from (wanted, load)
    yield _one("plan_usd_per_hour", "gauge", "Cost of the plan.", plan.usd_per_hour)
    bound = plan.lower_bound_usd_per_hour
    yield _one("plan_lower_bound_usd_per_hour", "gauge", "Its fluid lower bound.", bound)
    yield _one("plan_solve_seconds", "gauge", "Its solve took.", plan.solve_s)


def _one(name: str, kind: str, help_: str, value: float) -> Family:
    family = Family(f"cuvee_{name}", kind, help_)
    family.add("", value)
    return family
