"""Limits on a whole fleet: stock, a budget, spare backends, and the fleet that runs now.

`Limits` is data. Beside it stands the arithmetic that needs no solver: the cost of a fleet, the
limits that keep a pool from growing, the spot backends that keep enough of them ready. What
concerns one pool alone (bounds, reserved, spot, zone) is in `Pool`. Must not know demand, shares or
programs.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from planner.errors import InvalidValue
from planner.model.pool import Pool, SharedGpus
from planner.sizes import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """The most GPUs of one type that can be had, in one zone or (`None`) in all zones together.

    Every pool and model draws from it: a backend of `2xA100-80G` takes two of A100-80G.
    """

    gpu: str
    most: int
    zone: str | None = None

    def __post_init__(self) -> None:
        if self.most < 0:
            raise InvalidValue(f"stock of {self}: must not be negative: {self.most}")

    def __str__(self) -> str:
        return self.gpu if self.zone is None else f"{self.gpu} in {self.zone}"

    def taken(self, pool: Pool) -> int:
        """The number of these GPUs that one backend of a pool takes; none of a pool whose GPUs are
        shared, because they are there already."""
        if pool.shared is not None:
            return 0
        return pool.gpus if pool.gpu == self.gpu and self.zone in (None, pool.zone) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits on a plan as a whole; without any by default.

    stock: GPUs that can be had. budget_usd_per_hour: the most that the bill may be; as much demand
    as possible is served within it. survive: backends of any one pool that may fail while every
    pool keeps its SLO. running: (P,) the fleet now; `None`: there is none, and changes are free.
    start_usd, stop_usd: of each backend that differs from it, spread over horizon_h hours, so that
    a change must pay for itself within that time.
    Raises InvalidValue for a limit outside its domain.
    """

    stock: tuple[Stock, ...] = ()
    budget_usd_per_hour: float | None = None
    survive: int = 0
    running: tuple[int, ...] | None = None
    start_usd: float = 0.0
    stop_usd: float = 0.0
    horizon_h: float = 1.0

    def __post_init__(self) -> None:
        budget = self.budget_usd_per_hour
        if budget is not None and not 0 <= budget < float("inf"):
            raise InvalidValue(f"budget_usd_per_hour must be finite and ≥ 0: {budget}")
        if self.survive < 0:
            raise InvalidValue(f"survive must not be negative: {self.survive}")
        if self.running is not None and min(self.running, default=0) < 0:
            raise InvalidValue(f"running: counts must not be negative: {self.running}")
        for name in ("start_usd", "stop_usd"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InvalidValue(f"{name} must be finite and ≥ 0: {getattr(self, name)}")
        if not 0 < self.horizon_h < float("inf"):
            raise InvalidValue(f"horizon_h must be positive and finite: {self.horizon_h}")
        names = [(stock.gpu, stock.zone) for stock in self.stock]
        if len(set(names)) < len(names):
            raise InvalidValue(f"stock: a GPU type is named twice: {names}")

    def check(self, pools: tuple[Pool, ...]) -> None:
        """Raise InvalidValue if no fleet of these pools can be within the limits."""
        if self.running is not None and len(self.running) != len(pools):
            raise InvalidValue(f"running: one count for each of {len(pools)} pools")
        least = np.array([float(pool.min_backends) for pool in pools])
        for limit, use, most in self.uses(pools, least):
            if use > most + 1e-9:  # the bill is a sum of prices, with their rounding
                raise InvalidValue(f"{limit}: min_backends of the pools take {use:g} of {most:g}")

    def uses(
        self, pools: tuple[Pool, ...], backends: FloatArray
    ) -> Iterator[tuple[str, float, float]]:
        """The name of every shared limit, what (P,) counts use of it, and how much there is."""
        for one in self.scarce(pools):
            taken = sum(one.taken(p) * y for p, y in zip(pools, backends, strict=True))
            yield _named(one), float(taken), float(one.most)
        if self.budget_usd_per_hour is not None:
            yield "budget_usd_per_hour", fleet_bill(pools, backends), self.budget_usd_per_hour

    def scarce(self, pools: Iterable[Pool]) -> tuple[Stock | SharedGpus, ...]:
        """What the pools draw from: the stock, and the GPUs that some of them share."""
        return (*self.stock, *shared_groups(pools))

    def switching(self, backends: FloatArray) -> float:
        """$/h of changing the running fleet into (P,) counts, spread over the horizon."""
        if self.running is None:
            return 0.0
        step = backends - np.array(self.running, dtype=float)
        usd = self.start_usd * np.maximum(step, 0) + self.stop_usd * np.maximum(-step, 0)
        return float(usd.sum()) / self.horizon_h


UNLIMITED = Limits()


def shared_groups(pools: Iterable[Pool]) -> tuple[SharedGpus, ...]:
    """The GPUs that these pools share among themselves, each group once."""
    return tuple(dict.fromkeys(pool.shared for pool in pools if pool.shared is not None))


def shared_usd(pools: Iterable[Pool]) -> float:
    """$/h of all GPUs that are shared, whoever is awake on them."""
    return sum(group.usd_per_hour for group in shared_groups(pools))


def _named(scarce: Stock | SharedGpus) -> str:
    return f"stock of {scarce}" if isinstance(scarce, Stock) else str(scarce)


def backend_price(pool: Pool) -> float:
    """$/h of one more backend; for spot with the backfill that stands in while it is away."""
    spot = pool.spot
    return pool.usd_per_hour + (spot.backfill_share * spot.backfill_usd_per_hour if spot else 0.0)


def fleet_bill(pools: tuple[Pool, ...], backends: FloatArray) -> float:
    """$/h of (P,) counts; reserved backends are paid for already, shared GPUs once."""
    return shared_usd(pools) + float(
        sum(
            backend_price(pool) * max(0.0, count - pool.reserved)
            for pool, count in zip(pools, backends.tolist(), strict=True)
        )
    )


def blocking_limits(
    limits: Limits, pools: tuple[Pool, ...], backends: FloatArray, p: int
) -> Iterator[str]:
    """The names of the limits that keep pool p from growing; `max_backends` among them.

    A pool in use grows by one backend. A closed one needs more at once: spare backends, and for
    spot enough that one is ready.
    """
    step = np.zeros(len(pools))
    step[p] = 1.0 if backends[p] else backends_for_ready(pools[p], 1) + limits.survive
    after = backends + step
    bound = pools[p].max_backends
    if bound is not None and after[p] > bound:
        yield "max_backends"
    before = list(limits.uses(pools, backends))
    for (name, use, most), (_, used, _) in zip(limits.uses(pools, after), before, strict=True):
        # A limit that this pool takes nothing of does not block it, even one that is exceeded.
        if use > most + 1e-9 and use > used:
            yield name


def lift_each_limit(
    limits: Limits, pools: tuple[Pool, ...], backends: tuple[int, ...], able: Collection[int]
) -> Iterator[tuple[str, tuple[Pool, ...], Limits]]:
    """Each limit that keeps one of the able pools from growing: its name, and all without it.

    able: numbers of the pools that could serve more demand if they grew.
    """
    counts = np.array(backends, dtype=float)
    names = {p: set(blocking_limits(limits, pools, counts, p)) for p in sorted(able)}
    for p, pool in enumerate(pools):
        if "max_backends" in names.get(p, ()):
            free = replace(pool, max_backends=None)
            yield f"max_backends of {pool.name}", (*pools[:p], free, *pools[p + 1 :]), limits
    used = set().union(*names.values())
    for stock in limits.stock:
        if f"stock of {stock}" in used:
            rest = tuple(other for other in limits.stock if other != stock)
            yield f"stock of {stock}", pools, replace(limits, stock=rest)
    if "budget_usd_per_hour" in used:
        yield "budget_usd_per_hour", pools, replace(limits, budget_usd_per_hour=None)
    if able and limits.survive:
        yield "survive", pools, replace(limits, survive=0)
    if any(pools[p].spot for p in able):
        free_spot = (
            replace(pool, spot=replace(pool.spot, most_share=1.0)) if pool.spot else pool
            for pool in pools
        )
        yield "most_share of spot pools", tuple(free_spot), limits


def backends_for_ready(pool: Pool, ready: int) -> int:
    """Backends to run so that `ready` of them are ready, with a spot pool's confidence."""
    if pool.spot is None:
        return ready
    return spot_backends(ready, pool.spot.away_share, pool.spot.confidence)


@lru_cache(maxsize=65536)
def spot_backends(ready: int, away_share: float, confidence: float) -> int:
    """The least n with `P(Binomial(n, 1 − away_share) ≥ ready) ≥ confidence`.

    SpotHedge (SkyServe, arXiv 2411.01438) keeps `N_extra` spot backends above the target. Here that
    number follows from how often and how long each backend is away, independently of the others;
    `Spot.most_share` is for failures that hit a whole zone at once. Cached, because a search asks
    for the same few numbers for every fleet that it lists.
    """
    if ready == 0 or away_share == 0:
        return ready
    # Doubled, then bisected: for a large away share n is far above `ready`.
    low, high = ready - 1, ready
    while _chance(high, ready, away_share) < confidence:
        low, high = high, 2 * high - ready + 1
    while high - low > 1:
        middle = (low + high) // 2
        if _chance(middle, ready, away_share) < confidence:
            low = middle
        else:
            high = middle
    return high


def _chance(n: int, ready: int, away: float) -> float:
    """P(at most n − ready of n are away).

    From the logarithms of successive terms: the binomial coefficients of thousands of backends are
    beyond a float.
    """
    j = np.arange(1, n - ready + 1)
    steps = np.log((n - j + 1) / j) + np.log(away / (1 - away))
    logs = n * np.log1p(-away) + np.concatenate([[0.0], np.cumsum(steps)])
    return float(np.exp(logs).sum())
