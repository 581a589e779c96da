"""Rehearses a plan: the gateway's own router and leases in virtual time, over modelled engines.

Owns the adapter between `Router` and `planner.proof.simulate`: estimates of requests on their way
in, decisions on their way out. Knows no HTTP, no clock and no chance.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Saturated, Unavailable
from gateway.rehearsal.history import callers
from gateway.routing.backend import Lease
from gateway.routing.estimate import Estimate
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.observation import Outcome
from gateway.routing.router import Router
from gateway.routing.shared_load import LoadView, SharedLoad
from gateway.routing.table import RoutingTable, compile_table
from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.proof.simulate import OnFinished, SimulationResult, simulate
from planner.sizes import FloatArray, IntArray
from planner.slo import Slo
from planner.traffic.trace import Trace

MAX_LOAD = 2.0  # the gateway's default, gateway.max_load
SHED = Outcome.SHED.value

EstimateOf = Callable[[int], Estimate]  # the estimate of a request, by its number, at its arrival


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rehearsal:
    """What a plan would have done with N requests.

    result: times and engines; engines are numbered pool by pool in the plan's order. slo_class:
    (N,) index of each request's SLO class. pool: (N,) index of the pool that served it, −1 if it
    was shed. bucket: (N,) bucket of its estimate. decision: (N,) the router's (planned, spill,
    overload, best-effort) or `shed`.
    """

    result: SimulationResult
    slo_class: IntArray
    pool: IntArray
    bucket: IntArray
    decision: tuple[str, ...]

    def met(self, buckets: Buckets) -> NDArray[np.bool_]:
        """(N,) whether each request met the SLO of its own class."""
        met = np.zeros(len(self.slo_class), dtype=np.bool_)
        for index in np.unique(self.slo_class).tolist():
            mine = self.slo_class == index
            met[mine] = self.result.met(buckets.classes[index].slo)[mine]
        return met

    def attainment(self, slo: Slo, skip: float = 0.1) -> float:
        """The share of requests that met this SLO, without the first `skip` of them."""
        return self.result.attainment(slo, skip=skip)


def rehearse(
    trace: Trace,
    plan: Plan,
    pools: tuple[Pool, ...],
    *,
    slo_class: IntArray | None = None,
    estimator: Estimator | None = None,
    estimated: FloatArray | None = None,
    max_load: float = MAX_LOAD,
    patience_s: float = 0.0,
    workers: IntArray | None = None,
) -> Rehearsal:
    """Play a trace through a plan's router.

    pools: the planner's, in the plan's order; every planned backend is one engine, idle at the
    start. slo_class: (N,) index of each request's SLO class; default: the first for all. estimated:
    (N, 2) estimated input and output tokens, or (N, 3) with the P90 of the output; without it
    `estimator` (a fresh one if `None`) knows the inputs, predicts the outputs, and learns them as
    requests end. max_load, patience_s: the gateway's settings `max_load` and `queue_timeout_s`.
    workers: (N,) number of the worker that each request reaches, if several share the fleet. Raises
    InvalidValue when trace, classes and estimates do not match.
    """
    indexes = _class_indexes(slo_class, len(trace), plan.buckets)
    classes = [plan.buckets.classes[index] for index in indexes.tolist()]
    estimate_of: EstimateOf
    on_finished: OnFinished | None
    if estimated is None:
        learning = _LearningEstimates(trace, classes, estimator or Estimator())
        estimate_of, on_finished = learning.estimate, learning.learn
    elif estimator is not None:
        raise InvalidValue("either an estimator or estimated, not both")
    else:
        estimate_of, on_finished = _fixed_estimates(estimated, classes), None
    engines = [p for p, count in enumerate(plan.backends) for _ in range(count)]
    table = compile_table(plan, pools)
    hold_s = np.array(table.hold_s)[indexes * plan.buckets.grid.cells]
    dealt = np.zeros(len(trace), dtype=np.int64) if workers is None else workers
    until_s = (trace.arrival_s + hold_s).tolist()
    routers = _SimulatedRouter(plan, table, estimate_of, max_load, until_s, dealt.tolist())
    result = simulate(
        trace,
        [pools[p].profile for p in engines],
        routers.route,
        on_finished=on_finished,
        patience_s=patience_s,
        hold_s=hold_s,
    )
    served = result.backend >= 0
    pool = np.full(len(trace), -1, dtype=np.int64)
    pool[served] = np.array(engines, dtype=np.int64)[result.backend[served]]
    decision = tuple(d if ok else SHED for d, ok in zip(routers.decision, served, strict=True))
    bucket = np.array(routers.bucket, dtype=np.int64)
    return Rehearsal(result=result, slo_class=indexes, pool=pool, bucket=bucket, decision=decision)


class _SimulatedRouter:
    """The routers of all workers, as the callable that `planner.proof.simulate` asks.

    bucket, decision: (N,) what was decided about each request.
    """

    def __init__(
        self,
        plan: Plan,
        table: RoutingTable,
        estimate_of: EstimateOf,
        max_load: float,
        until_s: list[float],
        workers: list[int],
    ) -> None:
        """until_s: time up to which each request may be held back. workers: number of the worker
        that each request reaches."""
        urls = {
            pool: tuple(f"{pool}:{n}" for n in range(count))
            for pool, count in zip(plan.pools, plan.backends, strict=True)
        }
        self._routers = tuple(_routers(table, urls, 1 + max(workers, default=0), max_load))
        backends = self._routers[0].fleet.backends
        self._number = {backend.name: k for k, backend in enumerate(backends)}
        self._estimate_of = estimate_of
        self._estimates: dict[int, Estimate] = {}  # of requests that wait: as estimated at arrival
        self._until_s = until_s
        self._workers = workers
        self.bucket = [-1] * len(until_s)
        self.decision = [SHED] * len(until_s)

    def route(self, request: int, now_s: float) -> "_SimulatedLease | None":
        """The lease of a request; `None` if no backend has room now."""
        router = self._routers[self._workers[request]]
        estimate = self._estimates.pop(request, None) or self._estimate_of(request)
        patient = now_s < self._until_s[request]
        try:
            lease = router.route(estimate, now_s=now_s, patient=patient)
        except (Saturated, Unavailable):
            self._estimates[request] = estimate
            self.bucket[request] = router.bucket(estimate)
            return None
        self.bucket[request] = lease.bucket
        self.decision[request] = lease.decision
        return _SimulatedLease(self._number[lease.backend.name], lease)


def _routers(
    table: RoutingTable, urls: dict[str, tuple[str, ...]], workers: int, max_load: float
) -> Iterator[Router]:
    """One router for each worker, with a fleet of its own and a view of one shared array."""
    if workers == 1:
        yield Router(table, Fleet.of(urls), max_load=max_load)
        return
    rows = sum(map(len, urls.values()))
    memory = bytearray(8 * SharedLoad.doubles(workers=workers, rows=rows))
    shared_load = SharedLoad(memory, workers=workers, rows=rows)
    for number in range(workers):
        fleet = Fleet.of(urls)
        yield Router(table, fleet, max_load=max_load, peers=LoadView(shared_load, fleet, number))


class _SimulatedLease:
    """A lease as the simulator wants it: with the number of its backend."""

    __slots__ = ("backend", "prefilled", "release")

    def __init__(self, backend: int, lease: Lease) -> None:
        self.backend = backend
        self.prefilled = lease.prefilled
        self.release = lease.release


class _LearningEstimates:
    """Estimates that learn: each request is predicted from those that ended before it arrived."""

    def __init__(self, trace: Trace, classes: Sequence[SloClass], estimator: Estimator) -> None:
        # Ids as the gateway makes them, so that it can use what the estimator learned here.
        self._callers = callers(trace)
        self._inputs = [int(tokens) for tokens in trace.input_tokens.tolist()]
        self._outputs = [max(1, int(tokens)) for tokens in trace.output_tokens.tolist()]
        self._classes = classes
        self._estimator = estimator

    def estimate(self, request: int) -> Estimate:
        slo_class = self._classes[request]
        return self._estimator.estimate_size(
            self._inputs[request],
            model=slo_class.model,
            caller=self._callers[request],
            slo_class=slo_class.name,
        )

    def learn(self, request: int, now_s: float) -> None:
        self._estimator.learn_size(
            self._inputs[request],
            self._outputs[request],
            model=self._classes[request].model,
            caller=self._callers[request],
        )


def _class_indexes(slo_class: IntArray | None, requests: int, buckets: Buckets) -> IntArray:
    """(N,) the given indexes after a check; without any, the first class for all requests."""
    if slo_class is None:
        return np.zeros(requests, dtype=np.int64)
    if slo_class.shape != (requests,):
        raise InvalidValue(f"slo_class has shape {slo_class.shape}, not ({requests},)")
    if requests and not 0 <= slo_class.min() <= slo_class.max() < len(buckets.classes):
        raise InvalidValue(f"slo_class must be from 0 to {len(buckets.classes) - 1}")
    return slo_class


def _fixed_estimates(estimated: FloatArray, classes: Sequence[SloClass]) -> EstimateOf:
    """Estimates that are given for every request, and learn nothing."""
    requests = len(classes)
    if estimated.ndim != 2 or len(estimated) != requests or estimated.shape[1] not in (2, 3):
        shape = f"({requests}, 2) or ({requests}, 3)"
        raise InvalidValue(f"estimated has shape {estimated.shape}, not {shape}")
    rows = estimated.astype(int).tolist()

    def estimate_of(request: int) -> Estimate:
        row, slo_class = rows[request], classes[request]
        return Estimate(
            model=slo_class.model,
            input_tokens=row[0],
            output_tokens=row[1],
            output_p90=row[-1],
            slo_class=slo_class.name,
        )

    return estimate_of
