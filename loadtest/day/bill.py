"""What a day cost, and what other ways to follow the same demand would have. Pure.

A day is cut into slots. What a slot requires is what the planner finds for its true rate. The other
lanes are played on that: they meet no queue and no engine, and their machines start and stop at
once, except the naive loop's, which come after a start-up time as ours do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np

from planner.costs.single_types import single_types
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program import solve
from planner.program.limits import backend_price
from planner.proof.refine import peak
from planner.sizes import FloatArray

STEP = 0.25  # requests/s: rates are rounded up to it, so that a day is a few dozen programs
FULL = 1.0 + 1e-6
Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneBill:
    """One way to follow the day. usd: of the whole day. short_share: the share of the slots in
    which what ran could not hold what came."""

    name: str
    usd: float
    short_share: float


class DayDemand:
    """The true demand of a day, and what fleets it takes. rates: (N,) requests/s by slot."""

    def __init__(self, demand: Demand, pools: tuple[Pool, ...], rates: FloatArray) -> None:
        """demand: its mix of sizes."""
        self._demand = demand
        self.pools = pools
        self.rates = rates
        self._prices = np.array([backend_price(pool) for pool in pools])
        self.required = lru_cache(maxsize=None)(self._required)
        self._alone = lru_cache(maxsize=None)(self._singles)
        self._holds = lru_cache(maxsize=None)(self._held)

    @property
    def mix(self) -> FloatArray:
        """(B,) the part of the requests in each bucket."""
        return self._demand.rate / self._demand.total_rate

    def usd_per_hour(self, counts: Sequence[float]) -> float:
        """Of a fleet."""
        return float(self._prices @ np.asarray(counts, dtype=float))

    def short(self, slot: int, counts: Counts) -> bool:
        """Whether a fleet cannot hold what comes in a slot."""
        return not self._holds(_rounded(self.rates[slot]), counts)

    def clairvoyant(self, name: str, hours: float) -> LaneBill:
        """Knows each slot beforehand."""
        counts = [self.required(_rounded(rate)) for rate in self.rates]
        return self._bill(name, counts, hours)

    def naive(self, name: str, hours: float, delay: int) -> LaneBill:
        """Wishes, anew in each slot, what the slot before took. What is more comes `delay` slots
        later; what is too much goes at once, unless something is to come in its place."""
        wished = [self.required(_rounded(rate)) for rate in self.rates]
        there = list(wished[0])
        due: list[tuple[int, int]] = []  # slot and pool
        counts = [tuple(there)]
        for slot in range(1, len(wished)):
            for _, pool in [one for one in due if one[0] <= slot]:
                there[pool] += 1
            due = [one for one in due if one[0] > slot]
            for pool, want in enumerate(wished[slot - 1]):
                coming = sum(one[1] == pool for one in due)
                due += [(slot + delay, pool)] * max(0, want - there[pool] - coming)
            if not due:
                there = list(wished[slot - 1])
            counts.append(tuple(there))
        return self._bill(name, counts, hours)

    def single(self, hours: float) -> tuple[LaneBill, LaneBill] | None:
        """The best GPU type alone: one fleet that follows the day clairvoyantly, and one that is
        as large as its busiest slot all day; `None` if no type can serve everything."""
        found: dict[str, list[float]] = {}
        for rate in self.rates:
            for gpu, usd in self._alone(_rounded(rate)):
                found.setdefault(gpu, []).append(usd)
        whole = {gpu: usd for gpu, usd in found.items() if len(usd) == len(self.rates)}
        if not whole:
            return None
        gpu = min(whole, key=lambda name: sum(whole[name]))
        each = hours / len(self.rates)
        moving = LaneBill(name=f"{gpu} alone", usd=sum(whole[gpu]) * each, short_share=0.0)
        top = min(max(usd) for usd in whole.values())
        gpu = next(name for name, usd in whole.items() if max(usd) == top)
        still = LaneBill(name=f"{gpu} alone, for the peak", usd=top * hours, short_share=0.0)
        return moving, still

    def own(self, name: str, usd: float, counts: Sequence[Counts]) -> LaneBill:
        """What really ran. counts: (N,) that served, by slot."""
        short = [self.short(slot, own) for slot, own in enumerate(counts)]
        return LaneBill(name=name, usd=usd, short_share=sum(short) / max(1, len(short)))

    def _bill(self, name: str, counts: Sequence[Counts], hours: float) -> LaneBill:
        each = hours / len(counts)
        return self.own(name, sum(self.usd_per_hour(own) for own in counts) * each, counts)

    def _required(self, rate: float) -> Counts:
        return solve.provision(self._demand.scaled_to(rate), self.pools).backends

    def _singles(self, rate: float) -> tuple[tuple[str, float], ...]:
        plans = single_types(self._demand.scaled_to(rate), self.pools)
        return tuple((g, p.usd_per_hour) for g, p in plans.items() if not p.unserved_share)

    def _held(self, rate: float, counts: Counts) -> bool:
        plan = solve.assign(self._demand.scaled_to(rate), self.pools, counts)
        return not plan.unserved_share and peak(plan) <= FULL


def delay_slots(startup_s: float, slot_s: float) -> int:
    """The slots that a start-up takes."""
    return ceil(startup_s / slot_s)


def spent_usd(
    spans: Sequence[tuple[str, float, float]], prices: Mapping[str, float], hours_per_s: float
) -> float:
    """What machines cost. spans: pool, from and until, seconds. prices: $/h by pool. hours_per_s:
    of the day that is shown, in one second of this run."""
    return sum(prices[pool] * (until_s - from_s) * hours_per_s for pool, from_s, until_s in spans)


def _rounded(rate: float) -> float:
    return max(STEP, ceil(rate / STEP) * STEP)
