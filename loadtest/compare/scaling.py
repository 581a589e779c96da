"""Autoscalers on many days of demand, minute by minute: who is short, how often, and at which cost.

What a minute needs is the planner's own requirement for the rate that really came; no policy sees
it, nor the future. Start-up times are drawn. Owns the days of a fleet and how they are counted;
chance is a seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import exp

import numpy as np

from gateway.config.load import load
from gateway.rehearsal.history import demand_of
from gateway.routing.estimator import Estimator
from loadtest.compare.autoscalers import (
    Autoscaler,
    Fixed,
    Foreseeing,
    Look,
    Naive,
    QueueDepth,
    clairvoyant_hours,
)
from loadtest.compare.needs import FleetNeeds
from loadtest.compare.rates import DAY, SHAPE, made_days, recorded_days
from planner import shipped
from planner.sizes import FloatArray
from planner.traffic.trace import read_trace

LOOK_S, HPA_LOOK_S = 60.0, 15.0
SPREAD = 0.2  # standard deviation of the logarithm of a start-up time
LATE = 1.2816  # deviations; nine of ten starts take no longer
QUANTILE = 0.95  # chosen on made days of seed 1
QUEUE_TARGET = 0.8
STATIC_SHARE = 0.999


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScalingDays:
    """One demand on one choice of pools. rate: (N,) requests/s by minute. startup_s: median."""

    needs: FleetNeeds
    rate: FloatArray
    startup_s: float
    seed: int

    @property
    def days(self) -> float:
        return len(self.rate) / DAY

    @property
    def horizon_s(self) -> float:
        """From an order until it is ready, in nine of ten cases, and one look."""
        return self.startup_s * exp(LATE * SPREAD) + LOOK_S

    def clairvoyant(self) -> tuple[float, ...]:
        """(P,) hours of backends of who knows all."""
        needed = [self.needs.needed(rate) for rate in self.rate.tolist()]
        return clairvoyant_hours(needed, LOOK_S, self.startup_s)

    def static(self) -> tuple[int, ...]:
        """The fleet that is enough for all but one of a thousand minutes."""
        return self.needs.needed(float(np.quantile(self.rate, STATIC_SHARE)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingScore:
    """What a policy did. short: share of the looks at which the ready backends were less than
    required. changes, starts: looks that ordered something, and backends started, a day. doubled:
    orders a day while what was there and coming held all that the policy itself asked for. hours:
    of backends, starts included; usd: their price."""

    policy: str
    short: float
    changes: float
    starts: float
    doubled: float
    hours: tuple[float, ...]
    usd: float


class PlayedFleet:
    """Backends of several pools that are ordered, start, serve and go. Counts what is paid."""

    def __init__(self, backends: tuple[int, ...], startup_s: float, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._startup_s = startup_s
        self._coming: list[list[float]] = [[] for _ in backends]  # when they are ready
        self._ready = list(backends)
        self.paid_s = [0.0] * len(backends)
        self.starts = 0

    @property
    def ready(self) -> tuple[int, ...]:
        return tuple(self._ready)

    @property
    def pending(self) -> tuple[int, ...]:
        return tuple(map(len, self._coming))

    def pass_to(self, now_s: float, step_s: float) -> None:
        """A step ended at this moment: pay for it, and take in those that became ready."""
        for pool, coming in enumerate(self._coming):
            self.paid_s[pool] += step_s * (self._ready[pool] + len(coming))
            late = [at_s for at_s in coming if at_s > now_s]
            self._ready[pool] += len(coming) - len(late)
            self._coming[pool] = late

    def order(self, target: tuple[int, ...], now_s: float) -> bool:
        """Start and stop backends; those that are still coming go first. Whether any did."""
        have = [r + len(c) for r, c in zip(self._ready, self._coming, strict=True)]
        for pool, (wish, count) in enumerate(zip(target, have, strict=True)):
            for _ in range(wish - count):
                took_s = self._startup_s * exp(self._rng.normal(0.0, SPREAD))
                self._coming[pool].append(now_s + took_s)
                self.starts += 1
            for _ in range(count - wish):
                if self._coming[pool]:
                    self._coming[pool].pop()
                else:
                    self._ready[pool] -= 1
        return tuple(have) != target


def score(
    name: str, autoscaler: Autoscaler, days: ScalingDays, look_s: float = LOOK_S
) -> ScalingScore:
    """Let a policy look every so many seconds over all the days."""
    needs, rng = days.needs, np.random.default_rng(days.seed)
    fleet = PlayedFleet(needs.needed(float(days.rate[0])), days.startup_s, days.seed)
    steps = round(60 / look_s)
    seen = rng.poisson(days.rate * 60) / 60
    noise = rng.normal(size=len(days.rate) * steps)
    short = changes = doubled = 0
    waiting = 0.0
    for step in range(len(days.rate) * steps):
        minute, now_s = step // steps, (step + 1) * look_s
        rate = float(days.rate[minute])
        short += not needs.holds(rate, fleet.ready)
        waiting = max(0.0, waiting + (rate - fleet.ready[0] / needs.seconds) * look_s)
        mean, variance = needs.work(rate, waiting)
        fleet.pass_to(now_s, look_s)
        look = Look(
            now_s=now_s,
            rate=float(seen[minute]),
            ready=fleet.ready,
            pending=fleet.pending,
            work=max(0.0, mean + variance**0.5 * float(noise[step])),
        )
        started = fleet.starts
        changes += fleet.order(autoscaler.decide(look), now_s)
        if len(needs.pools) > 1 and fleet.starts > started:
            doubled += needs.holds(look.rate, look.have)
    hours = tuple(paid_s / 3600 for paid_s in fleet.paid_s)
    return ScalingScore(
        policy=name,
        short=short / (len(days.rate) * steps),
        changes=changes / days.days,
        starts=fleet.starts / days.days,
        doubled=doubled / days.days,
        hours=hours,
        usd=sum(h * p.usd_per_hour for h, p in zip(hours, needs.pools, strict=True)),
    )


def scores(days: ScalingDays, quantiles: tuple[float, ...] = (QUANTILE,)) -> Iterator[ScalingScore]:
    """The clairvoyant first, by which the others are measured; then ours and the others."""
    needs, hours = days.needs, days.clairvoyant()
    usd = sum(h * p.usd_per_hour for h, p in zip(hours, needs.pools, strict=True))
    yield ScalingScore(
        policy="clairvoyant", short=0.0, changes=0.0, starts=0.0, doubled=0.0, hours=hours, usd=usd
    )
    for quantile in quantiles:
        yield score(f"cuvee {quantile:g}", Foreseeing(needs, days.horizon_s, quantile), days)
    yield score("naive", Naive(needs), days)
    if len(needs.pools) == 1:
        yield score("hpa", QueueDepth(QUEUE_TARGET), days, HPA_LOOK_S)
    yield score("static p99.9", Fixed(days.static()), days)


def fleet_needs(names: tuple[str, ...]) -> FleetNeeds:
    """The needs of chat on pools of the demo, by name, without their limits."""
    folder = shipped.folder()
    loaded = load(folder / "demo.yaml")
    chat = read_trace(shipped.workload("chat"))
    demand = demand_of(chat, loaded, estimator=Estimator())
    pools = tuple(
        replace(pool, min_backends=0, max_backends=None)
        for pool in loaded.pools
        if pool.name in names
    )
    return FleetNeeds(demand, pools)


def scaling_days(
    kind: str, needs: FleetNeeds, *, backends: int, startup_s: float, seed: int
) -> ScalingDays:
    """kind: `made`, `recorded` or `recorded-smooth`. backends: of the mean rate, about."""
    if kind == "made":
        rate = made_days(seed)
    else:
        path = shipped.folder() / "rates" / SHAPE
        rate = recorded_days(path, seed, smooth=kind == "recorded-smooth")
    scaled = rate * (needs.mean_rate_for(backends) / rate.mean())
    return ScalingDays(needs=needs, rate=scaled, startup_s=startup_s, seed=seed)
