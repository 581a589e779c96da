"""Prometheus metrics, prefix `cuvee_`. Counts observations; reads living state on a scrape."""

from collections.abc import Iterator
from functools import partial

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client import Histogram as PromHistogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.routing.backend import Fleet
from gateway.routing.observation import Observation
from planner.model import Plan

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TTFT_S = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
TPOT_S = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.16, 0.25, 0.5)


class Metrics:
    """One registry. `observe` is called once per request, everything else on a scrape."""

    def __init__(self, fleet: Fleet) -> None:
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry, namespace="cuvee")
        histogram = partial(PromHistogram, registry=self._registry, namespace="cuvee")
        self._requests = counter(
            "requests", "Requests by how they ended.", ("model", "pool", "outcome")
        )
        self._decisions = counter(
            "decisions",
            "Routed requests by decision; all but planned are off-plan.",
            ("model", "pool", "decision"),
        )
        self._retries = counter("retries", "Further backends tried.", ("model",))
        self._tokens = counter(
            "tokens", "Tokens of finished requests.", ("model", "pool", "direction")
        )
        self._ttft = histogram(
            "ttft_seconds", "Time to first token.", ("model", "pool"), buckets=TTFT_S
        )
        self._tpot = histogram(
            "tpot_seconds", "Time per output token.", ("model", "pool"), buckets=TPOT_S
        )
        self._plans = counter("plans", "Plans put in force.")
        self._state = _State(fleet)
        self._registry.register(self._state)

    def observe(self, observation: Observation) -> None:
        """Counts one request."""
        model, pool = observation.model, observation.pool or ""
        self._requests.labels(model, pool, observation.outcome.value).inc()
        if observation.decision is not None:
            self._decisions.labels(model, pool, observation.decision).inc()
        if observation.retries:
            self._retries.labels(model).inc(observation.retries)
        if observation.ttft_s is not None:
            self._ttft.labels(model, pool).observe(observation.ttft_s)
        if observation.tpot_s is not None:
            self._tpot.labels(model, pool).observe(observation.tpot_s)
        if observation.input_tokens:
            self._tokens.labels(model, pool, "input").inc(observation.input_tokens)
        if observation.output_tokens:
            self._tokens.labels(model, pool, "output").inc(observation.output_tokens)

    def planned(self, plan: Plan) -> None:
        """A plan was put in force."""
        self._plans.inc()
        self._state.plan = plan

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)


class _State(Collector):
    """What is, read at the moment of a scrape."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.plan: Plan | None = None

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
