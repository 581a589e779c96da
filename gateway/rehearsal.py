"""A plan rehearsed: the gateway's own router and leases in virtual time, over modelled engines.

Owns the thin adapter between `Router` and `planner.simulate`: what the router believes of a
request, and what became of its decision. Knows no HTTP, no clock and no chance.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gateway.errors import Saturated, Unavailable
from gateway.history import ROUTE, sender
from gateway.routing.backend import Fleet, Lease
from gateway.routing.board import Board, Seat
from gateway.routing.lengths import Lengths
from gateway.routing.observation import Outcome
from gateway.routing.router import Estimate, Router
from gateway.routing.table import RoutingTable, compile_table
from planner.errors import InvalidValue
from planner.model import Plan, Pool
from planner.simulate import Finish, Result, simulate
from planner.sizes import FloatArray, IntArray
from planner.slo import Slo
from planner.workload import Trace

MAX_LOAD = 2.0
SHED = Outcome.SHED.value

Belief = Callable[[int], Estimate]  # what the router takes a request for, at its arrival


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rehearsal:
    """What a plan would have done to N requests.

    result: times and engines; engines are numbered pool by pool in the plan's order. pool: (N,) its
    index in the plan, -1 if shed. bucket: (N,) what each was taken for. decision: (N,) the
    router's: planned, spill, overload, best-effort; or shed.
    """

    result: Result
    pool: IntArray
    bucket: IntArray
    decision: tuple[str, ...]

    def attainment(self, slo: Slo, skip: float = 0.1) -> float:
        """The share that met the promise, without the first `skip` of the requests."""
        return self.result.attainment(slo, skip=skip)


def rehearse(
    trace: Trace,
    plan: Plan,
    pools: tuple[Pool, ...],
    *,
    model: str | None = None,
    lengths: Lengths | None = None,
    believed: FloatArray | None = None,
    max_load: float = MAX_LOAD,
    patience_s: float = 0.0,
    dealt: IntArray | None = None,
) -> Rehearsal:
    """Plays a trace of one model's requests (default: the plan's first) through a plan's router.

    pools: the planner's, in the plan's order; every planned backend is one idle engine at the
    start. believed: (N, 2) input and output tokens as estimated, or (N, 3) with the P90 of the
    output; without it `lengths` (fresh ones if `None`) predicts outputs and learns them as requests
    end. Inputs are then believed as they are. max_load, patience_s: the gateway's own settings for
    overload and its queue. dealt: (N,) the number of the worker that each request reaches, where
    several share the fleet; `None`: one has them all. Raises InvalidValue when trace and beliefs do
    not match.
    """
    model = model or plan.space.classes[0].model
    belief: Belief
    finished: Finish | None
    if believed is None:
        memory = _Memory(trace, model, Lengths() if lengths is None else lengths)
        belief, finished = memory.believe, memory.learn
    elif lengths is not None:
        raise InvalidValue("either lengths or believed, not both")
    else:
        belief, finished = _given(believed, len(trace), model), None
    numbers = [p for p, count in enumerate(plan.backends) for _ in range(count)]
    turns = np.zeros(len(trace), dtype=np.int64) if dealt is None else dealt
    desk = _Desk(plan, pools, belief, max_load, trace.arrival_s.tolist(), turns.tolist())
    hold_s = desk.routers[0].hold_s(model)
    result = simulate(
        trace,
        [pools[p].profile for p in numbers],
        desk.route,
        finished=finished,
        patience_s=patience_s,
        hold_s=hold_s,
    )
    served = result.backend >= 0
    pool = np.full(len(trace), -1, dtype=np.int64)
    pool[served] = np.array(numbers, dtype=np.int64)[result.backend[served]]
    decision = tuple(d if ok else SHED for d, ok in zip(desk.decision, served, strict=True))
    bucket = np.array(desk.bucket, dtype=np.int64)
    return Rehearsal(result=result, pool=pool, bucket=bucket, decision=decision)


class _Desk:
    """The workers' routers as `planner.simulate` wants to see them."""

    def __init__(
        self,
        plan: Plan,
        pools: tuple[Pool, ...],
        belief: Belief,
        max_load: float,
        arrivals_s: list[float],
        dealt: list[int],
    ) -> None:
        urls = {
            pool.name: tuple(f"{pool.name}:{n}" for n in range(count))
            for pool, count in zip(pools, plan.backends, strict=True)
        }
        table = compile_table(plan, pools)
        self.routers = tuple(_routers(table, urls, 1 + max(dealt, default=0), max_load))
        backends = self.routers[0].fleet.backends
        self._number = {backend.name: k for k, backend in enumerate(backends)}
        self._belief = belief
        self._estimates: dict[int, Estimate] = {}  # of those that wait: believed at arrival
        self._arrivals_s = arrivals_s
        self._dealt = dealt
        self.bucket = [-1] * len(arrivals_s)
        self.decision = [SHED] * len(arrivals_s)

    def route(self, request: int, now_s: float) -> "_Held | None":
        router = self.routers[self._dealt[request]]
        estimate = self._estimates.pop(request, None) or self._belief(request)
        until_s = self._arrivals_s[request] + router.hold_s(estimate.model)
        try:
            lease = router.route(estimate, now_s=now_s, patient=now_s < until_s)
        except (Saturated, Unavailable):
            self._estimates[request] = estimate
            self.bucket[request] = router.bucket(estimate)
            return None
        self.bucket[request] = lease.bucket
        self.decision[request] = lease.decision
        return _Held(self._number[lease.backend.name], lease)


def _routers(
    table: RoutingTable, urls: dict[str, tuple[str, ...]], workers: int, max_load: float
) -> Iterator[Router]:
    """A router per worker, each with a fleet of its own and a seat at one board."""
    if workers == 1:
        yield Router(table, Fleet(urls), max_load=max_load)
        return
    backends = sum(map(len, urls.values()))
    memory = bytearray(8 * Board.doubles(workers=workers, backends=backends))
    board = Board(memory, workers=workers, backends=backends)
    for number in range(workers):
        fleet = Fleet(urls)
        yield Router(table, fleet, max_load=max_load, seat=Seat(board, fleet, number))


class _Held:
    """A lease, its backend by number."""

    __slots__ = ("backend", "prefilled", "release")

    def __init__(self, backend: int, lease: Lease) -> None:
        self.backend = backend
        self.prefilled = lease.prefilled
        self.release = lease.release


class _Memory:
    """Beliefs that learn: each request is predicted from those that ended before it came."""

    def __init__(self, trace: Trace, model: str, lengths: Lengths) -> None:
        # Keys as the gateway sees them, so that lengths learned by either serve the other.
        self._keys = [sender(key) for key in trace.key]
        self._inputs = [int(tokens) for tokens in trace.input_tokens.tolist()]
        self._outputs = [max(1, int(tokens)) for tokens in trace.output_tokens.tolist()]
        self._model = model
        self._lengths = lengths

    def believe(self, request: int) -> Estimate:
        inputs = self._inputs[request]
        length = self._lengths.predict(self._model, self._keys[request], ROUTE, inputs, None)
        return Estimate(
            model=self._model,
            input_tokens=inputs,
            output_tokens=length.median,
            output_p90=length.p90,
        )

    def learn(self, request: int, now_s: float) -> None:
        inputs, outputs = self._inputs[request], self._outputs[request]
        self._lengths.learn(self._model, self._keys[request], ROUTE, inputs, None, outputs)


def _given(believed: FloatArray, requests: int, model: str) -> Belief:
    if believed.ndim != 2 or len(believed) != requests or believed.shape[1] not in (2, 3):
        shape = f"({requests}, 2) or ({requests}, 3)"
        raise InvalidValue(f"believed has shape {believed.shape}, not {shape}")
    rows = believed.astype(int).tolist()

    def belief(request: int) -> Estimate:
        row = rows[request]
        return Estimate(model=model, input_tokens=row[0], output_tokens=row[1], output_p90=row[-1])

    return belief
