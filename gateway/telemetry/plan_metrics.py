"""The metrics of the plan in force, and of what was ordered by it."""

from collections.abc import Iterator, Mapping

from gateway.telemetry import control_definitions as control
from gateway.telemetry.exposition import Family, labelled
from planner.model.plan import Plan


def plan_families(plan: Plan, orders: Mapping[str, int | None]) -> Iterator[Family]:
    """orders: backends that pools which are scaled are to have, in place of the plan's; `None`:
    nothing was ordered yet, and nothing is shown, so that whoever follows the metric ends none of
    the backends that an earlier gateway ordered."""
    desired, load = Family(control.DESIRED_BACKENDS), Family(control.PLANNED_LOAD)
    for pool, count, mean in zip(plan.pools, plan.backends, plan.load, strict=True):
        if (wished := orders.get(pool, count)) is not None:
            desired.add(labelled(pool=pool), wished)
        load.add(labelled(pool=pool), mean)
    yield from (desired, load)
    single = Family(control.SINGLE_USD)
    if plan.cheapest_single is not None:
        cheapest = plan.cheapest_single
        single.add(labelled(gpu=cheapest.gpu), cheapest.usd_per_hour)
    yield single
    for definition, value in (
        (control.PLAN_USD, plan.usd_per_hour),
        (control.PLAN_BOUND_USD, plan.lower_bound_usd_per_hour),
        (control.PLAN_SOLVE_S, plan.solve_s),
    ):
        family = Family(definition)
        family.add("", value)
        yield family


def spending(running: Mapping[str, float], asleep_usd: float) -> Iterator[Family]:
    """What the backends of each pool cost now, $/h. asleep_usd: what those that sleep add to the
    plan's cost."""
    family, asleep = Family(control.RUNNING_USD), Family(control.ASLEEP_USD)
    for pool, usd in running.items():
        family.add(labelled(pool=pool), round(usd, 6))
    asleep.add("", round(asleep_usd, 6))
    yield from (family, asleep)
