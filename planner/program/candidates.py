"""Fleets that may be worth trying, and a proof for most of them that no shares make them hold.

For prices π ≥ 0 of the pools, whatever the shares,

    Σ_b min_p π_p (m_bp + v_bp/s_p) ≤ Σ_p π_p need_p ,     √V ≥ V/s_p for V ≤ s_p²

so a fleet with room r holds only if the left side is at most Σ_p π_p r_p. s_p² is the largest
variance that fits into r_p: a knapsack filled with the buckets of the largest v/m. Without a tail
this is the bound of linear duality. One multiplication sets thousands of fleets aside, where a
linear program would be needed for each. Must not know how shares are found.
"""

import numpy as np

from planner.program.headroom import BoolArray
from planner.program.subproblem import DUST, EXACT, Incumbent, Subproblem
from planner.sizes import FloatArray

# Up to WIDE pools the neighbourhood of a fleet is every step of up to REACH backends in each pool:
# 7⁴ = 2,401 fleets. Over 32 made-up problems a reach of 2 or 4 changed no plan, 1 made two dearer.
WIDE = 4
REACH = 3
# Fleets × buckets × pools of one list: the work of one `sift`. Ten times as many gave the same
# plans and took longer; a tenth made two of 32 plans dearer, by up to 2.2 %.
ENTRIES = 10_000_000
SLACK = 1e-5  # of room: more than EXACT, so that no fleet that holds is set aside


class Candidates:
    """Fleets in the order in which they are tried; prices rule some of them out."""

    def __init__(self, subproblem: Subproblem, fleets: FloatArray, served: FloatArray) -> None:
        """fleets: (k, m) counts. served: (n,) the share of each bucket that a fleet must hold."""
        self._fleets, self._served = fleets, served
        # Room and loads depend on a pool's count only, and a list has few different ones.
        levels = [np.unique(counts, return_inverse=True) for counts in fleets.T]
        rooms = [_rooms(subproblem, p, level) for p, (level, _) in enumerate(levels)]
        self._loads = [_loads(subproblem, p, room) for p, room in enumerate(rooms)]
        self._places = np.array([place for _, place in levels])
        self._room = np.array([r[at] for r, at in zip(rooms, self._places, strict=True)]).T

    def __len__(self) -> int:
        return len(self._fleets)

    @property
    def next(self) -> FloatArray:
        """(m,) counts of the fleet to try next."""
        return np.asarray(self._fleets[0])

    def drop(self, *, shut: bool = False) -> None:
        """Drop the next fleet; shut: and every fleet whose open pools are all open in this one."""
        closed = self._room <= 0
        gone = np.zeros(len(closed), dtype=bool)
        if shut:
            gone = np.asarray(closed[:, closed[0]].all(axis=1))
        gone[0] = True
        self._keep(~gone)

    def sift(self, price: FloatArray) -> bool:
        """Set aside the fleets that (m,) prices prove too small; False if the next one is gone."""
        if not len(self._fleets):
            return False
        least = np.full((len(self._fleets), len(self._served)), np.inf)
        for usd, loads, place in zip(price.tolist(), self._loads, self._places, strict=True):
            # A price of 0 makes a pool free, but not a pool that cannot serve the bucket.
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


def list_fleets(
    subproblem: Subproblem, most: FloatArray, low_usd: float, high_usd: float
) -> FloatArray | None:
    """All legal counts (k, m) up to (m,) most whose cost is in [low, high), by cost.

    `None` if there are too many. Pools are added one by one, the dearest first: the cost of the
    rest is at least that of its cheapest counts, so no prefix is made that is too dear.
    """
    order = np.argsort(-subproblem.costs.usd, kind="stable").tolist()
    longest = ENTRIES // subproblem.mean.size
    least = subproblem.bounds.least
    counts = [np.arange(least[p], min(most[p], least[p] + longest) + 1) for p in order]
    costs = [subproblem.costs.by_pool(n, p) for p, n in zip(order, counts, strict=True)]
    rest = sum(float(cost.min()) for cost in costs)
    fleets, usd = np.zeros((1, 0)), np.zeros(1)
    for count, cost in zip(counts, costs, strict=True):
        rest -= float(cost.min())
        rank = np.argsort(cost, kind="stable")
        many = np.searchsorted(cost[rank], high_usd - rest - usd)
        if many.sum() > longest:
            return None
        prefix = np.repeat(np.arange(len(usd)), many)
        added = rank[np.arange(len(prefix)) - np.repeat(np.cumsum(many) - many, many)]
        fleets = np.concatenate([fleets[prefix], count[added, None]], axis=1)
        usd = usd[prefix] + cost[added]
    fleets = fleets[:, np.argsort(order)]
    legal = (usd >= low_usd) & subproblem.legal(fleets)
    return np.asarray(fleets[legal][np.argsort(usd[legal], kind="stable")])


def useful_counts(subproblem: Subproblem) -> FloatArray:
    """(m,) the largest counts worth trying: enough for all that a pool can hold, or what runs."""
    counts = subproblem.counts(np.isfinite(subproblem.mean).astype(float))
    most = np.maximum(counts, subproblem.costs.running)
    return np.minimum(most, subproblem.bounds.most)


def nearby_fleets(subproblem: Subproblem, best: Incumbent, most_usd: float) -> FloatArray:
    """(k, m) fleets near one that holds and cheaper than most_usd, the dearest first.

    The dearest saves least, so it is the likeliest to hold. With more than `WIDE` pools a step is
    one backend fewer, or one exchanged for a cheaper one: a whole box would be too many.
    """
    m = len(subproblem.costs.usd)
    if m <= WIDE:
        steps = np.indices((2 * REACH + 1,) * m).reshape(m, -1).T - float(REACH)
    else:
        swaps = (np.eye(m)[:, None] - np.eye(m)[None]).reshape(m * m, m)
        steps = np.concatenate([-np.eye(m), swaps])
    fleets = best.backends + steps
    usd = subproblem.costs.total(fleets)
    legal = (usd < min(most_usd, best.usd - EXACT)) & subproblem.legal(fleets)
    legal &= subproblem.costs.bill(fleets) >= subproblem.fluid_bound(best.weights.sum(axis=1))
    # A tenth of a whole list: a few of them are tried, and a search makes many such lists.
    order = np.argsort(-usd[legal], kind="stable")[: ENTRIES // 10 // subproblem.mean.size + 1]
    return np.asarray(fleets[legal][order])


def _rooms(subproblem: Subproblem, pool: int, counts: FloatArray) -> FloatArray:
    """(k,) the load and tail that (k,) counts of one pool hold."""
    availability = subproblem.availability
    if not availability.away[pool]:
        return np.maximum(counts - availability.spare, 0.0)
    fleets = np.tile(subproblem.bounds.least, (len(counts), 1))
    fleets[:, pool] = counts
    return np.array([availability.ready(fleet)[pool] for fleet in fleets])


def _loads(subproblem: Subproblem, pool: int, room: FloatArray) -> FloatArray:
    """(k, n) `m + v/s` of every bucket in one pool of (k,) room; infinite where it is closed."""
    held = np.isfinite(subproblem.mean[:, pool])
    root = _roots(subproblem.mean[held, pool], subproblem.variance[held, pool], room + SLACK)
    loads = (
        subproblem.mean[:, pool] + subproblem.variance[:, pool] / np.maximum(root, DUST)[:, None]
    )
    return np.where(room[:, None] > 0, loads, np.inf)


def _roots(mean: FloatArray, variance: FloatArray, room: FloatArray) -> FloatArray:
    """(k,) the largest s = √V with `M + √V ≤ room`, for (k,) room.

    Buckets of the largest ratio v/m are put in first, as in a fractional knapsack. While a bucket
    of ratio q is put in, `V = V₀ + q(M − M₀)`, hence `s²/q + s = room − M₀ + V₀/q`.
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
