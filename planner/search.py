"""The search for a good fleet: tangents, the integer program, then fleets nearby that cost less.

A program is anything that answers three questions about shares; `solve` has the one in HiGHS.
Fleets that cannot hold are set aside without one: for prices π ≥ 0 of the pools, whatever the
shares,

    Σ_b min_p π_p (m_bp + v_bp/s_p) ≤ Σ_p π_p need_p ,     √V ≥ V/s_p for V ≤ s_p²

so a fleet with room r holds only if the left side is at most Σ_p π_p r_p. s_p follows from r_p:
with q = max_b v_bp/m_bp, `M + √V ≤ r` gives `s²/q + s ≤ r`. The prices are the solver's of fleets
that did not hold. Knows nothing of PuLP, time or plans.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from planner.errors import SolverFailed
from planner.fleet import DUST, EXACT, LEAST_POINT, Found, Part, exact
from planner.sizes import FloatArray

ROUNDS = 6  # tangent rounds on the relaxation, which is cheap
ASSIGN_ROUNDS = 3
SPREAD = 0.4  # of all variance in each pool: where the tangents of a given fleet start
HOPELESS = 1.4  # a peak that a better tangent will not bring down to 1
TRIES = 60  # fleets tried near the integer program's
ROOM = 0.3  # of a bounded pool that the first tangent may take for the tail
SETTLED = 0.02  # tangent points that move less than this have arrived
WIDE = 4  # pools up to which the neighbourhood of a fleet is a whole box
REACH = 3
HALVINGS = 20  # of the share served, when counts that must be whole leave no room for all of it
SLACK = 1e-5  # of room: more than EXACT, so that no fleet that holds is set aside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """Shares (n, m), the solver's lower bound on the cost, and its prices of the pools (m,)."""

    weights: FloatArray
    bound: float
    prices: FloatArray


class Program(Protocol):
    """One part's program. points: (m,) where the tangents touch; ready: (m,) backends in mind."""

    @property
    def spent(self) -> bool:
        """Whether its time is up."""

    def cheapest(self, points: FloatArray, ready: FloatArray, *, relaxed: bool) -> Answer | None:
        """Shares of least cost; None: infeasible."""

    def fullest(self, points: FloatArray, ready: FloatArray, *, relaxed: bool) -> Answer | None:
        """Shares that leave the least rate unserved."""

    def flattest(self, points: FloatArray, room: FloatArray) -> Answer | None:
        """Shares of least peak utilisation of a given fleet."""

    def allow(self, unserved: FloatArray) -> None:
        """Lets (n,) these shares be unserved."""


def cheapest(part: Part, program: Program) -> Found:
    """The cheapest fleet found that serves all it can. Raises SolverFailed without an answer."""
    served = np.zeros(len(part.rate))
    mixed, bound = _mix(part, program, _start(part), served)
    found = [f for f in (mixed, alone(part)) if f]
    if found:
        best = _trimmed(part, program, min(found, key=lambda f: f.usd), served)
        return _gapped(best, max(bound, part.bound(1 - served)))
    elastic = _elastic(part, program)
    if elastic is None:
        raise SolverFailed("the solver ended without a solution")
    return elastic


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
    """The cheapest fleet in which one pool serves everything of a model, if one can."""
    weights = np.zeros_like(part.mean)
    for kind in np.unique(part.kinds):
        rows = part.kinds == kind
        best = None
        for p in np.flatnonzero(np.isfinite(part.mean[rows]).all(axis=0)):
            single = np.zeros_like(part.mean)
            single[rows, p] = 1.0
            found = exact(part, single, 0.0, np.where(rows, 0.0, 1.0))
            if found and (best is None or found.usd < best.usd):
                best = found
        if best is None:
            return None
        weights += best.weights
    return exact(part, weights, 0.0, np.zeros(len(part.rate)))


def moves(part: Part, best: Found) -> list[FloatArray]:
    """Cheaper fleets near one that holds, the smallest saving first: it is the likeliest to hold.

    Up to `WIDE` pools every step of at most `REACH` backends a pool; beyond that one backend fewer,
    or one swapped for a cheaper one.
    """
    m = len(part.usd)
    if m <= WIDE:
        steps = np.indices((2 * REACH + 1,) * m).reshape(m, -1).T - float(REACH)
    else:
        swaps = (np.eye(m)[:, None] - np.eye(m)[None]).reshape(m * m, m)
        steps = np.concatenate([-np.eye(m), swaps])
    fleets = best.backends + steps
    saving = part.cost(best.backends) - part.cost(fleets)
    legal = (saving > EXACT) & part.legal(fleets)
    legal &= part.bill(fleets) >= part.bound(best.weights.sum(axis=1))
    order = np.argsort(saving[legal], kind="stable")
    return list(fleets[legal][order])


def hopeless(
    part: Part, backends: FloatArray, prices: list[FloatArray], served: FloatArray
) -> bool:
    """Whether no shares make these counts hold: the bound of the module's docstring."""
    room = np.maximum(backends - part.spare, 0.0) + SLACK
    finite = np.isfinite(part.mean)
    some = np.isfinite(part.mean) & (part.mean > 0)
    ratio = np.divide(part.variance, part.mean, where=some, out=np.zeros_like(part.mean))
    q = np.maximum(ratio.max(axis=0), DUST)
    root = np.minimum(q / 2 * (np.sqrt(1 + 4 * room / q) - 1), np.sqrt(part.variance.sum(axis=0)))
    load = np.where(finite, part.mean, 0.0) + part.variance / np.maximum(root, DUST)
    closed = ~finite | (backends - part.spare <= 0)
    for price in prices:
        least = np.where(closed, np.inf, price * load).min(axis=1)
        if float(np.multiply(least, served, where=served > 0, out=0 * served).sum()) > price @ room:
            return True
    return False


def _mix(
    part: Part, program: Program, points: FloatArray, unserved: FloatArray
) -> tuple[Found | None, float]:
    """Settles the tangents on the relaxation, then solves the integer program; its bound too."""
    ready, relaxed = np.ones(len(points)), None
    for _ in range(ROUNDS):
        answer = program.cheapest(points, ready, relaxed=True)
        if answer is None:
            break
        relaxed = answer
        before, points = points, part.points(answer.weights, points)
        ready = part.need(answer.weights)
        if np.all(np.abs(points - before) <= SETTLED * before):
            break
    answer = program.cheapest(points, ready, relaxed=False)
    if answer is None and program.spent:
        answer = relaxed  # its counts rounded up; its bound is that of tangents a step away
    if answer is None:
        return None, 0.0
    return exact(part, answer.weights, 0.0, unserved), answer.bound


def _trimmed(part: Part, program: Program, best: Found, unserved: FloatArray) -> Found:
    """Tries cheaper fleets nearby until none of them holds."""
    fleets = iter(moves(part, best))
    prices, served = [part.usd], 1 - unserved
    for _ in range(TRIES):
        backends = next(fleets, None)
        if backends is None or program.spent:
            break
        if hopeless(part, backends, prices, served):
            continue
        found = _holding(part, program, backends, unserved, prices)
        if found and found.usd < best.usd - EXACT:
            best, fleets = found, iter(moves(part, found))
    return best


def _holding(
    part: Part,
    program: Program,
    backends: FloatArray,
    unserved: FloatArray,
    prices: list[FloatArray],
) -> Found | None:
    """Shares with which a fleet holds, if a few tangent rounds find some; else adds its prices."""
    room = part.room(backends)
    points, before = _within(SPREAD * part.variance.sum(axis=0), room), np.inf
    for _ in range(ASSIGN_ROUNDS):
        answer = program.flattest(points, room)
        if answer is None:
            return None
        found = exact(part, answer.weights, 0.0, unserved)
        if found and np.all(found.backends <= backends):
            return found
        need = part.need(answer.weights)[room > 0] / room[room > 0]
        prices.append(answer.prices)
        stuck = answer.bound - 1 > before - answer.bound
        if stuck or need.max() > HOPELESS or hopeless(part, backends, prices[-1:], 1 - unserved):
            return None
        before = answer.bound
        points = part.points(answer.weights, points)
    return None


def _elastic(part: Part, program: Program) -> Found | None:
    """The most demand that the limits allow, then the cheapest fleet for that."""
    weights = _fullest(part, program)
    if weights is None:
        return None
    unserved = np.clip(1 - weights.sum(axis=1), 0.0, 1.0)
    unserved[unserved < DUST] = 0.0
    first = exact(part, weights, 0.0, unserved)
    if first is None:
        first, unserved = _scaled(part, weights)
    program.allow(unserved)
    points = part.points(weights, _start(part))
    mixed, bound = _mix(part, program, points, unserved)
    best = min((f for f in (first, mixed) if f), key=lambda f: f.usd)
    best = _trimmed(part, program, best, unserved)
    return _gapped(best, max(bound, part.bound(1 - unserved)))


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


def _gapped(best: Found, bound: float) -> Found:
    gap = max(0.0, 1 - bound / best.usd) if best.usd > 0 else 0.0
    return Found(weights=best.weights, backends=best.backends, usd=best.usd, gap=gap)


def _start(part: Part) -> FloatArray:
    points = np.maximum(part.variance.sum(axis=0) / len(part.usd), 1e-3)
    return _within(points, part.most)


def _within(points: FloatArray, most: FloatArray) -> FloatArray:
    """Tangent points whose constant leaves room in a pool of `most`: else it could never open."""
    return np.asarray(np.clip(points, LEAST_POINT, np.maximum(LEAST_POINT, (ROOM * most) ** 2)))
