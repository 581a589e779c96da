"""Prometheus metrics, prefix `cuvee_`. Adds up tallies; reads living state on a scrape."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway.routing.backend import Fleet
from gateway.routing.tally import TPOT_S, TTFT_S, Flow, Spread, Sums
from planner.model import Plan

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry. Nothing here is called per request."""

    def __init__(self, fleet: Fleet) -> None:
        self._registry = CollectorRegistry()
        self._flows: dict[tuple[str, str], Flow] = {}
        self._state = _State(fleet)
        self._registry.register(_Flows(self._flows))
        self._registry.register(self._state)

    def add(self, sums: Sums) -> None:
        """Counts what happened since a moment ago, in any process."""
        for key, flow in sums.flows.items():
            self._flows.setdefault(key, Flow.none()).add(flow)

    def planned(self, plan: Plan) -> None:
        """A plan was put in force."""
        self._state.plans += 1
        self._state.plan = plan

    def staffed(self, workers: int, replaced: int) -> None:
        """So many workers serve now, and so many were replaced since the start."""
        self._state.workers, self._state.replaced = workers, replaced

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)


class _Flows(Collector):
    """Requests by model and pool."""

    def __init__(self, flows: dict[tuple[str, str], Flow]) -> None:
        self._flows = flows

    def collect(self) -> Iterator[Metric]:
        both = ("model", "pool")
        requests = _counter("requests", "Requests by how they ended.", (*both, "outcome"))
        decisions = _counter(
            "decisions",
            "Routed requests by decision; all but planned are off-plan.",
            (*both, "decision"),
        )
        retries = _counter("retries", "Further backends tried.", ("model",))
        tokens = _counter("tokens", "Tokens of finished requests.", (*both, "direction"))
        ttft = _histogram("ttft_seconds", "Time to first token.")
        tpot = _histogram("tpot_seconds", "Time per output token.")
        again: dict[str, int] = {}
        for (model, pool), flow in list(self._flows.items()):  # a thread reads, the loop adds
            for outcome, count in list(flow.outcomes.items()):
                requests.add_metric((model, pool, outcome), count)
            for decision, count in list(flow.decisions.items()):
                decisions.add_metric((model, pool, decision), count)
            tokens.add_metric((model, pool, "input"), flow.input_tokens)
            tokens.add_metric((model, pool, "output"), flow.output_tokens)
            again[model] = again.get(model, 0) + flow.retries
            _spread(ttft, (model, pool), TTFT_S, flow.ttft)
            _spread(tpot, (model, pool), TPOT_S, flow.tpot)
        for model, count in again.items():
            retries.add_metric((model,), count)
        yield from (requests, decisions, retries, tokens, ttft, tpot)


def _counter(name: str, help_: str, labels: tuple[str, ...]) -> CounterMetricFamily:
    return CounterMetricFamily(f"cuvee_{name}", help_, labels=labels)


def _histogram(name: str, help_: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"cuvee_{name}", help_, labels=("model", "pool"))


def _spread(
    family: HistogramMetricFamily,
    labels: tuple[str, str],
    bounds: tuple[float, ...],
    spread: Spread,
) -> None:
    """Adds one histogram; a pool without any sample has none."""
    total = sum(spread.counts)
    if total:
        names = (*map(str, bounds), "+Inf")
        buckets = list(zip(names, map(float, accumulate(spread.counts)), strict=True))
        family.add_metric(labels, buckets, spread.seconds)


class _State(Collector):
    """What is, read at the moment of a scrape."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.plan: Plan | None = None
        self.plans = 0
        self.workers = 1
        self.replaced = 0

    def collect(self) -> Iterator[Metric]:
        labels = ("pool", "backend")
        flight = GaugeMetricFamily("cuvee_in_flight", "Leases held.", labels=labels)
        load = GaugeMetricFamily("cuvee_load", "Load held; 1 is SLO-full.", labels=labels)
        up = GaugeMetricFamily("cuvee_backend_up", "Whether its probe was good.", labels=labels)
        for backend in self._fleet.backends:
            names = (backend.pool, backend.name)
            flight.add_metric(names, backend.in_flight)
            load.add_metric(names, backend.load)
            up.add_metric(names, float(backend.healthy))
        yield from (flight, load, up)
        yield GaugeMetricFamily("cuvee_workers", "Workers that serve.", value=self.workers)
        yield CounterMetricFamily(
            "cuvee_workers_replaced", "Workers that died and were replaced.", value=self.replaced
        )
        yield CounterMetricFamily("cuvee_plans", "Plans put in force.", value=self.plans)
        if self.plan is not None:
            yield from _plan(self.plan)


def _plan(plan: Plan) -> Iterator[Metric]:
    wanted = GaugeMetricFamily(
        "cuvee_desired_backends", "Backends the plan uses.", labels=("pool",)
    )
    load = GaugeMetricFamily("cuvee_planned_load", "Mean load planned.", labels=("pool",))
    for pool, count, mean in zip(plan.pools, plan.backends, plan.load, strict=True):
        wanted.add_metric((pool,), count)
        load.add_metric((pool,), mean)
    yield from (wanted, load)
    yield GaugeMetricFamily("cuvee_plan_usd_per_hour", "Cost of the plan.", value=plan.usd_per_hour)
    yield GaugeMetricFamily(
        "cuvee_plan_lower_bound_usd_per_hour",
        "Its fluid lower bound.",
        value=plan.lower_bound_usd_per_hour,
    )
    yield GaugeMetricFamily("cuvee_plan_solve_seconds", "Its solve took.", value=plan.solve_s)
