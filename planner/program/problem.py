"""What is planned, as one value. Must not know how it is cut into subproblems or solved."""

from dataclasses import dataclass

from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.headroom import Loads, bucket_loads
from planner.program.limits import UNLIMITED, Limits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """One demand, the pools that may serve it, the limits on the fleet, and (B, P) loads.

    The loads stand with it because they are most of the work before a solve, and do not change when
    limits or bounds of a pool do.
    """

    demand: Demand
    pools: tuple[Pool, ...]
    limits: Limits
    loads: Loads

    @classmethod
    def of(cls, demand: Demand, pools: tuple[Pool, ...], limits: Limits = UNLIMITED) -> "Problem":
        """The problem of a demand; computes the loads."""
        return cls(demand=demand, pools=pools, limits=limits, loads=bucket_loads(demand, pools))
