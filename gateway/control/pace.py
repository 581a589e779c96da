"""How fast engines are beside their profiles, from the requests that ended. No I/O, no clock.

The pace of a backend is the time that requests really stayed in it over the time that the profile
expects at the load and the sizes that were there: at 1.2 all takes a fifth longer. Each request
counts less with time. A pool's pace is that of the backends near its median, so that one slow
backend is told from a slow pool.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from gateway.telemetry.stats_schema import Stay
from planner.engine.profiles import Profile
from planner.engine.stay import Stays, expected_s
from planner.model.pool import Pool
from planner.sizes import FloatArray

HALF_LIFE_S = 75.0  # after five minutes what was before counts one sixteenth
FORGOTTEN_S = 10 * HALF_LIFE_S
KEPT = 512  # requests of each backend
# Between two of them: a busy backend ends hundreds within seconds, which all met the same burst.
GAP_S = 0.25
LEAST = 12.0  # requests, each by its age, below which a pace is not known
NEAR = 1.15  # backends of a pool whose paces lie within this factor of their median are alike
WATCHED_S = 60.0  # the first requests that end are short ones, beside few others
CLIP = 1.5  # a stay that lies further from the median by this factor counts as one at it
LOWEST, HIGHEST = 0.5, 3.0  # beyond these it is another engine, and not a slower one
# A slower pace is believed at once, a faster one when it was seen for so long: while the sizes
# change, requests have others beside them than the mean says, and look up to 20 % too fast.
FASTER_S = 600.0
CLOCK_S = 0.001  # the step of the loop's clock: an engine that is a double answers within it
STEP = 0.01  # smaller changes do not change the profiles that are planned with
OUTPACED = 1.10  # a plan is made anew when a pool's pace has changed by more since it was made
ALARM, RETURN = 1.15, 1.10  # a pool departs from its profile beyond the first, until the second
SLOW, RECOVERED = 1.25, 1.15  # the same for a backend beside its pool
FADE_S = 3600.0  # half-life of the pace of a pool that gets no requests: engines are repaired


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPace:
    """What is known of one pool.

    pace: measured over expected time, within [0.5, 3]; `None`: not known. requests: that it comes
    from, each by its age. backends: paces by the name of the backend, where known. slow: names of
    those that are slower than the pool.
    """

    pool: str
    pace: float | None
    requests: float
    backends: Mapping[str, float]
    slow: tuple[str, ...] = ()

    def figures(self) -> dict[str, object]:
        """All of it for a JSON object, rounded."""
        return {
            "pool": self.pool,
            "pace": None if self.pace is None else round(self.pace, 3),
            "requests": round(self.requests),
            "backends": {name: round(pace, 3) for name, pace in self.backends.items()},
            "slow": self.slow,
        }


class StayLog:
    """The last stays of one backend, at most `KEPT`."""

    def __init__(self) -> None:
        # Columns: seconds, in flight, input, cached and output tokens, time of the end.
        self._rows = np.zeros((KEPT, 6))
        self._count = 0
        self._next_s = -math.inf

    def add(self, stay: Stay, now_s: float) -> None:
        """Add a stay, unless another has just been; the oldest one makes room."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + GAP_S
        self._rows[self._count % KEPT] = (*stay[2:], now_s)
        self._count += 1

    def since(self, begin_s: float) -> FloatArray:
        """(N, 6) the stays that ended later than that, in no order."""
        rows = self._rows[: min(self._count, KEPT)]
        return np.asarray(rows[rows[:, 5] > begin_s])


class PoolWatch:
    """The stays of one pool, and what was said of it.

    first_s: when its first request ended. factor: the pace that plans use, `None` if none was ever
    known; corrected: the profile at it. known, known_s: the pace that was measured last, and when.
    settled: the pace that the plan in force was made with. departs: whether the pool was reported
    to differ from its profile. slow: the backends that were reported as slow.
    """

    def __init__(self, pool: Pool) -> None:
        self.profile = pool.profile
        self.logs: dict[str, StayLog] = {}
        self.first_s: float | None = None
        self.factor: float | None = None
        self.corrected: Profile = pool.profile
        self.known = 1.0
        self.known_s = 0.0
        self.settled = 1.0
        self.departs = False
        self.slow: tuple[str, ...] = ()
        self._seen: list[tuple[float, float]] = []

    def believed(self, pace: float, now_s: float) -> float:
        """The pace to plan with, after one that was measured just now: below 1 the slowest of the
        last `FASTER_S`."""
        self._seen = [one for one in self._seen if one[0] > now_s - FASTER_S]
        long = bool(self._seen) and self._seen[0][0] < now_s - 0.75 * FASTER_S
        self._seen.append((now_s, pace))
        if pace >= 1.0:
            return pace
        return min(1.0, max(seen for _, seen in self._seen)) if long else 1.0

    def use(self, factor: float) -> None:
        """Plan with this pace from now on, unless that makes no difference."""
        if self.factor is not None and abs(factor / self.factor - 1) < STEP:
            return
        self.factor, self.corrected = factor, self.profile.slowed(factor)


class Paces:
    """The paces of all pools of one gateway. Times are seconds on one monotonic clock."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._watches: dict[str, PoolWatch] = {}
        self._found: tuple[PoolPace, ...] = ()
        self.configure(pools)

    def __repr__(self) -> str:
        return f"<Paces {', '.join(f'{f.pool} {f.pace}' for f in self._found)}>"

    def configure(self, pools: Sequence[Pool]) -> None:
        """Watch these pools from now on. A pool that keeps its profile keeps what is known."""
        before = self._watches
        self._watches = {
            pool.name: before[pool.name]
            if pool.name in before and before[pool.name].profile == pool.profile
            else PoolWatch(pool)
            for pool in pools
        }

    def add(self, stays: Iterable[Stay], now_s: float) -> None:
        """Add requests that have ended just now; those of unknown pools are dropped."""
        for stay in stays:
            watch = self._watches.get(stay[0])
            if watch is not None:
                watch.first_s = now_s if watch.first_s is None else watch.first_s
                watch.logs.setdefault(stay[1], StayLog()).add(stay, now_s)

    def keep(self, backends: Iterable[str]) -> None:
        """Forget all backends but these: they left the fleet."""
        names = set(backends)
        for watch in self._watches.values():
            watch.logs = {name: log for name, log in watch.logs.items() if name in names}

    def corrected(self, pools: Sequence[Pool]) -> tuple[Pool, ...]:
        """The pools with their profiles at the pace of the last review; those without a known pace
        as they are, and those that have another profile than the one that is watched."""
        return tuple(
            replace(pool, profile=watch.corrected)
            if (watch := self._watches.get(pool.name)) is not None
            and watch.factor is not None
            and watch.profile == pool.profile
            else pool
            for pool in pools
        )

    @property
    def outpaced(self) -> bool:
        """Whether the plan in force was made for another pace than that of the last review."""
        return any(
            abs(math.log((watch.factor or 1.0) / watch.settled)) > math.log(OUTPACED)
            for watch in self._watches.values()
        )

    def settle(self) -> None:
        """Note that the plan in force was made with the paces of the last review."""
        for watch in self._watches.values():
            watch.settled = watch.factor or 1.0

    @property
    def found(self) -> tuple[PoolPace, ...]:
        """What the last review found, by pool."""
        return self._found

    def review(self, now_s: float) -> list[str]:
        """Measure all paces anew; return what has to be said, a line for each pool or backend that
        departs or returns."""
        self._found = tuple(measured(n, w, now_s) for n, w in self._watches.items())
        said: list[str] = []
        for found in self._found:
            watch = self._watches[found.pool]
            if found.pace is not None:
                watch.known, watch.known_s = found.pace, now_s
                watch.use(watch.believed(found.pace, now_s))
                said += _departure(watch, found.pool, found.pace)
            elif watch.factor is not None:
                watch.use(watch.known**0.5 ** ((now_s - watch.known_s) / FADE_S))
            said += _stragglers(watch, found)
        return said


def measured(name: str, watch: PoolWatch, now_s: float) -> PoolPace:
    """The paces of a pool and of its backends, from the stays that are kept."""
    kept = {backend: log.since(now_s - FORGOTTEN_S) for backend, log in watch.logs.items()}
    rows = np.concatenate([np.empty((0, 6)), *kept.values()])
    # What is not known to be well again stays slow.
    doubted = tuple(backend for backend in watch.slow if backend in kept)
    nothing = PoolPace(pool=name, pace=None, requests=0.0, backends={}, slow=doubted)
    if not len(rows) or watch.first_s is None or now_s - watch.first_s < WATCHED_S:
        return nothing
    weight = 0.5 ** ((now_s - rows[:, 5]) / HALF_LIFE_S)
    seconds, in_flight, inputs, cached, outputs = rows.T[:5]
    seconds = np.maximum(seconds, CLOCK_S)
    stays = Stays(inputs=inputs, outputs=outputs, cached=cached, in_flight=in_flight, weight=weight)
    expected = expected_s(watch.profile, stays)
    backends, counts = {}, []
    ends = np.cumsum([0, *map(len, kept.values())]).tolist()
    for backend, (begin, end) in zip(kept, pairwise(ends), strict=True):
        count = float(weight[begin:end].sum())
        if count >= LEAST:
            backends[backend] = ratio(seconds[begin:end], expected[begin:end], weight[begin:end])
            counts.append(count)
    requests = float(weight.sum())
    if backends:
        pace = centre(np.array(list(backends.values())), np.array(counts))
    elif requests >= LEAST:
        pace = ratio(seconds, expected, weight)
    else:
        return replace(nothing, requests=requests)
    slow = tuple(
        backend
        for backend, own in backends.items()
        if own > pace * (RECOVERED if backend in watch.slow else SLOW)
    )
    return PoolPace(
        pool=name,
        pace=min(max(pace, LOWEST), HIGHEST),
        requests=requests,
        backends=backends,
        slow=slow + tuple(backend for backend in doubted if backend not in backends),
    )


def ratio(seconds: FloatArray, expected: FloatArray, weight: FloatArray) -> float:
    """Measured over expected seconds of (N,) stays: the mean, after those far from the median were
    brought near it. One step towards Huber's estimate: a stalled stream moves it no further than a
    slow one, and unlike a median it has no bias where short stays are late more often."""
    each, share = seconds / expected, weight * expected
    middle = median(each, share)
    near = np.clip(each, middle / CLIP, middle * CLIP)
    return float(np.average(near, weights=share))


def centre(paces: FloatArray, weight: FloatArray) -> float:
    """The pace of a pool from those of (N,) backends: the mean of those that are near the median.
    The mean alone would follow one slow backend, the median alone is less certain."""
    middle = median(paces, weight)
    near = (paces < middle * NEAR) & (paces > middle / NEAR)
    return float(np.average(paces[near], weights=weight[near]))


def median(values: FloatArray, weight: FloatArray) -> float:
    """The lower weighted median of (N,) values."""
    order = np.argsort(values)
    below = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def _departure(watch: PoolWatch, pool: str, pace: float) -> list[str]:
    """What to say of a pool that departs from its profile, or is as it says again."""
    off = math.exp(abs(math.log(pace)))
    if off > ALARM and not watch.departs:
        watch.departs = True
        return [f"pool {pool} takes {pace:.2f} times as long as its profile says"]
    if off < RETURN and watch.departs:
        watch.departs = False
        return [f"pool {pool} is as its profile says again ({pace:.2f} times as long)"]
    return []


def _stragglers(watch: PoolWatch, found: PoolPace) -> list[str]:
    """What to say of backends that are slower than their pool, or no longer are."""
    before, watch.slow = watch.slow, found.slow
    said = [
        f"backend {name} is slow: it takes {own / (found.pace or 1.0):.2f} times as long as its "
        f"pool {found.pool}"
        for name, own in found.backends.items()
        if name in found.slow and name not in before
    ]
    said += [
        f"backend {name} is as fast as its pool {found.pool} again"
        for name in before
        if name not in found.slow and name in found.backends
    ]
    return said
