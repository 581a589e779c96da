"""How many requests of made-up traffic one CPU second plays through a plan, router and all.

Owns the measurement; the demand is that of `solve_cases`. Knows nothing of commands and tables.
"""

import time
from dataclasses import dataclass

from gateway.rehearsal.play import rehearse
from gateway.rehearsal.traffic import observed
from loadtest.compare.solve_cases import first_pools, log_normal_demand
from planner.errors import InvalidValue
from planner.program import solve

RATE = 40.0  # requests/s that the plan is for, in 60 buckets on 4 pools
ROWS, COLUMNS, POOLS = 10, 6, 4
LOAD = 0.7  # of what the plan is for


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaySpeed:
    """One play. backends: of the fleet. attainment: the share of its requests that met the SLO."""

    requests_per_cpu_s: float
    backends: int
    attainment: float


def play_speed(requests: int, seed: int) -> PlaySpeed:
    """Plan, and play so many requests; drawing them does not count. Raises InvalidValue if the
    process' clock of CPU time is too coarse for so few."""
    demand = log_normal_demand(seed, RATE, ROWS, COLUMNS)
    pools = first_pools(POOLS)
    plan = solve.provision(demand, pools)
    traffic = observed(demand.scaled_to(LOAD * RATE), requests)
    assert traffic is not None  # every bucket has requests
    sample = traffic.draw(seed)
    start_s = time.process_time()
    played = rehearse(
        sample.trace, plan, pools, slo_class=sample.slo_class, estimated=sample.estimated
    )
    took_s = time.process_time() - start_s
    if took_s <= 0:
        raise InvalidValue(f"too few requests to be timed: {requests}")
    return PlaySpeed(
        requests_per_cpu_s=len(sample.trace) / took_s,
        backends=sum(plan.backends),
        attainment=played.attainment(plan.buckets.classes[0].slo),
    )
