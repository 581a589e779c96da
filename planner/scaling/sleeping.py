"""Engines that sleep as a column of the plan: how many are awake, how many sleep, how many run.

A sleeping engine is back in seconds, a stopped one in minutes. So awake are as many as demand may
need until one that is woken now would be ready; all together are as many as demand may need until
one that is started now would be. Counts are of one pool. Must not know demand, nor how engines are
told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from planner.errors import InvalidValue

HOUR_S = 3600.0
# Of the time after which what is not needed is stopped: after so much of it, it sleeps. A mistake
# costs a waking. Chosen on recorded days of seed 2 (`cuvee scaling --asleep`): a quarter saves more
# and is short more often, the whole the other way round.
REST_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepTerms:
    """What sleep is worth in one pool.

    usd_per_hour: price of one backend that is awake or starts. asleep_usd_per_hour: of one that
    sleeps. most: backends that may sleep. start_h: how long a start takes on average, hours; it is
    paid for.
    Raises InvalidValue for negative numbers.
    """

    usd_per_hour: float
    asleep_usd_per_hour: float
    most: int
    start_h: float

    def __post_init__(self) -> None:
        for name in ("usd_per_hour", "asleep_usd_per_hour", "most", "start_h"):
            if not 0 <= getattr(self, name) < inf:
                raise InvalidValue(f"{name} must be finite and ≥ 0: {getattr(self, name)}")

    @property
    def saves_usd_per_hour(self) -> float:
        """What one backend costs less while it sleeps."""
        return max(0.0, self.usd_per_hour - self.asleep_usd_per_hour)

    @property
    def most_asleep(self) -> int:
        """Backends that are put to sleep at most: none where that saves nothing, because one that
        is awake costs the same and serves."""
        return self.most if self.saves_usd_per_hour > 0 else 0

    @property
    def kept_s(self) -> float:
        """How long one that nobody needs sleeps before it is stopped, seconds: until its sleep has
        cost as much as the start that it may save.

        Who pays for so long pays at most twice what the best choice would have cost (Karlin and
        others, Competitive snoopy caching, 1988). Infinite where sleep costs nothing.
        """
        if not self.most_asleep:
            return 0.0
        if not self.asleep_usd_per_hour:
            return inf
        return HOUR_S * self.start_h * self.usd_per_hour / self.asleep_usd_per_hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """What a pool is to have: awake, and asleep beside them."""

    awake: int
    asleep: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.awake + self.asleep

    def up(self, asleep: int) -> int:
        """How many are to be awake, or on their way, while so many sleep: a backend that is to
        sleep has to be started first."""
        return self.total - min(asleep, self.asleep)


def divided(total: int, awake: int, most_asleep: int) -> Division:
    """Divide what is needed until a start would be over. awake: what is needed until a waking
    would be. No more sleep than may; so with 0 all are awake."""
    asleep = max(0, min(most_asleep, total - awake))
    return Division(awake=max(0, total) - asleep, asleep=asleep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What a pool has: serving, woken and not ready, started and not ready; asleep, with those that
    are on their way there."""

    serving: int
    waking: int
    starting: int
    asleep: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.serving + self.waking + self.starting + self.asleep


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepSteps:
    """What is to be done now: backends to wake, to put to sleep, and to stop while they sleep. What
    is to be started, or stopped while it is awake, follows from `Division.up`."""

    wake: int = 0
    rest: int = 0
    stop: int = 0


def steps(aim: Division, present: Present) -> SleepSteps:
    """What brings what is there nearer to what is to be. One that starts is no help until a waking
    would be over, so sleepers are woken beside it."""
    lack = aim.awake - present.serving - present.waking
    wake = max(0, min(present.asleep, lack))
    asleep = present.asleep - wake
    return SleepSteps(
        wake=wake,
        rest=max(0, min(present.serving - aim.awake, aim.asleep - asleep)),
        stop=max(0, min(asleep - aim.asleep, present.total - aim.total)),
    )


def within_shared(
    awake: Mapping[str, int], needed: Mapping[str, int], gpus: Mapping[str, int], most: int
) -> dict[str, int]:
    """As many of each pool as fit on GPUs that the pools share; what no pool needs goes first, then
    what has the most. awake: that a policy wants, needed: of the plan, gpus: that one backend
    takes; by pool. most: GPUs that there are."""
    made = dict(awake)
    while made and sum(gpus[name] * count for name, count in made.items()) > most:
        last = max(made, key=lambda name: (made[name] - needed[name], made[name], name))
        if not made[last]:
            last = max(made, key=lambda name: made[name])
        made[last] -= 1
    return made


class SleepRent:
    """For how long a pool has had more than it needs, so that the surplus sleeps for as long as
    that is cheaper than to start it again."""

    def __init__(self) -> None:
        self._since_s: float | None = None

    def __repr__(self) -> str:
        return f"<SleepRent since {self._since_s}>"

    def keep(self, now_s: float, wanted: Division, have: int, terms: SleepTerms) -> Division:
        """What to have, of what is wanted and of what is there. now_s: on any clock that goes on
        evenly."""
        if wanted.total >= have or not terms.most_asleep:
            self._since_s = None
            return wanted
        self._since_s = now_s if self._since_s is None else self._since_s
        if now_s - self._since_s >= terms.kept_s:
            return wanted
        kept = min(terms.most_asleep, have - wanted.awake)
        return Division(awake=wanted.awake, asleep=max(wanted.asleep, kept))


def fleet_usd(
    backends: int,
    asleep: int,
    *,
    usd_per_hour: float,
    asleep_usd_per_hour: float,
    reserved: int = 0,
) -> float:
    """$/h of a pool's backends. asleep: how many of them sleep. reserved: that are paid for
    already; as far as there are others, it is those that sleep."""
    paid = max(0, backends - reserved)
    resting = min(asleep, paid)
    return usd_per_hour * (paid - resting) + min(asleep_usd_per_hour, usd_per_hour) * resting
