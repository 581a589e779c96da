"""The routing table: a plan compiled for lookup. Frozen; swapped whole by one assignment."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from planner.model.buckets import Buckets, SloClass
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.slo import Slo

UNBOUND_SLOT = 1.0  # of a request whose SLO cannot hold: it may slow a whole backend down
HOLD = 0.13  # of the TTFT beyond a backlog: how long to wait for a backend that keeps the SLO
STALLED = 8  # tokens of a short answer after its first: prefill as long breaks its TPOT


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTable:
    """What is: for every bucket, where its slices go and what a request of it occupies.

    pools: (P,) names. backends: (P,) how many of each pool's live backends the plan uses. slices:
    (B,) tuples of (pool, weight). order: (B,) every pool of the model, the plan's own choice of
    where to spill first: SLO-feasible ones by cost per request, then the rest by prefill speed.
    feasible: (B, P). slots: (B, P) load of one request in flight. prefill_s: (P,) seconds a prompt
    token. context: (P,) longest prompt and output. backlog_s: (C,) seconds of prefill that fill a
    backend by themselves, hold_s: (C,) how long a request may be held back, both by SLO class.
    """

    plan_id: str
    buckets: Buckets
    pools: tuple[str, ...]
    backends: tuple[int, ...]
    slices: tuple[tuple[tuple[int, float], ...], ...]
    order: tuple[tuple[int, ...], ...]
    feasible: tuple[tuple[bool, ...], ...]
    slots: tuple[tuple[float, ...], ...]
    prefill_s: tuple[float, ...]
    context: tuple[int, ...]
    backlog_s: tuple[float, ...]
    hold_s: tuple[float, ...]


def compile_table(plan: Plan, pools: Sequence[Pool]) -> RoutingTable:
    """Compiles a plan. pools: the planner's, in the plan's order."""
    assert plan.pools == tuple(pool.name for pool in pools)
    every = range(plan.buckets.count)
    feasible = tuple(tuple(s < inf for s in row) for row in plan.seconds)
    prefill_s = tuple(pool.profile.prefill_s_per_token for pool in pools)
    return RoutingTable(
        plan_id=plan.plan_id,
        buckets=plan.buckets,
        pools=plan.pools,
        backends=plan.backends,
        slices=tuple(_slices(plan.weights[b]) for b in every),
        order=tuple(
            _order(plan.buckets.class_of(b), plan.seconds[b], pools, prefill_s) for b in every
        ),
        feasible=feasible,
        slots=tuple(tuple(s if s < inf else UNBOUND_SLOT for s in row) for row in plan.slots),
        prefill_s=prefill_s,
        context=tuple(pool.profile.max_model_len for pool in pools),
        backlog_s=tuple(_backlog_s(c.slo) for c in plan.buckets.classes),
        hold_s=tuple(HOLD * (c.slo.ttft_s - _backlog_s(c.slo)) for c in plan.buckets.classes),
    )


def _backlog_s(slo: Slo) -> float:
    """Prefill stalls the answers in flight, and short ones have no time to make up for it."""
    return min(slo.ttft_s, STALLED * slo.tpot_s)


def _slices(weights: tuple[float, ...]) -> tuple[tuple[int, float], ...]:
    return tuple((p, weight) for p, weight in enumerate(weights) if weight > 0)


def _order(
    slo_class: SloClass,
    seconds: tuple[float, ...],
    pools: Sequence[Pool],
    prefill_s: tuple[float, ...],
) -> tuple[int, ...]:
    def cost(p: int) -> tuple[float, float]:
        usd = inf if seconds[p] == inf else pools[p].usd_per_hour * seconds[p]
        return usd, prefill_s[p]

    return tuple(sorted((p for p, q in enumerate(pools) if q.model == slo_class.model), key=cost))
