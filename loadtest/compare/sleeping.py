"""Our autoscaler with engines that may sleep, over the same days: what they save, and who is short.

One pool. Looks come every 15 s, as the gateway's do, because a waking is over before a minute is.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from loadtest.compare.needs import FleetNeeds
from loadtest.compare.rates import DAY
from loadtest.compare.scaling import LATE, LOOK_S, SPREAD, ScalingDays
from planner.scaling.forecast import SeasonalForecast
from planner.scaling.policy import DOWN_S, SMALL_DOWN_S, Hysteresis
from planner.scaling.quantile import demand_band
from planner.scaling.sleeping import (
    REST_SHARE,
    Division,
    Present,
    SleepRent,
    SleepTerms,
    divided,
    steps,
)

EVERY_S = 15.0
EVERY = round(60 / EVERY_S)  # looks in a minute


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepScore:
    """What came of so many that may sleep. price: of one that sleeps, over one that is awake.
    short: share of the looks at which those that served were less than required. starts, wakings: a
    day. awake_h, asleep_h: hours of backends, starts and wakings with those awake. usd: of all."""

    most: int
    price: float
    short: float
    starts: float
    wakings: float
    awake_h: float
    asleep_h: float
    usd: float


class SleepingFleet:
    """The backends of one pool: they start, serve, sleep, wake and go. Counts what is paid.

    Start-up and wake-up times are log-normal around their medians.
    """

    def __init__(self, backends: int, startup_s: float, wake_s: float, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._startup_s, self._wake_s = startup_s, wake_s
        self._starting: list[float] = []  # when they are ready
        self._waking: list[float] = []
        self.serving, self.asleep = backends, 0
        self.awake_s = self.asleep_s = 0.0
        self.starts = self.wakings = 0

    @property
    def present(self) -> Present:
        """What there is."""
        return Present(
            serving=self.serving,
            waking=len(self._waking),
            starting=len(self._starting),
            asleep=self.asleep,
        )

    def pass_to(self, now_s: float, step_s: float) -> None:
        """A step ended at this moment: pay for it, and take in those that became ready."""
        self.awake_s += step_s * (self.serving + len(self._starting) + len(self._waking))
        self.asleep_s += step_s * self.asleep
        for coming in (self._starting, self._waking):
            late = [at_s for at_s in coming if at_s > now_s]
            self.serving += len(coming) - len(late)
            coming[:] = late

    def follow(self, aim: Division, now_s: float) -> None:
        """Do what the gateway does at a look."""
        do = steps(aim, self.present)
        self.asleep += do.rest - do.wake - do.stop
        self.serving -= do.rest
        self._waking += [now_s + self._took(self._wake_s) for _ in range(do.wake)]
        self.wakings += do.wake
        present = self.present
        more = aim.up(self.asleep) - (present.total - present.asleep)
        self._starting += [now_s + self._took(self._startup_s) for _ in range(more)]
        self.starts += max(0, more)
        for _ in range(-more):  # those that are still coming go first
            if self._starting:
                self._starting.pop()
            else:
                self.serving -= 1

    def _took(self, median_s: float) -> float:
        return median_s * exp(self._rng.normal(0.0, SPREAD))


class Dividing:
    """Ours, with two horizons: as `gateway.actuation` has it, of one pool."""

    def __init__(
        self,
        needs: FleetNeeds,
        days: ScalingDays,
        wake_s: float,
        quantile: float,
        terms: SleepTerms,
    ) -> None:
        self._needs, self._quantile, self._terms = needs, quantile, terms
        self._horizon_s = days.horizon_s
        self._wake_s = wake_s * exp(LATE * SPREAD) + EVERY_S + LOOK_S
        self._forecast = SeasonalForecast(1)
        self._policy = Hysteresis(1)
        down_s = REST_SHARE * DOWN_S
        self._awake_policy = Hysteresis(
            1, down_s=down_s, small_down_s=REST_SHARE * SMALL_DOWN_S, hold_s=down_s
        )
        self._rent = SleepRent()

    def decide(self, now_s: float, rate: float, there: Present) -> Division:
        """What to have. rate: requests/s of the last minute."""
        self._forecast.observe(now_s, np.array([rate]))
        pending = there.waking + there.starting
        total = self._count(
            self._policy, now_s, self._horizon_s, there.serving + there.asleep, pending
        )
        if not self._terms.most_asleep:
            return Division(awake=total, asleep=0)
        awake = self._count(self._awake_policy, now_s, self._wake_s, there.serving, there.waking)
        wanted = divided(total, min(awake, total), self._terms.most_asleep)
        return self._rent.keep(now_s, wanted, there.total, self._terms)

    def _count(
        self, policy: Hysteresis, now_s: float, horizon_s: float, ready: int, pending: int
    ) -> int:
        band = demand_band(self._forecast, now_s, horizon_s, self._quantile)
        upper, lower = (float(rates.sum()) for rates in band)
        (needed,), have = self._needs.needed(upper), ready + pending
        holds = self._needs.holds(lower, (have,))
        more = [max(needed, have)]
        (count,) = policy.decide(now_s, [needed], [ready], [pending], holds=holds, more=more)
        return count


def sleep_scores(
    days: ScalingDays, mosts: Sequence[int], *, price: float, wake_s: float, quantile: float
) -> Iterator[SleepScore]:
    """One for each number of backends that may sleep."""
    for most in mosts:
        yield sleep_score(days, most=most, price=price, wake_s=wake_s, quantile=quantile)


def sleep_score(
    days: ScalingDays, *, most: int, price: float, wake_s: float, quantile: float
) -> SleepScore:
    """Let ours look every 15 s over all the days. most: backends that may sleep, at this price over
    that of one that is awake."""
    needs, rng = days.needs, np.random.default_rng(days.seed)
    usd = needs.pools[0].usd_per_hour
    terms = SleepTerms(
        usd_per_hour=usd,
        asleep_usd_per_hour=price * usd,
        most=most,
        start_h=days.startup_s * exp(SPREAD**2 / 2) / 3600,
    )
    (first,) = needs.needed(float(days.rate[0]))
    fleet = SleepingFleet(first, days.startup_s, wake_s, days.seed)
    ours = Dividing(needs, days, wake_s, quantile, terms)
    seen: deque[float] = deque(maxlen=EVERY)
    short, looks = 0, len(days.rate) * EVERY
    for step in range(looks):
        rate, now_s = float(days.rate[step // EVERY]), (step + 1) * EVERY_S
        short += not needs.holds(rate, (fleet.serving,))
        fleet.pass_to(now_s, EVERY_S)
        seen.append(float(rng.poisson(rate * EVERY_S)))
        counted = sum(seen) / (EVERY_S * len(seen))
        fleet.follow(ours.decide(now_s, counted, fleet.present), now_s)
    awake_h, asleep_h = fleet.awake_s / 3600, fleet.asleep_s / 3600
    number = len(days.rate) / DAY
    return SleepScore(
        most=most,
        price=price,
        short=short / looks,
        starts=fleet.starts / number,
        wakings=fleet.wakings / number,
        awake_h=awake_h,
        asleep_h=asleep_h,
        usd=usd * (awake_h + price * asleep_h),
    )
