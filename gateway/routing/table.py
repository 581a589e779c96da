"""The routing table: a plan compiled for lookup. Frozen; replaced as a whole by one assignment."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from planner.model.buckets import Buckets, SloClass
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.sizes import FloatArray
from planner.slo import Slo

# Load of one request where not even one at a time keeps the TPOT: it slows down a whole backend.
UNBOUND_SLOT = 1.0
RELAXED_S = 1e9  # a TTFT target that no request misses
# The longest stall by prefill, in output tokens: a short answer of eight tokens beside it cannot
# make up for a longer one and misses its TPOT. With the TTFT target alone as the bound, four of
# five misses in rehearsals were such short answers.
STALLED = 8
# Iterations of a full backend, which take as long as the TPOT target allows, before and with the
# prefill of a prompt: the one that is under way, and the one that it ends in. They are no more
# than a share of the TTFT target where that is as short as a few tokens.
ENTRY = 2
ENTRY_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTable:
    """For every bucket: where its slices go, and the load of one request of it.

    The classes of one model share its backends. Each is numbered among them from 0 (`own`), and a
    request has one load for each of them: its load as measured by that class's promise.

    pools: (P,) names. backends: (P,) how many of each pool's live backends the plan uses. slices:
    (B,) tuples of (pool, weight). order: (B,) every pool of the model, in the plan's own order of
    spilling: SLO-feasible pools by cost per request, then the rest by prefill speed. feasible:
    (B, P) whether the pool holds the bucket's SLO. slots: (B, P) the loads of one request in
    flight, by class of the model; empty in pools of other models. own: (B,) number of the bucket's
    class among those of its model. siblings: (B,) the global indexes of those classes. guards: (P,)
    by class of the pool's model, whether the plan sends requests of the class there. prefill_s:
    (P,) seconds per prompt token. context: (P,) longest prompt and output, and kv_tokens: (P,)
    those of a whole KV cache, tokens. backlog_s: (C,) by class: seconds of prefill that fill a
    backend by themselves. allowed_s: (C,) seconds of the TTFT target for the queue and prefill, and
    entry_s: (C,) the rest of it. fill_s: (P,) seconds that a request stays on a full backend, on
    average. ranks: (C,) place of each class among those of its model, 0 for the shortest TTFT
    target. strictest: (P,) number of the class of rank 0 of the pool's model. cached_share: (P,) of
    the prompt tokens, prefix hits that the plan expects, which prefill_s leaves out; empty: none.
    """

    plan_id: str
    buckets: Buckets
    pools: tuple[str, ...]
    backends: tuple[int, ...]
    slices: tuple[tuple[tuple[int, float], ...], ...]
    order: tuple[tuple[int, ...], ...]
    feasible: tuple[tuple[bool, ...], ...]
    slots: tuple[tuple[tuple[float, ...], ...], ...]
    own: tuple[int, ...]
    siblings: tuple[tuple[int, ...], ...]
    guards: tuple[tuple[bool, ...], ...]
    prefill_s: tuple[float, ...]
    context: tuple[int, ...]
    kv_tokens: tuple[int, ...]
    backlog_s: tuple[float, ...]
    allowed_s: tuple[float, ...]
    entry_s: tuple[float, ...]
    fill_s: tuple[float, ...]
    strictest: tuple[int, ...]
    ranks: tuple[int, ...]
    cached_share: tuple[float, ...] = ()

    @property
    def contexts(self) -> dict[str, int]:
        """Longest prompt and output by pool, tokens."""
        return dict(zip(self.pools, self.context, strict=True))


def compile_table(plan: Plan, pools: Sequence[Pool]) -> RoutingTable:
    """Compile a plan. pools: the planner's, in the plan's order."""
    assert plan.pools == tuple(pool.name for pool in pools)
    every = range(plan.buckets.count)
    feasible = tuple(tuple(s < inf for s in row) for row in plan.seconds)
    # By the prompt's length, which is what is known at arrival: less what the plan expects to hit.
    cached = plan.cached_share or (0.0,) * len(pools)
    prefill_s = tuple(
        pool.profile.prefill_s_per_token * (1 - share)
        for pool, share in zip(pools, cached, strict=True)
    )
    classes, cells = plan.buckets.classes, plan.buckets.grid.cells
    siblings = tuple(_siblings(classes, slo_class.model) for slo_class in classes)
    loads = _loads(plan, pools)
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
        slots=tuple(
            tuple(
                tuple(float(loads[k * cells + b % cells, p]) for k in siblings[b // cells])
                if pool.model == plan.buckets.class_of(b).model
                else ()
                for p, pool in enumerate(pools)
            )
            for b in every
        ),
        own=tuple(siblings[b // cells].index(b // cells) for b in every),
        siblings=tuple(siblings[b // cells] for b in every),
        guards=tuple(_guards(plan, p, pool.model) for p, pool in enumerate(pools)),
        prefill_s=prefill_s,
        kv_tokens=tuple(pool.profile.kv_capacity for pool in pools),
        context=tuple(pool.profile.max_model_len for pool in pools),
        backlog_s=tuple(_backlog_s(slo_class.slo) for slo_class in classes),
        allowed_s=tuple(c.slo.ttft_s - _entry_s(c.slo) for c in classes),
        entry_s=tuple(_entry_s(c.slo) for c in classes),
        fill_s=tuple(_fill_s(plan, p) for p in range(len(pools))),
        strictest=tuple(_strictest(classes, pool.model) for pool in pools),
        ranks=tuple(_rank(classes, k) for k in range(len(classes))),
        cached_share=tuple(cached),
    )


def _strictest(classes: Sequence[SloClass], model: str) -> int:
    siblings = _siblings(classes, model)
    return min(range(len(siblings)), key=lambda k: _rank(classes, siblings[k]), default=0)


def _fill_s(plan: Plan, pool: int) -> float:
    """The mean of n*/X over the requests that the plan sends there, or could send there: by
    Little's law, how long each stays while the backend is full."""
    rows = [b for b in range(plan.buckets.count) if 0 < plan.slots[b][pool] < inf]
    share = [plan.rate[b] * plan.weights[b][pool] for b in rows]
    if not sum(share):
        share = [1.0] * len(rows)
    seconds = sum(f * plan.seconds[b][pool] for f, b in zip(share, rows, strict=True))
    slots = sum(f * plan.slots[b][pool] for f, b in zip(share, rows, strict=True))
    return seconds / slots if slots else 1.0


def _rank(classes: Sequence[SloClass], index: int) -> int:
    """The place of a class in the order of TTFT targets, then of TPOT targets."""
    own = classes[index]
    mine = own.slo.ttft_s, own.slo.tpot_s, index
    return sum(
        (c.slo.ttft_s, c.slo.tpot_s, k) < mine
        for k, c in enumerate(classes)
        if c.model == own.model
    )


def _siblings(classes: Sequence[SloClass], model: str) -> tuple[int, ...]:
    return tuple(k for k, slo_class in enumerate(classes) if slo_class.model == model)


def _guards(plan: Plan, pool: int, model: str) -> tuple[bool, ...]:
    cells = plan.buckets.grid.cells
    return tuple(
        any(plan.weights[b][pool] > 0 for b in range(k * cells, (k + 1) * cells))
        for k in _siblings(plan.buckets.classes, model)
    )


def _loads(plan: Plan, pools: Sequence[Pool]) -> FloatArray:
    """(B, P) load of one request in flight, by the TPOT of the bucket's class.

    The plan knows it where the pool holds the SLO. Where it does not, because the prompt is too
    long for the TTFT, the request still may run beside requests of another class: its load is then
    that at the centre of its cell by the TPOT alone.
    """
    loads = np.array(plan.slots, dtype=float).reshape(plan.buckets.count, len(pools))
    grid = plan.buckets.grid
    centres = np.array([grid.centre(cell) for cell in range(grid.cells)], dtype=float)
    for k, slo_class in enumerate(plan.buckets.classes):
        rows = slice(k * grid.cells, (k + 1) * grid.cells)
        paced = Slo(ttft_s=RELAXED_S, tpot_s=slo_class.slo.tpot_s)
        for p, pool in enumerate(pools):
            if pool.model != slo_class.model or np.isfinite(loads[rows, p]).all():
                continue
            n_star = pool.profile.capacity(centres[:, 0], centres[:, 1], paced).n_star
            alone = np.where(n_star > 1, 1 / np.maximum(n_star, 1.0), UNBOUND_SLOT)
            loads[rows, p] = np.where(np.isfinite(loads[rows, p]), loads[rows, p], alone)
    return loads


def _backlog_s(slo: Slo) -> float:
    """Seconds of pending prefill that fill a backend: more would break the TTFT of the next
    request, or the TPOT of short answers in flight."""
    return min(slo.ttft_s, STALLED * slo.tpot_s)


def _entry_s(slo: Slo) -> float:
    """Of the TTFT target, what `ENTRY` iterations of a full backend take."""
    return min(ENTRY * slo.tpot_s, ENTRY_SHARE * slo.ttft_s)


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
