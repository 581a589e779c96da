"""Rehearses a plan: the gateway's own router and leases in virtual time, over modelled engines.

Owns the adapter between `Router` and `planner.proof.simulate`: estimates of requests on their way
in, decisions on their way out. Knows no HTTP, no clock and no chance.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Saturated, Unavailable
from gateway.rehearsal.history import callers
from gateway.routing.admission import Admission, QueueLimits
from gateway.routing.backend import Lease
from gateway.routing.estimate import Estimate
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.observation import Outcome
from gateway.routing.router import Router
from gateway.routing.shared_load import LoadView, SharedLoad
from gateway.routing.table import RoutingTable, compile_table
from gateway.routing.ticket import Ticket
from planner.errors import InvalidValue
from planner.model.buckets import BEST_EFFORT, Buckets, SloClass
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.proof.simulate import OnFinished, SimulationResult, simulate
from planner.sizes import FloatArray, IntArray
from planner.slo import Slo
from planner.traffic.trace import Trace

# The gateway's defaults.
QUEUE = QueueLimits(requests=512, tokens=4_000_000, timeout_s=30.0)
TURN_S = 0.2  # between two looks at the queue, if no token makes one necessary
LEFTOVER = -1  # the class of requests without a promise
SHED = Outcome.SHED.value

EstimateOf = Callable[[int], Estimate]  # the estimate of a request, by its number, at its arrival


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
    engines: tuple[Pool, ...] | None = None,
) -> Rehearsal:
    """Play a trace through a plan's router and admission.

    pools: the planner's, in the plan's order; every planned backend is one engine, idle at the
    start. slo_class: (N,) index of each request's SLO class, `LEFTOVER` for the class
    `best-effort` of the first model; default: the first class for all. estimated: (N, 2) estimated
    input and output tokens, or (N, 3) with the P90 of the output; without it `estimator` (a fresh
    one if `None`) knows the inputs, predicts the outputs, and learns them as requests end. limits:
    of the queue of each worker. workers: (N,) number of the worker that each request reaches, if
    several share the fleet. engines: the pools as they are played, where they are not what the
    router believes. Raises InvalidValue when trace, classes and estimates do not match.
    """
    indexes = _class_indexes(slo_class, len(trace), plan.buckets)
    classes = [plan.buckets.classes[max(0, index)] for index in indexes.tolist()]
    names = [
        BEST_EFFORT if index == LEFTOVER else slo_class.name
        for index, slo_class in zip(indexes.tolist(), classes, strict=True)
    ]
    estimate_of: EstimateOf
    on_finished: OnFinished | None
    if estimated is None:
        learning = _LearningEstimates(trace, classes, names, estimator or Estimator())
        estimate_of, on_finished = learning.estimate, learning.learn
    elif estimator is not None:
        raise InvalidValue("either an estimator or estimated, not both")
    else:
        estimate_of, on_finished = _fixed_estimates(estimated, classes, names), None
    numbers = [p for p, count in enumerate(plan.backends) for _ in range(count)]
    dealt = np.zeros(len(trace), dtype=np.int64) if workers is None else workers
    dispatch = _SimulatedGateway(
        plan, compile_table(plan, pools), estimate_of, callers(trace), limits, dealt.tolist()
    )
    profiles = [(engines or pools)[p].profile for p in numbers]
    result = simulate(trace, profiles, dispatch, on_finished=on_finished)
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


class _SimulatedGateway:
    """The routers and queues of all workers, as the simulator asks them.

    bucket, decision: (N,) what was decided about each request. waited_s: (N,) seconds in the queue.
    """

    def __init__(
        self,
        plan: Plan,
        table: RoutingTable,
        estimate_of: EstimateOf,
        caller: list[str],
        limits: QueueLimits,
        workers: list[int],
    ) -> None:
        """workers: number of the worker that each request reaches."""
        urls = {
            pool: tuple(f"{pool}:{n}" for n in range(count))
            for pool, count in zip(plan.pools, plan.backends, strict=True)
        }
        self._routers = tuple(_routers(table, urls, 1 + max(workers, default=0)))
        self._admissions = tuple(
            Admission(router, limits, view=None if router.peers is None else router.peers.queue)
            for router in self._routers
        )
        backends = self._routers[0].fleet.backends
        self._number = {backend.name: k for k, backend in enumerate(backends)}
        self._estimate_of = estimate_of
        self._caller = caller
        self._workers = workers
        self._settled: list[tuple[int, Ticket]] = []
        self._ends: list[tuple[float, int]] = []  # a heap of (until_s, worker)
        self._arrived_s: dict[int, float] = {}
        self._now_s = self._turned_s = 0.0
        self.bucket = [-1] * len(workers)
        self.decision = [SHED] * len(workers)
        self.waited_s = [0.0] * len(workers)

    def arrive(self, request: int, now_s: float) -> list[tuple[int, "_SimulatedLease"]]:
        """Place a request, or let it wait; it may take the place of another one."""
        self._now_s = now_s
        worker, caller = self._workers[request], self._caller[request]
        router, admission = self._routers[worker], self._admissions[worker]
        estimate = self._estimate_of(request)
        bucket = self.bucket[request] = router.bucket(estimate)
        try:
            lease = admission.enter(estimate, bucket=bucket, caller=caller, now_s=now_s)
            if lease is not None:
                return [(request, self._placed(request, lease))]
            due_s, until_s = admission.due(estimate, bucket=bucket, arrival_s=now_s, again=False)
            ticket = Ticket(
                estimate=estimate,
                bucket=bucket,
                caller=caller,
                ready=lambda: self._settled.append((request, ticket)),
                due_s=due_s,
                until_s=until_s,
            )
            admission.wait(ticket, now_s)
        except (Saturated, Unavailable):
            return []
        self._arrived_s[request] = now_s
        heappush(self._ends, (until_s, worker))
        return self._leases(now_s)

    def room(self, now_s: float) -> list[tuple[int, "_SimulatedLease"]]:
        """Let waiting requests take their turns, and end the time of those that waited too long."""
        self._now_s = self._turned_s = now_s
        while self._ends and self._ends[0][0] <= now_s:
            heappop(self._ends)
        for admission in self._admissions:
            if admission.waiting:
                admission.turn(now_s)
        return self._leases(now_s)

    def due_s(self) -> float:
        if not any(admission.waiting for admission in self._admissions):
            return inf
        ends_s = self._ends[0][0] if self._ends else inf
        return max(self._now_s, min(ends_s, self._turned_s + TURN_S))

    def _leases(self, now_s: float) -> list[tuple[int, "_SimulatedLease"]]:
        settled, self._settled = self._settled, []
        placed = []
        for request, ticket in settled:
            self.waited_s[request] = now_s - self._arrived_s.pop(request)
            if ticket.lease is not None:
                placed.append((request, self._placed(request, ticket.lease)))
        return placed

    def _placed(self, request: int, lease: Lease) -> "_SimulatedLease":
        self.decision[request] = lease.decision
        return _SimulatedLease(self._number[lease.backend.name], lease)


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


class _SimulatedLease:
    """A lease as the simulator wants it: with the number of its backend."""

    __slots__ = ("backend", "prefilled", "release")

    def __init__(self, backend: int, lease: Lease) -> None:
        self.backend = backend
        self.prefilled = lease.prefilled
        self.release = lease.release


class _LearningEstimates:
    """Estimates that learn: each request is predicted from those that ended before it arrived."""

    def __init__(
        self,
        trace: Trace,
        classes: Sequence[SloClass],
        names: Sequence[str],
        estimator: Estimator,
    ) -> None:
        # Ids as the gateway makes them, so that it can use what the estimator learned here.
        self._callers = callers(trace)
        self._inputs = [int(tokens) for tokens in trace.input_tokens.tolist()]
        self._outputs = [max(1, int(tokens)) for tokens in trace.output_tokens.tolist()]
        self._classes = classes
        self._names = names
        self._estimator = estimator

    def estimate(self, request: int) -> Estimate:
        return self._estimator.estimate_size(
            self._inputs[request],
            model=self._classes[request].model,
            caller=self._callers[request],
            slo_class=self._names[request],
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
    if requests and not LEFTOVER <= slo_class.min() <= slo_class.max() < len(buckets.classes):
        raise InvalidValue(f"slo_class must be from {LEFTOVER} to {len(buckets.classes) - 1}")
    return slo_class


def _fixed_estimates(
    estimated: FloatArray, classes: Sequence[SloClass], names: Sequence[str]
) -> EstimateOf:
    """Estimates that are given for every request, and learn nothing."""
    requests = len(classes)
    if estimated.ndim != 2 or len(estimated) != requests or estimated.shape[1] not in (2, 3):
        shape = f"({requests}, 2) or ({requests}, 3)"
        raise InvalidValue(f"estimated has shape {estimated.shape}, not {shape}")
    rows = estimated.astype(int).tolist()

    def estimate_of(request: int) -> Estimate:
        row = rows[request]
        return Estimate(
            model=classes[request].model,
            input_tokens=row[0],
            output_tokens=row[1],
            output_p90=row[-1],
            slo_class=names[request],
        )

    return estimate_of
