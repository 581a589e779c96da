"""Fleets that may be worth trying, and which of them no shares can make hold.

For prices π ≥ 0 of the pools, whatever the shares,

    Σ_b min_p π_p (m_bp + v_bp/s_p) ≤ Σ_p π_p need_p ,     √V ≥ V/s_p for V ≤ s_p²

so a fleet with room r holds only if the left side is at most Σ_p π_p r_p. s_p² is the most variance
that fits into r_p: a knapsack filled with the buckets of the largest v/m. Without a tail the bound
is that of linear duality. Knows nothing of how shares are found.
"""

import numpy as np

from planner.program.headroom import BoolArray
from planner.program.subproblem import DUST, EXACT, Incumbent, Subproblem
from planner.sizes import FloatArray

WIDE = 4  # pools up to which the neighbourhood of a fleet is a whole box
REACH = 3
ENTRIES = 10_000_000  # fleets × buckets × pools of one list: a longer one is slower than the tree
SLACK = 1e-5  # of room: more than EXACT, so that no fleet that holds is set aside


class Candidates:
    """Fleets (k, m) in the order of trying. served: (n,) the share of each bucket to hold."""

    def __init__(self, subproblem: Subproblem, fleets: FloatArray, served: FloatArray) -> None:
        self._fleets, self._served = fleets, served
        levels = [np.unique(counts, return_inverse=True) for counts in fleets.T]
        rooms = [_rooms(subproblem, p, level) for p, (level, _) in enumerate(levels)]
        self._loads = [_loads(subproblem, p, room) for p, room in enumerate(rooms)]
        self._places = np.array([place for _, place in levels])
        self._room = np.array([r[at] for r, at in zip(rooms, self._places, strict=True)]).T

    def __len__(self) -> int:
        return len(self._fleets)

    @property
    def next(self) -> FloatArray:
        """(m,) counts of the one to try next."""
        return np.asarray(self._fleets[0])

    def drop(self, *, shut: bool = False) -> None:
        """Passes the next one over; shut: and all that have no more pools open than it has."""
        closed = self._room <= 0
        gone = np.zeros(len(closed), dtype=bool)
        if shut:
            gone = np.asarray(closed[:, closed[0]].all(axis=1))
        gone[0] = True
        self._keep(~gone)

    def sift(self, price: FloatArray) -> bool:
        """Sets aside what cannot hold at (m,) prices; whether the next one is still the same."""
        if not len(self._fleets):
            return False
        least = np.full((len(self._fleets), len(self._served)), np.inf)
        for usd, loads, place in zip(price.tolist(), self._loads, self._places, strict=True):
            priced = np.where(np.isfinite(loads), usd, 1.0) * loads
            np.minimum(least, priced[place], out=least)
        least[:, self._served == 0] = 0.0
        held: BoolArray = least @ self._served <= (self._room + SLACK) @ price
        if not held.all():
            self._keep(held)
        return bool(held[0])

    def _keep(self, which: BoolArray) -> None:
        self._fleets, self._room = self._fleets[which], self._room[which]
        self._places = self._places[:, which]


def listed(
    subproblem: Subproblem, least: FloatArray, most: FloatArray, low_usd: float, high_usd: float
) -> FloatArray | None:
    """All legal counts (k, m) from (m,) least to most whose cost is in [low, high), by cost.

    `None`: too many. Pools are added one by one, the dearest first; what the others cost at least
    is known, so nothing is made that is too dear.
    """
    order = np.argsort(-subproblem.usd, kind="stable").tolist()
    longest = ENTRIES // subproblem.mean.size
    counts = [np.arange(least[p], min(most[p], least[p] + longest) + 1) for p in order]
    costs = [subproblem.costs(one, p) for p, one in zip(order, counts, strict=True)]
    rest = sum(float(cost.min()) for cost in costs)
    fleets, usd = np.zeros((1, 0)), np.zeros(1)
    for count, cost in zip(counts, costs, strict=True):
        rest -= float(cost.min())
        rank = np.argsort(cost, kind="stable")
        many = np.searchsorted(cost[rank], high_usd - rest - usd)
        if many.sum() > longest:
            return None
        one = np.repeat(np.arange(len(usd)), many)
        other = rank[np.arange(len(one)) - np.repeat(np.cumsum(many) - many, many)]
        fleets = np.concatenate([fleets[one], count[other, None]], axis=1)
        usd = usd[one] + cost[other]
    fleets = fleets[:, np.argsort(order)]
    legal = (usd >= low_usd) & subproblem.legal(fleets)
    return np.asarray(fleets[legal][np.argsort(usd[legal], kind="stable")])


def enough(subproblem: Subproblem) -> FloatArray:
    """(m,) counts that no sensible fleet exceeds: all that a pool can hold goes to it."""
    counts = subproblem.counts(np.isfinite(subproblem.mean).astype(float))
    return np.minimum(np.maximum(counts, subproblem.running), subproblem.most)


def moves(subproblem: Subproblem, best: Incumbent, most_usd: float) -> FloatArray:
    """Fleets near one that holds and cheaper than most_usd, the dearest first: the likeliest.

    Up to `WIDE` pools every step of at most `REACH` backends a pool; beyond that one backend fewer,
    or one swapped for a cheaper one.
    """
    m = len(subproblem.usd)
    if m <= WIDE:
        steps = np.indices((2 * REACH + 1,) * m).reshape(m, -1).T - float(REACH)
    else:
        swaps = (np.eye(m)[:, None] - np.eye(m)[None]).reshape(m * m, m)
        steps = np.concatenate([-np.eye(m), swaps])
    fleets = best.backends + steps
    usd = subproblem.cost(fleets)
    legal = (usd < min(most_usd, best.usd - EXACT)) & subproblem.legal(fleets)
    legal &= subproblem.bill(fleets) >= subproblem.bound(best.weights.sum(axis=1))
    order = np.argsort(-usd[legal], kind="stable")[: ENTRIES // 10 // subproblem.mean.size + 1]
    return np.asarray(fleets[legal][order])


def _rooms(subproblem: Subproblem, pool: int, counts: FloatArray) -> FloatArray:
    """(k,) what (k,) counts of one pool hold."""
    if not subproblem.away[pool]:
        return np.maximum(counts - subproblem.spare, 0.0)
    each = np.tile(subproblem.least, (len(counts), 1))
    each[:, pool] = counts
    return np.array([subproblem.room(one)[pool] for one in each])


def _loads(subproblem: Subproblem, pool: int, room: FloatArray) -> FloatArray:
    """(k, n) `m + v/s` of every bucket in one pool of (k,) room; infinite where it is closed."""
    held = np.isfinite(subproblem.mean[:, pool])
    root = _roots(subproblem.mean[held, pool], subproblem.variance[held, pool], room + SLACK)
    loads = (
        subproblem.mean[:, pool] + subproblem.variance[:, pool] / np.maximum(root, DUST)[:, None]
    )
    return np.where(room[:, None] > 0, loads, np.inf)


def _roots(mean: FloatArray, variance: FloatArray, room: FloatArray) -> FloatArray:
    """(k,) the largest s = √V with `M + √V ≤ room`: buckets of the largest v/m come first.

    While one of them, of ratio q, is put in, `V = V₀ + q(M − M₀)`: `s²/q + s = room − M₀ + V₀/q`.
    """
    if not len(mean):
        return np.zeros_like(room)
    order = np.argsort(-variance / mean)
    mean, variance = mean[order], variance[order]
    full, spread = np.cumsum(mean), np.cumsum(variance)
    whole = np.minimum(np.searchsorted(full + np.sqrt(spread), room), len(mean) - 1)
    ratio = np.maximum(variance / mean, DUST)[whole]
    left = room - (full - mean)[whole] + (spread - variance)[whole] / ratio
    root = ratio / 2 * (np.sqrt(1 + 4 * np.maximum(left, 0.0) / ratio) - 1)
    return np.asarray(np.minimum(root, np.sqrt(spread[-1])))
