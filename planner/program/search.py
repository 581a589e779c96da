"""The search for a good fleet: the relaxation, then every cheaper fleet, or the integer program.

A program is anything that answers three questions about shares; `solve` has the one in HiGHS.
Counts are few: the fleets that cost less than one that holds can often be listed. Most of them are
set aside at once by the prices that the solver gave for others (`candidates`); the cheapest of the
rest for which shares are found is the answer. Where the list would be too long the integer program
is solved, and fleets near its answer are tried in the same way. Knows nothing of PuLP, time or
plans.
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from planner.errors import SolverFailed
from planner.program.candidates import Candidates, enough, listed, moves
from planner.program.headroom import BoolArray
from planner.program.subproblem import DUST, EXACT, LEAST_POINT, Incumbent, Subproblem, incumbent
from planner.sizes import FloatArray

ROUNDS = 6  # tangent rounds on the relaxation, which is cheap
ASSIGN_ROUNDS = 3
SPREAD = 0.4  # of all variance in each pool: where the tangents of a given fleet start
HOPELESS = 1.4  # a peak that a better tangent will not bring down to 1
PATIENCE = 100  # fleets of one list that are tried
TRIES = 8  # fleets near one that holds that are tried in a row
STEP = 0.02  # of the cost: how much dearer fleets may be that are listed together
ROOM = 0.3  # of a bounded pool that the first tangent may take for the tail
LEAST_START = 1e-3  # of a tangent point, where there is a tail
SETTLED = 0.02  # tangent points that move less than this have arrived
HALVINGS = 20  # of the share served, when counts that must be whole leave no room for all of it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LpSolution:
    """Shares (n, m), the solver's lower bound on the cost, and its prices of the pools (m,)."""

    weights: FloatArray
    bound: float
    prices: FloatArray


class Program(Protocol):
    """One part's program. points: (m,) where the tangents touch; ready: (m,) backends in mind.

    gap: relative; a cost so near to its bound is near enough.
    """

    gap: float

    @property
    def spent(self) -> bool:
        """Whether its time is up."""

    def min_cost(
        self, points: FloatArray, ready: FloatArray, *, relaxed: bool
    ) -> LpSolution | None:
        """Shares of least cost; None: infeasible."""

    def min_unserved(
        self, points: FloatArray, ready: FloatArray, *, relaxed: bool
    ) -> LpSolution | None:
        """Shares that leave the least rate unserved."""

    def min_peak(self, points: FloatArray, room: FloatArray) -> LpSolution | None:
        """Shares of least peak utilisation of a given fleet."""

    def loosened(self) -> Self:
        """The same within the same time, but demand may be unserved."""

    def allow(self, unserved: FloatArray) -> None:
        """Lets (n,) these shares be unserved; only where it is loosened."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchState:
    """What is to be done. unserved: (n,), given up; prices: (m,) each, of fleets that failed."""

    subproblem: Subproblem
    program: Program
    unserved: FloatArray
    prices: list[FloatArray]


def min_cost(subproblem: Subproblem, program: Program) -> Incumbent:
    """The cheapest fleet found that serves all it can. Raises SolverFailed without an answer."""
    all_of_it = np.zeros(len(subproblem.rate))
    state = SearchState(
        subproblem=subproblem, program=program, unserved=all_of_it, prices=[subproblem.usd]
    )
    best = _mixed(state, _start(subproblem), alone(subproblem)) or _elastic(subproblem, program)
    if best is None:
        raise SolverFailed("the solver ended without a solution")
    return best


def min_peak(subproblem: Subproblem, program: Program, backends: FloatArray) -> FloatArray:
    """Shares of least peak utilisation of given counts."""
    points = _within(SPREAD * subproblem.variance.sum(axis=0), backends)
    best, peak = None, np.inf
    for _ in range(ASSIGN_ROUNDS):
        answer = program.min_peak(points, backends)
        if answer is None:
            break
        weights = np.where(answer.weights < DUST, 0.0, answer.weights)
        weights /= weights.sum(axis=1, keepdims=True)
        need = subproblem.need(weights)
        height = float(np.max(need[backends > 0] / backends[backends > 0]))
        if height < peak:
            best, peak = weights, height
        points = subproblem.points(weights, points)
    if best is None:
        raise SolverFailed("the solver ended without a solution")
    return best


def alone(subproblem: Subproblem) -> Incumbent | None:
    """A cheap fleet in which one pool serves everything of a model, if one can."""
    weights = np.zeros_like(subproblem.mean)
    for kind in np.unique(subproblem.kinds):
        rows = subproblem.kinds == kind
        able = np.isfinite(subproblem.mean[rows]).all(axis=0)
        usd = subproblem.costs(
            subproblem.counts(np.where(able, rows[:, None], 0.0))
        ) - subproblem.costs(subproblem.least)
        order = np.flatnonzero(able)[np.argsort(usd[able])]
        best = next((found for p in order if (found := _single(subproblem, rows, p))), None)
        if best is None:
            return None
        weights += best.weights
    return incumbent(subproblem, weights, 0.0, np.zeros(len(subproblem.rate)))


def _single(subproblem: Subproblem, rows: BoolArray, pool: int) -> Incumbent | None:
    weights = np.zeros_like(subproblem.mean)
    weights[rows, pool] = 1.0
    return incumbent(subproblem, weights, 0.0, np.where(rows, 0.0, 1.0))


def _mixed(state: SearchState, points: FloatArray, best: Incumbent | None) -> Incumbent | None:
    """The cheapest fleet found, with its gap; best: one that is known to hold."""
    subproblem, program = state.subproblem, state.program
    relaxed, points, ready = _relaxed(state, points)
    floor = subproblem.bound(1 - state.unserved)
    if relaxed:
        best = _cheaper(best, incumbent(subproblem, relaxed.weights, 0.0, state.unserved))
        state.prices.append(relaxed.prices)
        whole = _listed(state, best, floor, relaxed.bound)
        if whole:
            return whole
        floor = max(floor, relaxed.bound)
        answer = program.min_cost(points, ready, relaxed=False)
        if answer:
            best = _cheaper(best, incumbent(subproblem, answer.weights, 0.0, state.unserved))
            floor = max(floor, answer.bound)
            if best and subproblem.overstated(answer.weights, points) < program.gap * best.usd:
                return _gapped(best, floor)
    return _gapped(_trimmed(state, best), floor) if best else None


def _relaxed(
    state: SearchState, points: FloatArray
) -> tuple[LpSolution | None, FloatArray, FloatArray]:
    """The answer without integers once tangents have settled, their points, and what it needs."""
    subproblem, ready, relaxed = state.subproblem, np.ones(len(points)), None
    for _ in range(ROUNDS):
        answer = state.program.min_cost(points, ready, relaxed=True)
        if answer is None:
            break
        relaxed = answer
        before, points = points, subproblem.points(answer.weights, points)
        ready = subproblem.need(answer.weights)
        if np.all(np.abs(points - before) <= SETTLED * before):
            break
    return relaxed, points, ready


def _listed(
    state: SearchState, best: Incumbent | None, floor: float, likely: float
) -> Incumbent | None:
    """Tries every fleet that costs less, from the cheapest on; `None`: there are too many.

    floor: no fleet costs less; likely: nor do many that hold, $/h. The gap is 0 if time sufficed:
    prices prove that a cheaper fleet does not hold, or tangents put at its own shares found none.
    """
    subproblem, most = state.subproblem, enough(state.subproblem)
    ends = (
        best.usd
        if best
        else float(subproblem.costs(most).sum() + subproblem.stop_usd * subproblem.running.sum())
    )
    step = max(float(subproblem.usd[subproblem.usd > 0].min(initial=np.inf)), STEP * ends)
    low, high = floor - EXACT, max(floor + step, likely)
    while low < ends - EXACT:
        fleets = listed(subproblem, subproblem.least, most, low, min(high, ends - EXACT))
        if fleets is None:
            return None
        candidates = _sifted(state, fleets)
        found = _first(state, candidates, PATIENCE)
        if found:
            return found
        if len(candidates):
            return _gapped(best, low) if best and state.program.spent else None
        low, high = high, high + step
    return best


def _sifted(state: SearchState, fleets: FloatArray) -> Candidates:
    candidates = Candidates(state.subproblem, fleets, 1 - state.unserved)
    for price in state.prices:
        candidates.sift(price)
    return candidates


def _first(state: SearchState, candidates: Candidates, tries: int) -> Incumbent | None:
    """The first for which shares are found; what is left of the candidates has not been tried."""
    for _ in range(tries):
        if not len(candidates) or state.program.spent:
            break
        found = _holding(state, candidates)
        if found:
            return found
    return None


def _trimmed(state: SearchState, best: Incumbent) -> Incumbent:
    """Tries fleets nearby that are cheaper by more than the gap until none of them holds."""
    while True:
        most_usd = best.usd * (1 - state.program.gap)
        found = _first(state, _sifted(state, moves(state.subproblem, best, most_usd)), TRIES)
        if found is None:
            return best
        best = found


def _holding(state: SearchState, candidates: Candidates) -> Incumbent | None:
    """Shares for the next candidate, if a few tangent rounds find some; else it is gone.

    The solver's prices of every round set others aside with it.
    """
    subproblem, backends = state.subproblem, candidates.next
    room = subproblem.room(backends)
    points, before = _within(SPREAD * subproblem.variance.sum(axis=0), room), np.inf
    for _ in range(ASSIGN_ROUNDS):
        answer = state.program.min_peak(points, room)
        if answer is None:  # whatever the counts: the peak is free
            candidates.drop(shut=bool(subproblem.regions) and not state.program.spent)
            return None
        found = incumbent(subproblem, answer.weights, 0.0, state.unserved)
        if found and np.all(found.backends <= backends):
            return found
        state.prices.append(answer.prices)
        if not candidates.sift(answer.prices):
            return None
        need = subproblem.need(answer.weights)[room > 0] / room[room > 0]
        if answer.bound - 1 > before - answer.bound or need.max() > HOPELESS:
            break
        before, points = answer.bound, subproblem.points(answer.weights, points)
    candidates.drop()
    return None


def _elastic(subproblem: Subproblem, program: Program) -> Incumbent | None:
    """The most demand that the limits allow, then the cheapest fleet for that."""
    program = program.loosened()
    weights = _min_unserved(subproblem, program)
    if weights is None:
        return None
    unserved = np.clip(1 - weights.sum(axis=1), 0.0, 1.0)
    unserved[unserved < DUST] = 0.0
    first = incumbent(subproblem, weights, 0.0, unserved)
    if first is None:
        first, unserved = _scaled(subproblem, weights)
    program.allow(unserved)
    state = SearchState(
        subproblem=subproblem, program=program, unserved=unserved, prices=[subproblem.usd]
    )
    return _mixed(state, subproblem.points(weights, _start(subproblem)), first)


def _min_unserved(subproblem: Subproblem, program: Program) -> FloatArray | None:
    points, weights, least = _start(subproblem), None, np.inf
    ready = np.ones(len(points))
    for _ in range(ROUNDS):
        answer = program.min_unserved(points, ready, relaxed=False)
        if answer is None:
            break
        lost = float((1 - answer.weights.sum(axis=1)) @ subproblem.rate)
        if lost < least:
            weights, least = answer.weights, lost
        points, ready = subproblem.points(answer.weights, points), subproblem.need(answer.weights)
        if program.spent:
            break
    return weights


def _scaled(subproblem: Subproblem, weights: FloatArray) -> tuple[Incumbent, FloatArray]:
    """As much of these shares as whole backends within the limits can hold."""
    low, high = 0.0, 1.0
    best = incumbent(subproblem, 0 * weights, 0.0, np.ones(len(subproblem.rate)))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = incumbent(subproblem, middle * weights, 0.0, 1 - middle * weights.sum(axis=1))
        low, high, best = (middle, high, found) if found else (low, middle, best)
    if best is None:
        raise SolverFailed("min_backends are beyond the limits")
    return best, np.clip(1 - best.weights.sum(axis=1), 0.0, 1.0)


def _cheaper(one: Incumbent | None, other: Incumbent | None) -> Incumbent | None:
    return min((found for found in (one, other) if found), key=lambda f: f.usd, default=None)


def _gapped(best: Incumbent, bound: float) -> Incumbent:
    gap = max(0.0, 1 - bound / best.usd) if best.usd > 0 else 0.0
    return replace(best, gap=gap)


def _start(subproblem: Subproblem) -> FloatArray:
    variance = subproblem.variance.sum(axis=0)
    points = np.maximum(variance / len(subproblem.usd), np.where(variance > 0, LEAST_START, 0.0))
    return _within(points, subproblem.most)


def _within(points: FloatArray, most: FloatArray) -> FloatArray:
    """Tangent points whose constant leaves room in a pool of `most`: else it could never open."""
    return np.asarray(np.clip(points, LEAST_POINT, np.maximum(LEAST_POINT, (ROOM * most) ** 2)))
