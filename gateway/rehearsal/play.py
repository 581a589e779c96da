"""A plan rehearsed: the gateway's own router and leases in virtual time, over modelled engines.

Owns the thin adapter between `Router` and `planner.proof.simulate`: what the router believes of a
request, and what became of its decision. Knows no HTTP, no clock and no chance.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Saturated, Unavailable
from gateway.rehearsal.history import ROUTE, sender
from gateway.routing.backend import Fleet, Lease
from gateway.routing.estimate import Estimate
from gateway.routing.lengths import OutputLengths
from gateway.routing.observation import Outcome
from gateway.routing.peers import LoadView, SharedLoad
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable, compile_table
from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.proof.simulate import OnFinished, SimulationResult, simulate
from planner.sizes import FloatArray, IntArray
from planner.slo import Slo
from planner.traffic.trace import Trace

MAX_LOAD = 2.0
SHED = Outcome.SHED.value

EstimateOf = Callable[[int], Estimate]  # what the router takes a request for, at its arrival


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rehearsal:
    """What a plan would have done to N requests.

    result: times and engines; engines are numbered pool by pool in the plan's order. slo_class:
    (N,) its number in the plan's space. pool: (N,) its index in the plan, -1 if shed. bucket: (N,)
    what each was taken for. decision: (N,) the router's: planned, spill, overload, best-effort; or
    shed.
    """

    result: SimulationResult
    slo_class: IntArray
    pool: IntArray
    bucket: IntArray
    decision: tuple[str, ...]

    def met(self, buckets: Buckets) -> NDArray[np.bool_]:
        """(N,) whether each request met the promise of its own class."""
        met = np.zeros(len(self.slo_class), dtype=np.bool_)
        for number in np.unique(self.slo_class).tolist():
            mine = self.slo_class == number
            met[mine] = self.result.met(buckets.classes[number].slo)[mine]
        return met

    def attainment(self, slo: Slo, skip: float = 0.1) -> float:
        """The share that met the promise, without the first `skip` of the requests."""
        return self.result.attainment(slo, skip=skip)


def rehearse(
    trace: Trace,
    plan: Plan,
    pools: tuple[Pool, ...],
    *,
    slo_class: IntArray | None = None,
    lengths: OutputLengths | None = None,
    believed: FloatArray | None = None,
    max_load: float = MAX_LOAD,
    patience_s: float = 0.0,
    dealt: IntArray | None = None,
) -> Rehearsal:
    """Plays a trace through a plan's router.

    pools: the planner's, in the plan's order; every planned backend is one idle engine at the
    start. slo_class: (N,) whose each request is, as a number in the plan's space; default: all are
    of its first class. believed: (N, 2) input and output tokens as estimated, or (N, 3) with the
    P90 of the output; without it `lengths` (fresh ones if `None`) predicts outputs and learns them
    as requests end. Inputs are then believed as they are. max_load, patience_s: the gateway's own
    settings for overload and its queue. dealt: (N,) the number of the worker that each request
    reaches, where several share the fleet; `None`: one has them all. Raises InvalidValue when
    trace, classes and beliefs do not match.
    """
    classes, numbers = plan.buckets.classes, _numbers(slo_class, len(trace), plan.buckets)
    kinds = [classes[number] for number in numbers.tolist()]
    belief: EstimateOf
    finished: OnFinished | None
    if believed is None:
        memory = _LearningEstimates(trace, kinds, OutputLengths() if lengths is None else lengths)
        belief, finished = memory.believe, memory.learn
    elif lengths is not None:
        raise InvalidValue("either lengths or believed, not both")
    else:
        belief, finished = _given(believed, kinds), None
    engines = [p for p, count in enumerate(plan.backends) for _ in range(count)]
    table = compile_table(plan, pools)
    hold_s = np.array(table.hold_s)[numbers]
    turns = np.zeros(len(trace), dtype=np.int64) if dealt is None else dealt
    until_s = (trace.arrival_s + hold_s).tolist()
    desk = _SimulatedRouter(plan, table, belief, max_load, until_s, turns.tolist())
    result = simulate(
        trace,
        [pools[p].profile for p in engines],
        desk.route,
        on_finished=finished,
        patience_s=patience_s,
        hold_s=hold_s,
    )
    served = result.backend >= 0
    pool = np.full(len(trace), -1, dtype=np.int64)
    pool[served] = np.array(engines, dtype=np.int64)[result.backend[served]]
    decision = tuple(d if ok else SHED for d, ok in zip(desk.decision, served, strict=True))
    bucket = np.array(desk.bucket, dtype=np.int64)
    return Rehearsal(result=result, slo_class=numbers, pool=pool, bucket=bucket, decision=decision)


class _SimulatedRouter:
    """The workers' routers as `planner.proof.simulate` wants to see them."""

    def __init__(
        self,
        plan: Plan,
        table: RoutingTable,
        belief: EstimateOf,
        max_load: float,
        until_s: list[float],
        dealt: list[int],
    ) -> None:
        """until_s: up to when each request may be held back. dealt: the worker that it reaches."""
        urls = {
            pool: tuple(f"{pool}:{n}" for n in range(count))
            for pool, count in zip(plan.pools, plan.backends, strict=True)
        }
        self._routers = tuple(_routers(table, urls, 1 + max(dealt, default=0), max_load))
        backends = self._routers[0].fleet.backends
        self._number = {backend.name: k for k, backend in enumerate(backends)}
        self._belief = belief
        self._estimates: dict[int, Estimate] = {}  # of those that wait: believed at arrival
        self._until_s = until_s
        self._dealt = dealt
        self.bucket = [-1] * len(until_s)
        self.decision = [SHED] * len(until_s)

    def route(self, request: int, now_s: float) -> "_SimulatedLease | None":
        router = self._routers[self._dealt[request]]
        estimate = self._estimates.pop(request, None) or self._belief(request)
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
    """A router per worker, each with a fleet of its own and a seat at one board."""
    if workers == 1:
        yield Router(table, Fleet(urls), max_load=max_load)
        return
    backends = sum(map(len, urls.values()))
    memory = bytearray(8 * SharedLoad.doubles(workers=workers, backends=backends))
    shared_load = SharedLoad(memory, workers=workers, backends=backends)
    for number in range(workers):
        fleet = Fleet(urls)
        yield Router(
            table, fleet, max_load=max_load, load_view=LoadView(shared_load, fleet, number)
        )


class _SimulatedLease:
    """A lease, its backend by number."""

    __slots__ = ("backend", "prefilled", "release")

    def __init__(self, backend: int, lease: Lease) -> None:
        self.backend = backend
        self.prefilled = lease.prefilled
        self.release = lease.release


class _LearningEstimates:
    """Beliefs that learn: each request is predicted from those that ended before it came."""

    def __init__(self, trace: Trace, kinds: Sequence[SloClass], lengths: OutputLengths) -> None:
        # Keys as the gateway sees them, so that lengths learned by either serve the other.
        self._keys = [sender(key) for key in trace.key]
        self._inputs = [int(tokens) for tokens in trace.input_tokens.tolist()]
        self._outputs = [max(1, int(tokens)) for tokens in trace.output_tokens.tolist()]
        self._kinds = kinds
        self._lengths = lengths

    def believe(self, request: int) -> Estimate:
        inputs, kind = self._inputs[request], self._kinds[request]
        length = self._lengths.predict(kind.model, self._keys[request], ROUTE, inputs, None)
        return Estimate(
            model=kind.model,
            input_tokens=inputs,
            output_tokens=length.median,
            output_p90=length.p90,
            slo_class=kind.name,
        )

    def learn(self, request: int, now_s: float) -> None:
        inputs, outputs = self._inputs[request], self._outputs[request]
        model = self._kinds[request].model
        self._lengths.learn(model, self._keys[request], ROUTE, inputs, None, outputs)


def _numbers(slo_class: IntArray | None, requests: int, buckets: Buckets) -> IntArray:
    if slo_class is None:
        return np.zeros(requests, dtype=np.int64)
    if slo_class.shape != (requests,):
        raise InvalidValue(f"slo_class has shape {slo_class.shape}, not ({requests},)")
    if requests and not 0 <= slo_class.min() <= slo_class.max() < len(buckets.classes):
        raise InvalidValue(f"slo_class must be from 0 to {len(buckets.classes) - 1}")
    return slo_class


def _given(believed: FloatArray, kinds: Sequence[SloClass]) -> EstimateOf:
    requests = len(kinds)
    if believed.ndim != 2 or len(believed) != requests or believed.shape[1] not in (2, 3):
        shape = f"({requests}, 2) or ({requests}, 3)"
        raise InvalidValue(f"believed has shape {believed.shape}, not {shape}")
    rows = believed.astype(int).tolist()

    def belief(request: int) -> Estimate:
        row, kind = rows[request], kinds[request]
        return Estimate(
            model=kind.model,
            input_tokens=row[0],
            output_tokens=row[1],
            output_p90=row[-1],
            slo_class=kind.name,
        )

    return belief
