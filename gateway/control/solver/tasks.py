"""The solver's task: one plan. Only the solver's process imports this module, and so the solver."""

from planner.costs.explain import with_single_types
from planner.model.plan import Plan
from planner.program.request import PlanRequest
from planner.program.solve import solve_request


def plan(request: PlanRequest) -> Plan:
    """Solve in this process; the plan tells what every single GPU type would cost."""
    return with_single_types(solve_request(request), request.demand, request.pools)
