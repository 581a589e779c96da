"""A request for a plan, as one value that can be sent to the process that solves it.

Apart from `solve`, because the process that asks imports no solver. Must not know how a request is
solved.
"""

from dataclasses import dataclass
from typing import Literal

from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.limits import UNLIMITED, Limits

Objective = Literal["provision", "assign"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanRequest:
    """One request for a plan; `solve.solve_request` answers it.

    objective: "provision" chooses counts at least cost; "assign" takes the running counts and
    evens out the peak. demand: what the plan is for. pools: what can be bought, or what runs.
    running: (P,) backends that are ready now, one count for each pool; only "assign" uses them.
    limits: on the plan as a whole; only "provision" keeps them. The fleet from which switching
    costs are counted is `limits.running`, which may be another plan's.
    """

    objective: Objective
    demand: Demand
    pools: tuple[Pool, ...]
    running: tuple[int, ...]
    limits: Limits = UNLIMITED
