"""How a pool that is scaled is, for the admin port and for the metrics. Changes nothing."""

from typing import Any

from gateway.actuation.moving_pool import MovingPool
from gateway.actuation.ordering import Ordering
from gateway.telemetry.scaling_metrics import ScalingFigures
from planner.model.pool import Pool


def pool_figures(pool: MovingPool, ordering: Ordering, now_s: float) -> dict[str, Any]:
    """As the admin port shows it. now_s: on the event loop's clock."""
    aim, times, order = pool.aim, pool.times, pool.courier.order
    return {
        "actuator": pool.courier.actuator.name,
        "least": pool.least,
        "most": pool.most,
        "needed": aim.needed,
        "wish": aim.wish,
        "sleep": _sleep(pool, ordering),
        "there": len(ordering.presence.there(pool.name)),
        "ordered_last": aim.ordered,
        "under_way": None if order is None else order.backends,
        "pending": [
            {"phase": one.phase, "backend": one.backend, "age_s": round(now_s - one.ordered_s, 1)}
            for one in ordering.launches.of(pool.name)
        ],
        "why": aim.why,
        "held": aim.held,
        "idle": aim.idle,
        "startup": {
            "mean_s": round(times.mean_s, 1),
            "learned_from": times.number,
            "phases_s": {p: None if s is None else round(s, 1) for p, s in times.phases_s.items()},
        },
        "wake": {"mean_s": round(pool.wakes.mean_s, 1), "learned_from": pool.wakes.number},
    }


def _sleep(pool: MovingPool, ordering: Ordering) -> dict[str, Any] | None:
    """What is to be awake and asleep, and what sleeps; `None` where none is to sleep."""
    division = pool.aim.division
    if division is None:
        return None
    asleep = ordering.present(pool.name).asleep
    return {"awake": division.awake, "asleep": division.asleep, "asleep_now": asleep}


def pool_metrics(
    pool: MovingPool, ordering: Ordering, planned: Pool | None, draining: int
) -> ScalingFigures:
    """As the metrics show it. planned: the planner's pool. draining: backends that are drained."""
    short = None if planned is None else ordering.shortages.of(planned)
    return ScalingFigures(
        pool=pool.name,
        ordered=pool.aim.ordered,
        there=len(ordering.presence.there(pool.name)),
        asleep=ordering.present(pool.name).asleep,
        needed=pool.aim.needed,
        pending=ordering.launches.pending(pool.name),
        draining=draining,
        cap_gpus=None if short is None else short.stock.most,
        startup_s=pool.times.mean_s,
        orders={r: n for (name, r), n in ordering.tally.orders.items() if name == pool.name},
        launches={r: n for (name, r), n in ordering.tally.launches.items() if name == pool.name},
    )
