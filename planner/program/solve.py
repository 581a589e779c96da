"""The plans of a demand: `provision` chooses counts at least cost, `assign` takes given counts.

`decompose` cuts the demand, `highs` states the integer program of each subproblem, `search` finds a
fleet with it, `assemble` makes the plan. This module owns their order, the time that they share,
and the search for the limit to lift where limits leave demand unserved. Must not know how a program
is solved.
"""

import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from planner.errors import InvalidValue
from planner.model.demand import Demand
from planner.model.plan import Plan, Relaxation
from planner.model.pool import Pool
from planner.program import by_model, search
from planner.program.assemble import Answer, assemble_plan, relaxation
from planner.program.decompose import subproblems
from planner.program.headroom import load_table, loads_of
from planner.program.highs import HighsProgram
from planner.program.limits import UNLIMITED, Limits, lift_each_limit
from planner.program.problem import Problem
from planner.program.request import PlanRequest

LIFTING = 0.2  # of the time limit, at least, is for the limit to lift where demand is unserved
LEAST_GAIN = 1e-6  # requests/s; a limit whose removal serves less than that more does not help


@dataclass(frozen=True, slots=True, kw_only=True)
class _Effort:
    """When a search began and must end, on the clock, and which gap is near enough."""

    start_s: float
    ends_s: float
    gap: float


def solve_request(request: PlanRequest) -> Plan:
    """The plan that a request asks for. Raises as `provision` and `assign` do."""
    if request.objective == "provision":
        return provision(request.demand, request.pools, request.limits)
    return assign(request.demand, request.pools, request.running)


def provision(
    demand: Demand,
    pools: tuple[Pool, ...],
    limits: Limits = UNLIMITED,
    *,
    time_limit_s: float = 5.0,
    gap: float = 1e-4,
) -> Plan:
    """The cheapest fleet found that serves the demand within its SLOs, and each pool's shares.

    time_limit_s: bounds the search over all models. gap: a cost so near to its bound, relative to
    it, is near enough. Demand that cannot be served is in `Plan.unserved`. If limits are the
    reason, they are lifted one at a time, all within what is left of the time (but at least
    `LIFTING` of it), and `Plan.relaxation` is the one that helps most.
    Raises InvalidValue if min_backends are beyond the limits, and SolverFailed if the solver ended
    without any solution.
    """
    start_s = time.perf_counter()
    limits.check(pools)
    problem = Problem.of(demand, pools, limits)
    effort = _Effort(start_s=start_s, ends_s=start_s + time_limit_s, gap=gap)
    plan = _provision(problem, effort)
    if all(bucket.served for bucket in plan.unserved):
        return plan
    ends_s = max(effort.ends_s, time.perf_counter() + LIFTING * time_limit_s)
    best = _best_relaxation(problem, plan, ends_s, gap)
    return replace(plan, relaxation=best, solve_s=time.perf_counter() - start_s)


def assign(
    demand: Demand,
    pools: tuple[Pool, ...],
    backends: tuple[int, ...],
    *,
    time_limit_s: float = 5.0,
) -> Plan:
    """The shares of least peak utilisation of a given fleet; the peak may exceed 1.

    backends: (P,) counts that are ready. Buckets that only pools without a backend could serve are
    unserved. `Spot.most_share` is not kept: the fleet is what it is.
    Raises InvalidValue for counts that fit no fleet, and SolverFailed as `provision` does.
    """
    start_s = time.perf_counter()
    if len(backends) != len(pools) or min(backends, default=0) < 0:
        raise InvalidValue(f"backends: one count ≥ 0 for each of {len(pools)} pools: {backends}")
    counts = np.array(backends, dtype=float)
    table = load_table(demand, pools)
    whole = Problem(demand=demand, pools=pools, limits=UNLIMITED, loads=loads_of(demand, table))
    # A pool without a backend is like one that serves nothing.
    loads = loads_of(demand, table, counts > 0)
    running = replace(whole, pools=tuple(replace(pool, spot=None) for pool in pools), loads=loads)
    answers = []
    for subproblem in subproblems(running, keep_all_pools=True):
        program = HighsProgram(subproblem, ends_s=start_s + time_limit_s, gap=0.0)
        weights = search.min_peak(subproblem, program, counts[subproblem.pool_index])
        answers.append(Answer(subproblem=subproblem, weights=weights))
    took_s = time.perf_counter() - start_s
    return assemble_plan("assign", whole, counts, answers, took_s, running=loads)


def _provision(problem: Problem, effort: _Effort) -> Plan:
    answers = []
    backends = np.array([float(pool.min_backends) for pool in problem.pools])
    # All subproblems share one end: the time that an early one leaves goes to those after it.
    for subproblem in subproblems(problem):
        programs = partial(HighsProgram, ends_s=effort.ends_s, gap=effort.gap)
        best = by_model.min_cost(subproblem, programs)
        backends[subproblem.pool_index] = best.backends
        unproven_usd = best.gap * best.usd
        answers.append(
            Answer(subproblem=subproblem, weights=best.weights, unproven_usd=unproven_usd)
        )
    took_s = time.perf_counter() - effort.start_s
    return assemble_plan("provision", problem, backends, answers, took_s)


def _best_relaxation(problem: Problem, plan: Plan, ends_s: float, gap: float) -> Relaxation | None:
    """The limit whose removal serves most, and of several the cheapest; `None` if none helps."""
    feasible = problem.loads.feasible
    left = [u for u in plan.unserved if not u.served]
    able = {p for u in left for p in np.flatnonzero(feasible[u.bucket]).tolist()}
    lifted = [*lift_each_limit(problem.limits, problem.pools, plan.backends, able)]
    options = []
    for i, (name, pools, limits) in enumerate(lifted):
        now_s = time.perf_counter()
        if now_s < ends_s:
            # An equal part for each, so that the first ones do not take the time of the others.
            own_s = (ends_s - now_s) / (len(lifted) - i)
            effort = _Effort(start_s=now_s, ends_s=now_s + own_s, gap=gap)
            relaxed = _provision(replace(problem, pools=pools, limits=limits), effort)
            options.append(relaxation(name, problem, relaxed))
    # Rounded: plans that serve the same rate but for the solver's rounding differ in cost only.
    best = min(options, key=lambda o: (round(o.unserved_rate, 6), o.usd_per_hour), default=None)
    missing = sum(bucket.rate for bucket in left)
    return best if best is not None and best.unserved_rate < missing - LEAST_GAIN else None
