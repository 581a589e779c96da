"""What the solver's process is for. Everything that solves is imported here and nowhere before."""

from gateway.control.solver.compare import Objective
from planner.costs.explain import with_single_types
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program import solve
from planner.program.limits import UNLIMITED, Limits


def plan(
    objective: Objective,
    demand: Demand,
    pools: tuple[Pool, ...],
    running: tuple[int, ...],
    limits: Limits = UNLIMITED,
) -> Plan:
    """Solves in the calling process. running: (P,) backends now, which `assign` takes as given."""
    if objective == "provision":
        found = solve.provision(demand, pools, limits)
    else:
        found = solve.assign(demand, pools, running)
    return with_single_types(found, demand, pools)
