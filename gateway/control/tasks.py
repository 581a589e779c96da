"""What the solver's process is for. Everything that solves is imported here and nowhere before."""

from gateway.control.verdict import Objective
from planner import solve
from planner.explain import explained
from planner.limits import UNLIMITED, Limits
from planner.model import Demand, Plan, Pool


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
    return explained(found, demand, pools)
