"""The first view of the page: pools, promises and loops in rows. Pure: time is an argument."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.overview.promises import Kept
from gateway.overview.record import name_of
from planner.model.buckets import BEST_EFFORT, SloClass
from planner.model.plan import Plan
from planner.model.pool import Pool


def pool_rows(
    plan: Plan,
    pools: Sequence[tuple[Pool, str]],
    *,
    counts: Mapping[str, Mapping[str, Any]],
    running: Mapping[str, int],
    shares: Mapping[str, float],
    served: Mapping[tuple[str, str], int],
    paces: Mapping[str, float | None],
) -> list[dict[str, Any]]:
    """Each pool: what it is, what the plan wants of it, and how it is. pools: with the name of
    their GPUs. counts: backends by state, load and what is in flight. running: backends now.
    shares: planned, of the requests of the pool's model. served: lately, by model and pool. paces:
    beside the profile."""
    by_model: dict[str, int] = {}
    for (model, _), number in served.items():
        by_model[model] = by_model.get(model, 0) + number
    planned = dict(zip(plan.pools, plan.backends, strict=True))
    loads = dict(zip(plan.pools, plan.load, strict=True))
    rows = []
    for pool, gpu in pools:
        own, all_served = served.get((pool.model, pool.name), 0), by_model.get(pool.model, 0)
        wanted, pace = planned.get(pool.name, 0), paces.get(pool.name)
        rows.append({
            "name": pool.name,
            "model": pool.model,
            "gpu": gpu,
            "usd_each": round(pool.usd_per_hour, 4),
            "shared": None if pool.shared is None else pool.shared.name,
            "planned": wanted,
            "running": running.get(pool.name, 0),
            "planned_load": round(loads.get(pool.name, 0.0) / wanted, 4) if wanted else None,
            "share": shares.get(pool.name),
            "real_share": round(own / all_served, 4) if all_served else None,
            "pace": None if pace is None else round(pace, 3),
            **counts.get(pool.name, {"states": {}, "load": None, "in_flight": 0}),
        })  # fmt: skip
    return rows


def class_rows(
    classes: Sequence[SloClass], came: Mapping[tuple[str, str], Kept], seconds: float
) -> list[dict[str, Any]]:
    """Each SLO class, and how its promise was kept lately; then requests without a promise, by
    model, where there were some. came: in so many seconds, by model and class."""
    rows = []
    for one in classes:
        kept = came.get((one.model, one.name), Kept())
        slo = one.slo
        rows.append({
            "name": name_of(one.model, one.name),
            "ttft_s": slo.ttft_s,
            "tpot_s": slo.tpot_s,
            "target": slo.attainment,
            **_lately(kept, seconds),
        })  # fmt: skip
    for (model, name), kept in came.items():
        if name == BEST_EFFORT and kept.requests:
            promised = {"ttft_s": None, "tpot_s": None, "target": None}
            rows.append({"name": name_of(model, name), **promised, **_lately(kept, seconds)})
    return rows


def _lately(kept: Kept, seconds: float) -> dict[str, Any]:
    share = kept.attainment
    return {
        "kept": kept.kept,
        "missed": kept.missed,
        "refused": kept.refused,
        "requests": kept.requests,
        "rate": round(kept.requests / seconds, 3) if seconds else 0.0,
        "attainment": None if share is None else round(share, 6),
    }


def loop_rows(loops: Mapping[str, Mapping[str, Any]], now_s: float) -> list[dict[str, Any]]:
    """The loops of the control plane: how long ago each went well, and what it says. now_s: Unix
    time."""
    return [
        {
            "name": name,
            "age_s": None if one["good_at_s"] is None else round(now_s - one["good_at_s"], 1),
            "failures": one["failures"],
            "error": one["error"],
        }
        for name, one in loops.items()
    ]
