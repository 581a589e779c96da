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
from planner.program.subproblem import DUST, EXACT, LEAST_POINT, Found, Part, exact
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
class Answer:
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

    def cheapest(self, points: FloatArray, ready: FloatArray, *, relaxed: bool) -> Answer | None:
        """Shares of least cost; None: infeasible."""

    def fullest(self, points: FloatArray, ready: FloatArray, *, relaxed: bool) -> Answer | None:
        """Shares that leave the least rate unserved."""

    def flattest(self, points: FloatArray, room: FloatArray) -> Answer | None:
        """Shares of least peak utilisation of a given fleet."""

    def loosened(self) -> Self:
        """The same within the same time, but demand may be unserved."""

    def allow(self, unserved: FloatArray) -> None:
        """Lets (n,) these shares be unserved; only where it is loosened."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """What is to be done. unserved: (n,), given up; prices: (m,) each, of fleets that failed."""

    part: Part
    program: Program
    unserved: FloatArray
    prices: list[FloatArray]


def cheapest(part: Part, program: Program) -> Found:
    """The cheapest fleet found that serves all it can. Raises SolverFailed without an answer."""
    all_of_it = np.zeros(len(part.rate))
    task = Task(part=part, program=program, unserved=all_of_it, prices=[part.usd])
    best = _mixed(task, _start(part), alone(part)) or _elastic(part, program)
    if best is None:
        raise SolverFailed("the solver ended without a solution")
    return best


def flattest(part: Part, program: Program, backends: FloatArray) -> FloatArray:
    """Shares of least peak utilisation of given counts."""
    points = _within(SPREAD * part.variance.sum(axis=0), backends)
    best, peak = None, np.inf
    for _ in range(ASSIGN_ROUNDS):
        answer = program.flattest(points, backends)
        if answer is None:
            break
        weights = np.where(answer.weights < DUST, 0.0, answer.weights)
        weights /= weights.sum(axis=1, keepdims=True)
        need = part.need(weights)
        height = float(np.max(need[backends > 0] / backends[backends > 0]))
        if height < peak:
            best, peak = weights, height
        points = part.points(weights, points)
    if best is None:
        raise SolverFailed("the solver ended without a solution")
    return best


def alone(part: Part) -> Found | None:
    """A cheap fleet in which one pool serves everything of a model, if one can."""
    weights = np.zeros_like(part.mean)
    for kind in np.unique(part.kinds):
        rows = part.kinds == kind
        able = np.isfinite(part.mean[rows]).all(axis=0)
        usd = part.costs(part.counts(np.where(able, rows[:, None], 0.0))) - part.costs(part.least)
        order = np.flatnonzero(able)[np.argsort(usd[able])]
        best = next((found for p in order if (found := _single(part, rows, p))), None)
        if best is None:
            return None
        weights += best.weights
    return exact(part, weights, 0.0, np.zeros(len(part.rate)))


def _single(part: Part, rows: BoolArray, pool: int) -> Found | None:
    weights = np.zeros_like(part.mean)
    weights[rows, pool] = 1.0
    return exact(part, weights, 0.0, np.where(rows, 0.0, 1.0))


def _mixed(task: Task, points: FloatArray, best: Found | None) -> Found | None:
    """The cheapest fleet found, with its gap; best: one that is known to hold."""
    part, program = task.part, task.program
    relaxed, points, ready = _relaxed(task, points)
    floor = part.bound(1 - task.unserved)
    if relaxed:
        best = _cheaper(best, exact(part, relaxed.weights, 0.0, task.unserved))
        task.prices.append(relaxed.prices)
        whole = _listed(task, best, floor, relaxed.bound)
        if whole:
            return whole
        floor = max(floor, relaxed.bound)
        answer = program.cheapest(points, ready, relaxed=False)
        if answer:
            best = _cheaper(best, exact(part, answer.weights, 0.0, task.unserved))
            floor = max(floor, answer.bound)
            if best and part.overstated(answer.weights, points) < program.gap * best.usd:
                return _gapped(best, floor)
    return _gapped(_trimmed(task, best), floor) if best else None


def _relaxed(task: Task, points: FloatArray) -> tuple[Answer | None, FloatArray, FloatArray]:
    """The answer without integers once tangents have settled, their points, and what it needs."""
    part, ready, relaxed = task.part, np.ones(len(points)), None
    for _ in range(ROUNDS):
        answer = task.program.cheapest(points, ready, relaxed=True)
        if answer is None:
            break
        relaxed = answer
        before, points = points, part.points(answer.weights, points)
        ready = part.need(answer.weights)
        if np.all(np.abs(points - before) <= SETTLED * before):
            break
    return relaxed, points, ready


def _listed(task: Task, best: Found | None, floor: float, likely: float) -> Found | None:
    """Tries every fleet that costs less, from the cheapest on; `None`: there are too many.

    floor: no fleet costs less; likely: nor do many that hold, $/h. The gap is 0 if time sufficed:
    prices prove that a cheaper fleet does not hold, or tangents put at its own shares found none.
    """
    part, most = task.part, enough(task.part)
    ends = best.usd if best else float(part.costs(most).sum() + part.stop_usd * part.running.sum())
    step = max(float(part.usd[part.usd > 0].min(initial=np.inf)), STEP * ends)
    low, high = floor - EXACT, max(floor + step, likely)
    while low < ends - EXACT:
        fleets = listed(part, part.least, most, low, min(high, ends - EXACT))
        if fleets is None:
            return None
        candidates = _sifted(task, fleets)
        found = _first(task, candidates, PATIENCE)
        if found:
            return found
        if len(candidates):
            return _gapped(best, low) if best and task.program.spent else None
        low, high = high, high + step
    return best


def _sifted(task: Task, fleets: FloatArray) -> Candidates:
    candidates = Candidates(task.part, fleets, 1 - task.unserved)
    for price in task.prices:
        candidates.sift(price)
    return candidates


def _first(task: Task, candidates: Candidates, tries: int) -> Found | None:
    """The first for which shares are found; what is left of the candidates has not been tried."""
    for _ in range(tries):
        if not len(candidates) or task.program.spent:
            break
        found = _holding(task, candidates)
        if found:
            return found
    return None


def _trimmed(task: Task, best: Found) -> Found:
    """Tries fleets nearby that are cheaper by more than the gap until none of them holds."""
    while True:
        most_usd = best.usd * (1 - task.program.gap)
        found = _first(task, _sifted(task, moves(task.part, best, most_usd)), TRIES)
        if found is None:
            return best
        best = found


def _holding(task: Task, candidates: Candidates) -> Found | None:
    """Shares for the next candidate, if a few tangent rounds find some; else it is gone.

    The solver's prices of every round set others aside with it.
    """
    part, backends = task.part, candidates.next
    room = part.room(backends)
    points, before = _within(SPREAD * part.variance.sum(axis=0), room), np.inf
    for _ in range(ASSIGN_ROUNDS):
        answer = task.program.flattest(points, room)
        if answer is None:  # whatever the counts: the peak is free
            candidates.drop(shut=bool(part.regions) and not task.program.spent)
            return None
        found = exact(part, answer.weights, 0.0, task.unserved)
        if found and np.all(found.backends <= backends):
            return found
        task.prices.append(answer.prices)
        if not candidates.sift(answer.prices):
            return None
        need = part.need(answer.weights)[room > 0] / room[room > 0]
        if answer.bound - 1 > before - answer.bound or need.max() > HOPELESS:
            break
        before, points = answer.bound, part.points(answer.weights, points)
    candidates.drop()
    return None


def _elastic(part: Part, program: Program) -> Found | None:
    """The most demand that the limits allow, then the cheapest fleet for that."""
    program = program.loosened()
    weights = _fullest(part, program)
    if weights is None:
        return None
    unserved = np.clip(1 - weights.sum(axis=1), 0.0, 1.0)
    unserved[unserved < DUST] = 0.0
    first = exact(part, weights, 0.0, unserved)
    if first is None:
        first, unserved = _scaled(part, weights)
    program.allow(unserved)
    task = Task(part=part, program=program, unserved=unserved, prices=[part.usd])
    return _mixed(task, part.points(weights, _start(part)), first)


def _fullest(part: Part, program: Program) -> FloatArray | None:
    points, weights, least = _start(part), None, np.inf
    ready = np.ones(len(points))
    for _ in range(ROUNDS):
        answer = program.fullest(points, ready, relaxed=False)
        if answer is None:
            break
        lost = float((1 - answer.weights.sum(axis=1)) @ part.rate)
        if lost < least:
            weights, least = answer.weights, lost
        points, ready = part.points(answer.weights, points), part.need(answer.weights)
        if program.spent:
            break
    return weights


def _scaled(part: Part, weights: FloatArray) -> tuple[Found, FloatArray]:
    """As much of these shares as whole backends within the limits can hold."""
    low, high = 0.0, 1.0
    best = exact(part, 0 * weights, 0.0, np.ones(len(part.rate)))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = exact(part, middle * weights, 0.0, 1 - middle * weights.sum(axis=1))
        low, high, best = (middle, high, found) if found else (low, middle, best)
    if best is None:
        raise SolverFailed("min_backends are beyond the limits")
    return best, np.clip(1 - best.weights.sum(axis=1), 0.0, 1.0)


def _cheaper(one: Found | None, other: Found | None) -> Found | None:
    return min((found for found in (one, other) if found), key=lambda f: f.usd, default=None)


def _gapped(best: Found, bound: float) -> Found:
    gap = max(0.0, 1 - bound / best.usd) if best.usd > 0 else 0.0
    return replace(best, gap=gap)


def _start(part: Part) -> FloatArray:
    variance = part.variance.sum(axis=0)
    points = np.maximum(variance / len(part.usd), np.where(variance > 0, LEAST_START, 0.0))
    return _within(points, part.most)


def _within(points: FloatArray, most: FloatArray) -> FloatArray:
    """Tangent points whose constant leaves room in a pool of `most`: else it could never open."""
    return np.asarray(np.clip(points, LEAST_POINT, np.maximum(LEAST_POINT, (ROOM * most) ** 2)))
