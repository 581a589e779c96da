"""The search for a cheap fleet: the relaxation, then every cheaper fleet, or the integer program.

Tangents of the relaxation settle first, in a few cheap linear programs. Counts are few, so the
fleets that cost less than one that is known to hold can often be listed. Most of them are set aside
at once by the solver's prices for other fleets (`candidates`), and the cheapest of the rest for
which shares are found is the answer. Each fleet that is tried gets tangents of its own, which the
integer program cannot do: its tangents are those of the relaxation, so its plans are dearer. It is
solved only where the list would be too long, and fleets near its answer are tried in the same way.

Must not know the solver (`lp.Program` stands for it), time, or plans.
"""

from dataclasses import dataclass, replace

import numpy as np

from planner.errors import SolverFailed
from planner.program import tangents
from planner.program.candidates import Candidates, list_fleets, nearby_fleets, useful_counts
from planner.program.lp import LpSolution, Program
from planner.program.subproblem import (
    DUST,
    EXACT,
    Incumbent,
    Subproblem,
    incumbent_from_shares,
    one_pool_per_model,
)
from planner.sizes import FloatArray

# The figures below are over 48 made-up problems like those of `cuvee bench-solve`, with 4 and 12
# pools.

# Tangent rounds on the relaxation, which is cheap. With 1 to 3 a few plans were 1 % dearer; with 12
# none changed.
ROUNDS = 6
ASSIGN_ROUNDS = 3  # tangent rounds for a given fleet; with one, 15 plans were dearer, by up to 18 %
# A peak that a better tangent will not bring down to 1: no further round for such a fleet. From 1.1
# on the limit changed no plan; at 1.0, 15 were dearer, because the second round was never reached.
HOPELESS = 1.4
# Fleets of one list that are tried. Where prices do not shorten a list the integer program is
# faster. With 30 no plan changed; with 10 two were dearer, by up to 2.4 %.
PATIENCE = 100
# Fleets in a row that are tried near one that holds. With none six plans were dearer, by up to
# 0.9 %.
TRIES = 8
# Fleets are listed together whose costs differ by this part, or by one backend of the cheapest pool
# if that is more. Short lists first: the answer is usually among the cheapest fleets.
STEP = 0.02
HALVINGS = 20  # of the share served, when whole backends cannot hold all of it: down to a millionth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchState:
    """One search.

    unserved: (n,) the share of each bucket that is given up. prices: (m,) each, the solver's prices
    for fleets that were tried; more are added as the search goes on.
    """

    subproblem: Subproblem
    program: Program
    unserved: FloatArray
    prices: list[FloatArray]


def min_cost(subproblem: Subproblem, program: Program, start: Incumbent | None = None) -> Incumbent:
    """The cheapest fleet found that serves all it can. Raises SolverFailed without an answer.

    start: a fleet that is known to hold and to serve everything.
    """
    state = _state(subproblem, program, np.zeros(len(subproblem.rate)))
    first = _cheaper(start, one_pool_per_model(subproblem))
    best = _search(state, tangents.first_points(subproblem), first)
    best = best or _search_partly_served(subproblem, program)
    if best is None:
        raise SolverFailed("the solver ended without a solution")
    return best


def min_peak(subproblem: Subproblem, program: Program, backends: FloatArray) -> FloatArray:
    """(n, m) shares of least peak utilisation of (m,) given counts.

    The best of a few tangent rounds, by the exact peak: a later round may be worse. Raises
    SolverFailed without an answer.
    """
    points = tangents.fleet_points(subproblem, backends)
    best, least = None, np.inf
    for _ in range(ASSIGN_ROUNDS):
        solution = program.min_peak(points, backends)
        if solution is None:
            break
        weights = np.where(solution.weights < DUST, 0.0, solution.weights)
        weights /= weights.sum(axis=1, keepdims=True)
        need = subproblem.need(weights)
        peak = float(np.max(need[backends > 0] / backends[backends > 0]))
        if peak < least:
            best, least = weights, peak
        points = tangents.next_points(subproblem, weights, points)
    if best is None:
        raise SolverFailed("the solver ended without a solution")
    return best


def relaxation(subproblem: Subproblem, program: Program) -> LpSolution | None:
    """The program without integers once its tangents have settled; `None` if it is infeasible."""
    state = _state(subproblem, program, np.zeros(len(subproblem.rate)))
    return _solve_relaxation(state, tangents.first_points(subproblem))[0]


def least_unserved(subproblem: Subproblem, program: Program) -> FloatArray | None:
    """(n, m) shares that leave the least unserved if backends came in fractions; `None` if the time
    is up."""
    return _min_unserved(subproblem, program.loosened(), relaxed=True)


def _state(subproblem: Subproblem, program: Program, unserved: FloatArray) -> SearchState:
    # The pools' own prices are the first: at them a fleet fails that is below the fluid bound.
    prices = [subproblem.costs.usd]
    return SearchState(subproblem=subproblem, program=program, unserved=unserved, prices=prices)


def _search(state: SearchState, points: FloatArray, best: Incumbent | None) -> Incumbent | None:
    """The cheapest fleet found, with its gap.

    points: (m,) of the first tangents. best: a fleet that is known to hold.
    """
    subproblem, program = state.subproblem, state.program
    relaxed, points, ready = _solve_relaxation(state, points)
    floor = subproblem.fluid_bound(1 - state.unserved)
    if relaxed:
        rounded = incumbent_from_shares(subproblem, relaxed.weights, state.unserved)
        best = _cheaper(best, rounded)
        state.prices.append(relaxed.prices)
        listed = _try_lists(state, best, floor, relaxed.bound)
        if listed:
            return listed
        floor = max(floor, relaxed.bound)
        solution = program.min_cost(points, ready, relaxed=False)
        if solution:
            whole = incumbent_from_shares(subproblem, solution.weights, state.unserved)
            best = _cheaper(best, whole)
            floor = max(floor, solution.bound)
            # The tangents fit the answer so well that no fleet nearby can gain more than the gap.
            over = tangents.overstated_usd(subproblem, solution.weights, points)
            if best and over < program.gap * best.usd:
                return _with_gap(best, floor)
    return _with_gap(_descend(state, best), floor) if best else None


def _solve_relaxation(
    state: SearchState, points: FloatArray
) -> tuple[LpSolution | None, FloatArray, FloatArray]:
    """The solution without integers once tangents have settled, their points, and its (m,) need."""
    subproblem, ready, relaxed = state.subproblem, np.ones(len(points)), None
    for _ in range(ROUNDS):
        solution = state.program.min_cost(points, ready, relaxed=True)
        if solution is None:
            break
        relaxed = solution
        before, points = points, tangents.next_points(subproblem, solution.weights, points)
        ready = subproblem.need(solution.weights)
        if tangents.settled(points, before):
            break
    return relaxed, points, ready


def _try_lists(
    state: SearchState, best: Incumbent | None, floor: float, likely: float
) -> Incumbent | None:
    """Try every fleet that costs less than the best, from the cheapest on.

    floor: $/h that no fleet undercuts. likely: $/h that few fleets that hold undercut; the first
    list ends there. `None` if there are too many fleets to list or to try. The gap is 0 if the time
    sufficed: of every cheaper fleet either prices prove that it does not hold, or tangents at its
    own shares found no shares.
    """
    subproblem, most = state.subproblem, useful_counts(state.subproblem)
    costs = subproblem.costs
    ends = (
        best.usd
        if best
        # Without a fleet that holds: all pools full, and all that runs now stopped.
        else float(costs.by_pool(most).sum() + costs.stop_usd * costs.running.sum())
    )
    step = max(float(costs.usd[costs.usd > 0].min(initial=np.inf)), STEP * ends)
    low, high = floor - EXACT, max(floor + step, likely)
    while low < ends - EXACT:
        fleets = list_fleets(subproblem, most, low, min(high, ends - EXACT))
        if fleets is None:
            return None
        candidates = _sifted(state, fleets)
        holding = _first_that_holds(state, candidates, PATIENCE)
        if holding:
            return holding
        if len(candidates):
            # Fleets are left: the time is up, or the list is too long to be tried one by one.
            return _with_gap(best, low) if best and state.program.spent else None
        low, high = high, high + step
    return best


def _sifted(state: SearchState, fleets: FloatArray) -> Candidates:
    """The fleets that no prices known so far prove too small."""
    candidates = Candidates(state.subproblem, fleets, 1 - state.unserved)
    for price in state.prices:
        candidates.sift(price)
    return candidates


def _first_that_holds(state: SearchState, candidates: Candidates, tries: int) -> Incumbent | None:
    """The first candidate for which shares are found; those left in `candidates` are untried."""
    for _ in range(tries):
        if not len(candidates) or state.program.spent:
            break
        holding = _try_next(state, candidates)
        if holding:
            return holding
    return None


def _descend(state: SearchState, best: Incumbent) -> Incumbent:
    """Move to fleets nearby that are cheaper by more than the gap until none of them holds."""
    while True:
        most_usd = best.usd * (1 - state.program.gap)
        fleets = nearby_fleets(state.subproblem, best, most_usd)
        cheaper = _first_that_holds(state, _sifted(state, fleets), TRIES)
        if cheaper is None:
            return best
        best = cheaper


def _try_next(state: SearchState, candidates: Candidates) -> Incumbent | None:
    """Shares for the next candidate, if a few tangent rounds find some; otherwise drop it.

    The solver's prices of every round set other candidates aside with it.
    """
    subproblem, backends = state.subproblem, candidates.next
    room = subproblem.availability.ready(backends)
    points, before = tangents.fleet_points(subproblem, room), np.inf
    for _ in range(ASSIGN_ROUNDS):
        solution = state.program.min_peak(points, room)
        if solution is None:
            # The peak is free, so these open pools cannot serve all of it, whatever their counts:
            # a spot region is full.
            candidates.drop(shut=bool(subproblem.regions) and not state.program.spent)
            return None
        fleet = incumbent_from_shares(subproblem, solution.weights, state.unserved)
        if fleet and np.all(fleet.backends <= backends):
            return fleet
        state.prices.append(solution.prices)
        if not candidates.sift(solution.prices):
            return None
        if not room.any():  # all of them are spares, which serve nothing
            break
        need = subproblem.need(solution.weights)[room > 0] / room[room > 0]
        # Tangents move less from round to round. A peak that has to fall further than it fell in
        # the last round will not come down to 1.
        if solution.bound - 1 > before - solution.bound or need.max() > HOPELESS:
            break
        before = solution.bound
        points = tangents.next_points(subproblem, solution.weights, points)
    candidates.drop()
    return None


def _search_partly_served(subproblem: Subproblem, program: Program) -> Incumbent | None:
    """The most demand that the limits allow, then the cheapest fleet for exactly that.

    Two steps, because with a price on unserved demand it could pay to drop a request.
    """
    program = program.loosened()
    weights = _min_unserved(subproblem, program)
    if weights is None:
        return None
    unserved = np.clip(1 - weights.sum(axis=1), 0.0, 1.0)
    unserved[unserved < DUST] = 0.0
    first = incumbent_from_shares(subproblem, weights, unserved)
    if first is None:
        first, unserved = _scaled_to_fit(subproblem, weights)
    program.allow(unserved)
    points = tangents.next_points(subproblem, weights, tangents.first_points(subproblem))
    return _search(_state(subproblem, program, unserved), points, first)


def _min_unserved(
    subproblem: Subproblem, program: Program, *, relaxed: bool = False
) -> FloatArray | None:
    """(n, m) shares that leave the least requests/s unserved, the best of the tangent rounds.

    With whole backends from the first round on, unless relaxed: fractions of backends would serve
    more than any fleet can.
    """
    points, weights, least = tangents.first_points(subproblem), None, np.inf
    ready = np.ones(len(points))
    for _ in range(ROUNDS):
        solution = program.min_unserved(points, ready, relaxed=relaxed)
        if solution is None:
            break
        lost = float((1 - solution.weights.sum(axis=1)) @ subproblem.rate)
        if lost < least:
            weights, least = solution.weights, lost
        points = tangents.next_points(subproblem, solution.weights, points)
        ready = subproblem.need(solution.weights)
        if program.spent:
            break
    return weights


def _scaled_to_fit(subproblem: Subproblem, weights: FloatArray) -> tuple[Incumbent, FloatArray]:
    """The largest multiple of (n, m) shares that whole backends within the limits hold.

    Needed where counts round up beyond a limit that the program's rows met. Also the (n,) unserved
    shares. Raises SolverFailed if not even the least counts are within the limits.
    """
    low, high = 0.0, 1.0
    best = incumbent_from_shares(subproblem, 0 * weights, np.ones(len(subproblem.rate)))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fleet = incumbent_from_shares(
            subproblem, middle * weights, 1 - middle * weights.sum(axis=1)
        )
        low, high, best = (middle, high, fleet) if fleet else (low, middle, best)
    if best is None:
        raise SolverFailed("min_backends are beyond the limits")
    return best, np.clip(1 - best.weights.sum(axis=1), 0.0, 1.0)


def _cheaper(first: Incumbent | None, second: Incumbent | None) -> Incumbent | None:
    fleets = (fleet for fleet in (first, second) if fleet)
    return min(fleets, key=lambda fleet: fleet.usd, default=None)


def _with_gap(best: Incumbent, bound: float) -> Incumbent:
    gap = max(0.0, 1 - bound / best.usd) if best.usd > 0 else 0.0
    return replace(best, gap=gap)
