"""One fleet that several routers share, played in virtual time: the rate that they attain together.

What the routers are, and how they know of each other, is `workers`' and `gateways`'.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Self

import numpy as np

from gateway.config.load import Loaded, load
from gateway.rehearsal.history import demand_of
from gateway.rehearsal.load_sharing import LoadSharing
from gateway.rehearsal.play import Rehearsal, rehearse
from gateway.rehearsal.traffic import ReplayedTraffic, TrafficSample
from gateway.routing.estimator import Estimator
from loadtest.compare.dispatch import SKIP
from planner.model.plan import Plan
from planner.program import solve
from planner.sizes import IntArray
from planner.slo import Slo
from planner.traffic.trace import Trace, read_trace

STEPS = 11  # halvings of the bracket: 0.2 % of the rate
LOWEST, HIGHEST = 0.5, 4.5  # of the rate that the fleet was planned for
DISPERSION = 1.5  # of arrivals: a little burstier than Poisson, whose counts have 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharingBench:
    """One plan and the traffic that it is played on, at any rate."""

    loaded: Loaded
    plan: Plan
    trace: Trace
    estimator: Estimator
    requests: int
    seeds: int

    @classmethod
    def planned(cls, config: Path, trace: Path, *, rate: float, requests: int, seeds: int) -> Self:
        """The plan of a configuration for a trace at this rate, requests/s. requests: of one play.
        seeds: plays of each rate."""
        loaded, history, estimator = load(config), read_trace(trace), Estimator()
        demand = demand_of(history, loaded, estimator=estimator).scaled_to(rate)
        return cls(
            loaded=loaded,
            plan=solve.provision(demand, loaded.pools, loaded.limits),
            trace=history,
            estimator=estimator,
            requests=requests,
            seeds=seeds,
        )

    @property
    def slo(self) -> Slo:
        return self.plan.buckets.classes[0].slo

    @property
    def fleet(self) -> dict[str, int]:
        """The plan's backends by pool."""
        return dict(zip(self.plan.pools, self.plan.backends, strict=True))

    def attained(
        self, rate: float, routers: int, sharing: Callable[[int], LoadSharing | None]
    ) -> float:
        """Attainment over all seeds; any number of routers meets the same traffic. sharing: makes
        how they know of each other, for a seed."""
        met = total = 0
        for seed in range(self.seeds):
            sample = self.sample(rate, seed)
            dealt = np.random.default_rng(seed).integers(0, routers, len(sample.trace))
            played = self.play(sample, dealt, sharing(seed))
            counted = played.result.met(self.slo)[ceil(SKIP * len(dealt)) :]
            met, total = met + int(counted.sum()), total + len(counted)
        return met / total

    def sample(self, rate: float, seed: int) -> TrafficSample:
        """Traffic at a rate."""
        return ReplayedTraffic(
            trace=self.trace, rate=rate, process="gamma", dispersion=DISPERSION,
            requests=self.requests, estimator=self.estimator,
            model=self.plan.buckets.classes[0].model,
        ).draw(seed)  # fmt: skip

    def play(
        self, sample: TrafficSample, dealt: IntArray, sharing: LoadSharing | None
    ) -> Rehearsal:
        """dealt: number of the router that each request reaches."""
        return rehearse(
            sample.trace,
            self.plan,
            self.loaded.pools,
            estimated=sample.estimated,
            workers=dealt,
            sharing=sharing,
        )


def highest_rate(attainment: Callable[[float], float], planned: float, target: float) -> float:
    """The highest rate at which the target is met, by bisection.

    planned: the rate that the fleet was planned for; the result lies between half and four and a
    half times it.
    """
    low, high = LOWEST * planned, HIGHEST * planned
    for _ in range(STEPS):
        middle = (low + high) / 2
        if attainment(middle) >= target:
            low = middle
        else:
            high = middle
    return low
