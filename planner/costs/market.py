"""Which GPUs to commit to, given the fleets that could serve every hour and what GPUs cost.

The k-th GPU of a type is worth a commitment if it is needed in a large enough share of the hours:
`P(need ≥ k) ≥ committed price / on-demand price` (newsvendor). What is committed may make another
fleet the cheapest for an hour, one of another mix or one made for a busier hour: so the newsvendor
is asked again for those, and a local search adds, drops and swaps single GPUs. Knows counts and
prices only.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from planner.errors import InvalidValue
from planner.sizes import FloatArray, IntArray

ROUNDS = 500  # of a local search
PENNY = 1e-9  # dollars per hour that are no gain
SPOT_SHARE = 0.5  # of a type may be preempted at once and is still replaced in time


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one GPU of a type costs per hour: as rented, as committed, as spot if there is any."""

    gpu: str
    usd_per_hour: float
    committed_usd_per_hour: float
    spot_usd_per_hour: float | None = None

    def __post_init__(self) -> None:
        for name in ("usd_per_hour", "committed_usd_per_hour", "spot_usd_per_hour"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InvalidValue(f"{self.gpu}: {name} must be ≥ 0 and finite: {value}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Market:
    """Hours to serve, fleets that could, and what their GPUs cost.

    hours: (L,) how many hours are at each level of demand, the highest first. fleets: (K, G) GPUs
    by type, the first L of them the plans of the levels. level: (K,) ascending within what follows:
    the highest level that a fleet holds; it holds all lower ones too. spot_share: of each type in a
    fleet, how much may be spot.
    """

    offers: tuple[Offer, ...]
    hours: IntArray
    fleets: IntArray
    level: IntArray
    spot_share: float = SPOT_SHARE

    def spot(self, committed: IntArray) -> IntArray:
        """(K, G) spot GPUs of every fleet beside (G,) committed ones."""
        rest = np.maximum(self.fleets - committed, 0)
        cheap = [
            o.spot_usd_per_hour is not None and o.spot_usd_per_hour < o.usd_per_hour
            for o in self.offers
        ]
        most = np.floor(self.spot_share * self.fleets).astype(np.int64)
        return np.where(cheap, np.minimum(rest, most), 0)

    def chosen(self, committed: IntArray) -> tuple[IntArray, FloatArray]:
        """For every level the cheapest fleet beside (G,) committed GPUs, and its $/h without them.

        Two (L,).
        """
        usd = np.array([o.usd_per_hour for o in self.offers])
        saved = usd - [o.spot_usd_per_hour or 0.0 for o in self.offers]
        rest = np.maximum(self.fleets - committed, 0) @ usd - self.spot(committed) @ saved
        able = self.level[None, :] <= np.arange(len(self.hours))[:, None]
        table = np.where(able, rest[None, :], np.inf)
        best = np.argmin(table, axis=1)
        return best, table[np.arange(len(best)), best]

    def usd(self, committed: IntArray) -> float:
        """Dollars for all hours with (G,) GPUs committed, used or not."""
        prices = np.array([o.committed_usd_per_hour for o in self.offers])
        fixed = float(committed @ prices) * float(self.hours.sum())
        return fixed + float(self.chosen(committed)[1] @ self.hours)


def search(market: Market) -> IntArray:
    """(G,) GPUs to commit to: the cheapest end of a local search from each of several starts.

    The starts are the newsvendor's answers for every series of fleets, nothing, and everything
    that the plans of the levels ever need.
    """
    levels = len(market.hours)
    series = [market.fleets[at : at + levels] for at in range(0, len(market.fleets), levels)]
    starts = [newsvendor(market, need) for need in series]
    starts += [np.zeros_like(starts[0]), series[0].max(axis=0)]
    return min((_improved(market, start) for start in starts), key=market.usd)


def _improved(market: Market, best: IntArray) -> IntArray:
    """Follows the newsvendor for the fleets that a commitment makes the cheapest, and else the best
    step of one GPU, as long as that is cheaper.
    """
    usd = market.usd(best)
    steps = _steps(len(market.offers))
    for _ in range(ROUNDS):
        again = newsvendor(market, market.fleets[market.chosen(best)[0]])
        if market.usd(again) < usd - PENNY:
            best, usd = again, market.usd(again)
            continue
        near = [best + step for step in steps if np.all(best + step >= 0)]
        costs = [market.usd(committed) for committed in near]
        first = int(np.argmin(costs))
        if costs[first] >= usd - PENNY:
            break
        best, usd = near[first], costs[first]
    return best


def newsvendor(market: Market, need: IntArray) -> IntArray:
    """(G,) commitments type by type, for the (L, G) fleet of every level: planning by quantiles.

    Commits the k-th GPU if the share of hours that need it is at least committed ÷ on-demand price.
    """
    total = market.hours.sum()
    committed = []
    for gpus, offer in zip(need.T, market.offers, strict=True):
        k = np.arange(1, int(gpus.max(initial=0)) + 1)
        share = (gpus[None, :] >= k[:, None]) @ market.hours / total
        worth = share * offer.usd_per_hour >= offer.committed_usd_per_hour
        committed.append(int(worth.sum()) if offer.usd_per_hour > 0 else 0)
    return np.array(committed, dtype=np.int64)


def _steps(types: int) -> list[IntArray]:
    """One GPU more, one fewer, one exchanged for another type's."""
    one = np.eye(types, dtype=np.int64)
    swaps = [one[i] - one[j] for i, j in itertools.permutations(range(types), 2)]
    return [*one, *-one, *swaps]
