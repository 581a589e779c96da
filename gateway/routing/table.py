"""The routing table: a plan compiled for lookup. Frozen; replaced as a whole by one assignment."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from planner.model.buckets import Buckets, SloClass
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.slo import Slo

# Load of one request in a bucket whose SLO the pool cannot hold: it may slow down a whole backend.
UNBOUND_SLOT = 1.0
# How long a request may wait for a backend that keeps its SLO, as a share of the TTFT target less
# the backlog. Most of what delays it is prefill of other requests, which is soon done. Together
# with the pressure rule of `router` the wait raised attainment by 0.5–0.8 points on fixed fleets.
HOLD = 0.13
# The longest stall by prefill, in output tokens: a short answer of eight tokens beside it cannot
# make up for a longer one and misses its TPOT. With the TTFT target alone as the bound, four of
# five misses in rehearsals were such short answers.
STALLED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTable:
    """For every bucket: where its slices go, and the load of one request of it.

    pools: (P,) names. backends: (P,) how many of each pool's live backends the plan uses. slices:
    (B,) tuples of (pool, weight). order: (B,) every pool of the model, in the plan's own order of
    spilling: SLO-feasible pools by cost per request, then the rest by prefill speed. feasible:
    (B, P) whether the pool holds the bucket's SLO. slots: (B, P) load of one request in flight.
    prefill_s: (P,) seconds per prompt token. context: (P,) longest prompt and output, tokens.
    backlog_s: (B,) seconds of prefill that fill a backend by themselves. hold_s: (B,) seconds that
    a request may wait for a backend that keeps its SLO.
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
    """Compile a plan. pools: the planner's, in the plan's order."""
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
        backlog_s=tuple(_backlog_s(plan.buckets.class_of(b).slo) for b in every),
        hold_s=tuple(_hold_s(plan.buckets.class_of(b).slo) for b in every),
    )


def _backlog_s(slo: Slo) -> float:
    """Seconds of pending prefill that fill a backend: more would break the TTFT of the next
    request, or the TPOT of short answers in flight."""
    return min(slo.ttft_s, STALLED * slo.tpot_s)


def _hold_s(slo: Slo) -> float:
    return HOLD * (slo.ttft_s - _backlog_s(slo))


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
