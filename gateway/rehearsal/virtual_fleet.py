"""A fleet that does not run, as a plan wants it, with as many requests in it as the plan expects.

For questions about a configuration of which no gateway runs. Knows no file and no command.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

from gateway.config.load import Loaded
from gateway.explanation.standpoint import Standpoint
from gateway.overview.fleet_state import states
from gateway.rehearsal.certify import sealed
from gateway.rehearsal.fleet_diff import present_fleet
from gateway.rehearsal.history import demand_of
from gateway.routing.backend import Lease
from gateway.routing.estimate import Estimate
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable, compile_table
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.program import solve
from planner.program.request import PlanRequest
from planner.traffic.trace import Trace

NOW_S = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VirtualFleet:
    """What a gateway would decide by. at: with the fleet. estimator: as it is after the workload.
    waiting: of the requests in flight, those that found no room. leases: of the others, which must
    be kept for as long as the fleet is used."""

    at: Standpoint
    estimator: Estimator
    waiting: int
    leases: tuple[Lease, ...]


def virtual_fleet(
    loaded: Loaded, trace: Trace | None, *, model: str | None, load: float, certify: bool
) -> VirtualFleet:
    """The fleet that a configuration would have for a workload, and how full it would be.

    trace: of requests for `model` (default: the first one configured); `None`: no demand is known,
    and the fleet is that of the configuration, idle. load: of the demand, how much of it is there.
    certify: whether to search for the cheapest certified plan, which takes a minute, instead of the
    plan that a gateway starts with. Raises PlannerError.
    """
    estimator = Estimator({name: m.bytes_per_token for name, m in loaded.config.models.items()})
    demand = None
    if trace is not None:
        demand = demand_of(trace, loaded, estimator=estimator, model=model)
    plan = _plan(loaded, demand, certify)
    table = compile_table(plan, loaded.pools)
    counts = zip(plan.pools, plan.backends, strict=True)
    fleet = Fleet.of({p: tuple(f"virtual://{p}/{n}" for n in range(most)) for p, most in counts})
    leases, waiting = _fill(plan, table, fleet, load if demand is not None else 0.0)
    at = Standpoint(
        plan=plan, table=table, fleet=fleet, pools=loaded.pools,
        states=states(fleet, NOW_S, {}), queued=waiting, now_s=NOW_S,
    )  # fmt: skip
    return VirtualFleet(at=at, estimator=estimator, waiting=waiting, leases=leases)


def _plan(loaded: Loaded, demand: Demand | None, certify: bool) -> Plan:
    running = present_fleet(loaded)
    if demand is None:
        return solve.assign(Demand.even(loaded.buckets), loaded.pools, running)
    objective = loaded.config.planner.objective
    if objective == "assign":
        plan = solve.assign(demand, loaded.pools, running)
    else:
        plan = solve.provision(demand, loaded.pools, loaded.limits)
    if not certify:
        return plan
    request = PlanRequest(
        objective=objective, demand=demand, pools=loaded.pools, running=running,
        limits=loaded.limits,
    )  # fmt: skip
    plan, refined = sealed(request, plan)
    return refined or plan


def _fill(
    plan: Plan, table: RoutingTable, fleet: Fleet, load: float
) -> tuple[tuple[Lease, ...], int]:
    """Place the requests that are there on average: the leases, and how many found no room."""
    router, leases, waiting = Router(table, fleet), [], 0
    for estimate, number in _in_flight(plan, load):
        for _ in range(number):
            lease = router.route(estimate, now_s=NOW_S)
            if lease is None:
                waiting += 1
                continue
            lease.prefilled()
            leases.append(lease)
    return tuple(leases), waiting


def _in_flight(plan: Plan, load: float) -> Iterator[tuple[Estimate, int]]:
    """By bucket, a request of its middle size and how many of it are there, by Little's law: its
    rate times its stay on a full backend, which is n*/X. What is less than one is carried over to
    the next bucket."""
    grid, left = plan.buckets.grid, 0.0
    for bucket, rate in enumerate(plan.rate):
        stays = [
            weight * plan.seconds[bucket][p] / plan.slots[bucket][p]
            for p, weight in enumerate(plan.weights[bucket])
            if weight > 0 and plan.slots[bucket][p] > 0 and isfinite(plan.seconds[bucket][p])
        ]
        left += load * rate * sum(stays)
        number, inner = int(left), plan.buckets.class_of(bucket)
        left -= number
        inputs, outputs = grid.centre(bucket % grid.cells)
        estimate = Estimate(
            model=inner.model, slo_class=inner.name, input_tokens=max(1, round(inputs)),
            output_tokens=max(1, round(outputs)), output_p90=max(1, round(outputs)),
        )  # fmt: skip
        yield estimate, number
