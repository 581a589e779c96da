"""Which GPUs to commit to, given the fleets that could serve every hour and the prices of GPUs.

The k-th GPU of a type is worth a commitment if it is needed in a large enough share of the hours:
`P(need ≥ k) ≥ committed price / on-demand price` (newsvendor). A commitment may make another fleet
the cheapest for an hour, one of another mix or one made for a busier hour. So the newsvendor is
asked again for those fleets, and a local search adds, drops and exchanges single GPUs. A joint
integer program over reserved and rented GPUs did not beat this in the prototype: it was 1.4 %
dearer after 60 s in one case and 0.1 % cheaper in the other. Must not know demand, pools or plans.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from planner.errors import InvalidValue
from planner.sizes import FloatArray, IntArray

# Rounds of a local search, each of which moves a GPU or more. It ends sooner, when nothing
# improves.
ROUNDS = 500
PENNY = 1e-9  # dollars; a smaller gain is rounding, and could be gained back and forth for ever
SPOT_SHARE = 0.5  # of each type in a fleet: so much may be preempted at once and replaced in time


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The prices of one GPU type, $ per GPU-hour: on demand, committed, and spot if it is offered.

    Raises InvalidValue, with the GPU's name, for a price that is not finite and ≥ 0.
    """

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
    """The hours to serve, the fleets that could serve them, and the prices of their GPUs.

    hours: (L,) how many hours are at each level of demand, the highest level first. fleets: (K, G)
    GPUs by type, in series of L: first the plans of the levels, then those on single types. level:
    (K,) the highest level of demand that a fleet holds; it holds all lower ones too. spot_share:
    the part of each type in a fleet that may be spot.
    """

    offers: tuple[Offer, ...]
    hours: IntArray
    fleets: IntArray
    level: IntArray
    spot_share: float = SPOT_SHARE

    def spot(self, committed: IntArray) -> IntArray:
        """(K, G) the spot GPUs of every fleet beside (G,) committed ones."""
        rest = np.maximum(self.fleets - committed, 0)
        cheap = [
            offer.spot_usd_per_hour is not None and offer.spot_usd_per_hour < offer.usd_per_hour
            for offer in self.offers
        ]
        most = np.floor(self.spot_share * self.fleets).astype(np.int64)
        return np.where(cheap, np.minimum(rest, most), 0)

    def chosen(self, committed: IntArray) -> tuple[IntArray, FloatArray]:
        """(L,) the cheapest fleet of every level beside (G,) committed GPUs, and (L,) its $/h.

        The committed GPUs are not in that cost.
        """
        usd = np.array([offer.usd_per_hour for offer in self.offers])
        saved = usd - [offer.spot_usd_per_hour or 0.0 for offer in self.offers]
        rest = np.maximum(self.fleets - committed, 0) @ usd - self.spot(committed) @ saved
        # Level 0 is the busiest: a fleet holds its own level and all that come after it.
        able = self.level[None, :] <= np.arange(len(self.hours))[:, None]
        table = np.where(able, rest[None, :], np.inf)
        best = np.argmin(table, axis=1)
        return best, table[np.arange(len(best)), best]

    def usd(self, committed: IntArray) -> float:
        """Dollars for all hours with (G,) GPUs committed, whether they are used or not."""
        prices = np.array([offer.committed_usd_per_hour for offer in self.offers])
        fixed = float(committed @ prices) * float(self.hours.sum())
        return fixed + float(self.chosen(committed)[1] @ self.hours)


def best_commitments(market: Market) -> IntArray:
    """(G,) GPUs to commit to: the cheapest end of a local search from each of several starts.

    The starts are the newsvendor's answers for every series of fleets, no commitment, and every GPU
    that the plans of the levels ever need; so the answer is never dearer than any of these.
    """
    levels = len(market.hours)
    series = [market.fleets[at : at + levels] for at in range(0, len(market.fleets), levels)]
    starts = [newsvendor(market, need) for need in series]
    starts += [np.zeros_like(starts[0]), series[0].max(axis=0)]
    return min((_improved(market, start) for start in starts), key=market.usd)


def _improved(market: Market, best: IntArray) -> IntArray:
    """Improve commitments until neither of two steps is cheaper.

    First the newsvendor's answer for the fleets that the commitments make the cheapest, which moves
    many GPUs at once; if that is no cheaper, the best step of one GPU.
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
    """(G,) commitments type by type, when (L, G) GPUs serve the levels of demand.

    Commit the k-th GPU if the share of hours that need it is at least committed ÷ on-demand price.
    """
    total = market.hours.sum()
    committed = []
    for gpus, offer in zip(need.T, market.offers, strict=True):
        k = np.arange(1, int(gpus.max(initial=0)) + 1)
        share = (gpus[None, :] >= k[:, None]) @ market.hours / total
        worth = share * offer.usd_per_hour >= offer.committed_usd_per_hour
        # A GPU that is free on demand is worth no commitment, though every share is enough for it.
        committed.append(int(worth.sum()) if offer.usd_per_hour > 0 else 0)
    return np.array(committed, dtype=np.int64)


def _steps(types: int) -> list[IntArray]:
    """The steps of the local search: one GPU more, one fewer, one exchanged for another type."""
    unit = np.eye(types, dtype=np.int64)
    swaps = [unit[i] - unit[j] for i, j in itertools.permutations(range(types), 2)]
    return [*unit, *-unit, *swaps]
