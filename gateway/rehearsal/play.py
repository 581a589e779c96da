"""Rehearses a plan: the gateway's own router and leases in virtual time, over modelled engines.

Owns what goes in and out: estimates and routers of a plan, decisions by request. Knows no HTTP, no
clock and no chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.rehearsal.estimates import Estimates, GivenEstimates, LearnedEstimates
from gateway.rehearsal.gateway import SHED, SimulatedGateway
from gateway.rehearsal.history import callers
from gateway.rehearsal.load_sharing import LoadSharing
from gateway.routing.admission import QueueLimits
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.router import Router
from gateway.routing.shared_load import LoadView, SharedLoad
from gateway.routing.table import RoutingTable, compile_table
from planner.errors import InvalidValue
from planner.model.buckets import BEST_EFFORT, Buckets
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.proof.simulate import SimulationResult, simulate
from planner.sizes import FloatArray, IntArray
from planner.slo import Slo
from planner.traffic.trace import Trace

QUEUE = QueueLimits(requests=512, tokens=4_000_000, timeout_s=30.0)  # the gateway's defaults
LEFTOVER = -1  # the class of requests without a promise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rehearsal:
    """What a plan would have done with N requests.

    result: times and engines; engines are numbered pool by pool in the plan's order. slo_class:
    (N,) index of each request's SLO class. pool: (N,) index of the pool that served it, −1 if it
    was shed. bucket: (N,) bucket of its estimate. decision: (N,) the router's (planned, spill,
    best-effort) or `shed`. waited_s: (N,) seconds in the queue, until it was placed or refused.
    """

    result: SimulationResult
    slo_class: IntArray
    pool: IntArray
    bucket: IntArray
    decision: tuple[str, ...]
    waited_s: FloatArray

    def met(self, buckets: Buckets) -> NDArray[np.bool_]:
        """(N,) whether each request met the SLO of its own class; one without a promise, whether it
        was served."""
        met = self.result.backend >= 0
        for index in np.unique(self.slo_class[self.slo_class >= 0]).tolist():
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
    limits: QueueLimits = QUEUE,
    workers: IntArray | None = None,
    sharing: LoadSharing | None = None,
    engines: tuple[Pool, ...] | None = None,
) -> Rehearsal:
    """Play a trace through a plan's router and admission.

    pools: the planner's, in the plan's order; every planned backend is one engine, idle at the
    start. slo_class: (N,) index of each request's SLO class, `LEFTOVER` for the class
    `best-effort` of the first model; default: the first class for all. estimated: (N, 2) estimated
    input and output tokens, or (N, 3) with the P90 of the output; without it `estimator` (a fresh
    one if `None`) knows the inputs, predicts the outputs, and learns them as requests end. limits:
    of the queue of each worker. workers: (N,) number of the worker that each request reaches, if
    several share the fleet. sharing: how these learn of each other; default: by the array of the
    workers of one machine. engines: the pools as they are played, where they are not what the
    router believes. Raises InvalidValue when trace, classes and estimates do not match.
    """
    indexes = _class_indexes(slo_class, len(trace), plan.buckets)
    estimates = _estimates(trace, indexes, plan.buckets, estimator, estimated)
    numbers = [p for p, count in enumerate(plan.backends) for _ in range(count)]
    dealt = np.zeros(len(trace), dtype=np.int64) if workers is None else workers
    table, urls = compile_table(plan, pools), _urls(plan)
    if sharing is None:
        routers = list(_routers(table, urls, 1 + int(dealt.max(initial=0))))
    else:
        routers = sharing.routers(table, urls)
    dispatch = SimulatedGateway(routers, limits, estimates, dealt.tolist(), sharing)
    result = simulate(
        trace,
        [(engines or pools)[p].profile for p in numbers],
        dispatch,
        on_finished=estimates.learn if estimated is None else None,
    )
    served = result.backend >= 0
    pool = np.full(len(trace), -1, dtype=np.int64)
    pool[served] = np.array(numbers, dtype=np.int64)[result.backend[served]]
    return Rehearsal(
        result=result,
        slo_class=indexes,
        pool=pool,
        bucket=np.array(dispatch.bucket, dtype=np.int64),
        decision=tuple(d if ok else SHED for d, ok in zip(dispatch.decision, served, strict=True)),
        waited_s=np.array(dispatch.waited_s),
    )


def _urls(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Every planned backend."""
    return {
        pool: tuple(f"{pool}:{n}" for n in range(count))
        for pool, count in zip(plan.pools, plan.backends, strict=True)
    }


def _routers(
    table: RoutingTable, urls: dict[str, tuple[str, ...]], workers: int
) -> Iterator[Router]:
    """One router for each worker, with a fleet of its own and a view of one shared array."""
    if workers == 1:
        yield Router(table, Fleet.of(urls))
        return
    rows = sum(map(len, urls.values()))
    memory = bytearray(8 * SharedLoad.doubles(workers=workers, rows=rows))
    shared_load = SharedLoad(memory, workers=workers, rows=rows)
    for number in range(workers):
        fleet = Fleet.of(urls)
        yield Router(table, fleet, peers=LoadView(shared_load, fleet, number))


def _class_indexes(slo_class: IntArray | None, requests: int, buckets: Buckets) -> IntArray:
    """(N,) the given indexes after a check; without any, the first class for all requests."""
    if slo_class is None:
        return np.zeros(requests, dtype=np.int64)
    if slo_class.shape != (requests,):
        raise InvalidValue(f"slo_class has shape {slo_class.shape}, not ({requests},)")
    if requests and not LEFTOVER <= slo_class.min() <= slo_class.max() < len(buckets.classes):
        raise InvalidValue(f"slo_class must be from {LEFTOVER} to {len(buckets.classes) - 1}")
    return slo_class


def _estimates(
    trace: Trace,
    indexes: IntArray,
    buckets: Buckets,
    estimator: Estimator | None,
    estimated: FloatArray | None,
) -> Estimates:
    """Estimates that are given, or else learned."""
    classes = [buckets.classes[max(0, index)] for index in indexes.tolist()]
    names = [
        BEST_EFFORT if index == LEFTOVER else slo_class.name
        for index, slo_class in zip(indexes.tolist(), classes, strict=True)
    ]
    # Ids as the gateway makes them, so that it can use what the estimator learned here.
    ids, models = callers(trace), [slo_class.model for slo_class in classes]
    if estimated is None:
        inputs = [int(tokens) for tokens in trace.input_tokens.tolist()]
        outputs = [max(1, int(tokens)) for tokens in trace.output_tokens.tolist()]
        return LearnedEstimates(ids, models, names, (inputs, outputs), estimator or Estimator())
    if estimator is not None:
        raise InvalidValue("either an estimator or estimated, not both")
    requests = len(trace)
    if estimated.ndim != 2 or len(estimated) != requests or estimated.shape[1] not in (2, 3):
        shape = f"({requests}, 2) or ({requests}, 3)"
        raise InvalidValue(f"estimated has shape {estimated.shape}, not {shape}")
    return GivenEstimates(ids, models, names, estimated.astype(int).tolist())
