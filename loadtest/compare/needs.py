"""How many backends a rate needs, and which rate a fleet holds: the planner's own formula.

Rates are taken in steps of a hundredth, upwards, so that each is planned once. Knows no time.
"""

from dataclasses import replace
from math import ceil, exp, log

from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.headroom import bucket_loads, utilisations
from planner.program.solve import assign, provision

STEP = log(1.01)
HOLDS = 1 + 1e-6  # utilisation that a fleet holds, but for rounding
LOWEST_RATE = 0.1  # requests/s; less is as much
MOST_STEPS = 700  # from 1 request/s: a thousand of them


class FleetNeeds:
    """What the planner says of one mix of sizes on some pools, at any rate."""

    def __init__(self, demand: Demand, pools: tuple[Pool, ...]) -> None:
        self.pools = pools
        self.demand = demand
        self._loads = bucket_loads(demand, pools)
        self._needed: dict[int, tuple[int, ...]] = {}
        self._beside: dict[tuple[int, tuple[int, ...]], tuple[int, ...]] = {}
        self._held: dict[tuple[int, ...], int] = {}

    def usd_per_hour(self, backends: tuple[int, ...]) -> float:
        """The price of a fleet."""
        return sum(n * p.usd_per_hour for n, p in zip(backends, self.pools, strict=True))

    def work(self, rate: float, waiting: float, pool: int = 0) -> tuple[float, float]:
        """Mean and variance of what is in flight in a pool that serves this rate, in backends that
        it keeps just full. waiting: requests that wait beside them."""
        share = self.demand.rate / self.demand.total_rate
        known = self._loads.feasible[:, pool]
        seconds, variance, slots = (
            float((share[known] * of[known, pool]).sum())
            for of in (self._loads.seconds, self._loads.variance, self._loads.slots)
        )
        z = max(self.demand.dispersion)
        return rate * seconds + waiting * slots, z * rate * variance

    @property
    def seconds(self) -> float:
        """Backend-seconds of the first pool that a request takes on average."""
        return self.work(1.0, 0.0)[0]

    def mean_rate_for(self, backends: int) -> float:
        """The rate whose cheapest fleet has about so many backends."""
        step = _step(LOWEST_RATE)
        while sum(self.needed(_rate(step))) < backends and step < MOST_STEPS:
            step += 5
        return _rate(step)

    def needed(self, rate: float) -> tuple[int, ...]:
        """(P,) the cheapest fleet that holds this many requests/s."""
        step = _step(rate)
        if step not in self._needed:
            plan = provision(self.demand.scaled_to(_rate(step)), self.pools)
            self._needed[step] = plan.backends
        return self._needed[step]

    def needed_beside(self, rate: float, backends: tuple[int, ...]) -> tuple[int, ...]:
        """(P,) the cheapest fleet that holds this many requests/s and keeps these backends."""
        if len(self.pools) == 1:
            return (max(self.needed(rate)[0], backends[0]),)
        key = _step(rate), backends
        if key not in self._beside:
            kept = zip(self.pools, backends, strict=True)
            pools = tuple(replace(pool, min_backends=count) for pool, count in kept)
            plan = provision(self.demand.scaled_to(_rate(key[0])), pools)
            self._beside[key] = plan.backends
        return self._beside[key]

    def holds(self, rate: float, backends: tuple[int, ...]) -> bool:
        """Whether a fleet holds this many requests/s with the headroom that is required."""
        if len(self.pools) == 1:  # the cheapest fleet of one pool is the smallest that holds
            return self.needed(rate) <= backends
        if backends not in self._held:
            self._held[backends] = self._most(backends)
        return _step(rate) <= self._held[backends]

    def _most(self, backends: tuple[int, ...]) -> int:
        """The highest step that a fleet holds."""
        low, high = _step(LOWEST_RATE) - 1, MOST_STEPS
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._fits(middle, backends) else (low, middle)
        return low

    def _fits(self, step: int, backends: tuple[int, ...]) -> bool:
        if not any(backends):
            return False
        demand = self.demand.scaled_to(_rate(step))
        plan = assign(demand, self.pools, backends)
        return max(utilisations(demand, self.pools, [plan])[0]) <= HOLDS


def _step(rate: float) -> int:
    return ceil(log(max(rate, LOWEST_RATE)) / STEP - 1e-9)


def _rate(step: int) -> float:
    return exp(step * STEP)
