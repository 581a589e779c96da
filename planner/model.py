"""The frozen values that planning is about: promises, pools, demand and plans.

Index letters: `b` bucket, `p` pool, `c` SLO class, `f` fine cell of actual size. Everything here is
data; the arithmetic on it lives in `headroom` and `solve`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from planner.errors import InvalidValue
from planner.profiles import Profile
from planner.sizes import FloatArray, Grid, IntArray
from planner.slo import Slo

DEFAULT = "default"  # the SLO class of a request that names none


@dataclass(frozen=True, slots=True, kw_only=True)
class SloClass:
    """The promise made to one kind of request for one model."""

    model: str
    slo: Slo
    name: str = DEFAULT

    def __str__(self) -> str:
        return self.model if self.name == DEFAULT else f"{self.model} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """All buckets: SLO class × cell of the estimated size, numbered `class * grid.cells + cell`."""

    classes: tuple[SloClass, ...]
    grid: Grid

    @property
    def buckets(self) -> int:
        return len(self.classes) * self.grid.cells

    def class_of(self, bucket: int) -> SloClass:
        return self.classes[bucket // self.grid.cells]

    def describe(self, bucket: int) -> str:
        """A bucket in words: `llama-3-8b in 256–512 out 64–128`; with its class if not default."""
        (i0, i1), (o0, o1) = self.grid.bounds(bucket % self.grid.cells)
        return f"{self.class_of(bucket)} in {i0}–{i1} out {o0}–{o1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Backends that may be taken away at any time.

    preemptions_per_hour: of one backend. restart_s: until a lost one is ready again. confidence:
    with which enough are ready. most_share: of its model's requests/s, the most that spot pools of
    one zone may serve (a pool without a zone is a zone of its own). backfill_s: until an
    on-demand backend stands in for a lost one, at backfill_usd_per_hour; `None`: none does.
    """

    preemptions_per_hour: float
    restart_s: float
    confidence: float = 0.99
    most_share: float = 0.5
    backfill_usd_per_hour: float = 0.0
    backfill_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("preemptions_per_hour", "restart_s", "backfill_usd_per_hour"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InvalidValue(f"spot: {name} must be finite and ≥ 0: {getattr(self, name)}")
        if not 0.5 <= self.confidence < 1:
            raise InvalidValue(f"spot: confidence must be in [0.5, 1): {self.confidence}")
        if not 0 <= self.most_share <= 1:
            raise InvalidValue(f"spot: most_share must be in [0, 1]: {self.most_share}")
        if self.backfill_s is not None and not 0 <= self.backfill_s < float("inf"):
            raise InvalidValue(f"spot: backfill_s must be finite and ≥ 0: {self.backfill_s}")

    @property
    def away_share(self) -> float:
        """The share of time without a backend: `r·L/(1 + r·L')`, L until backfill or restart.

        A renewal process: up for 1/r on average, then away for L' = restart_s.
        """
        gap_s = min(self.restart_s, self.restart_s if self.backfill_s is None else self.backfill_s)
        return self._per_cycle(gap_s)

    @property
    def backfill_share(self) -> float:
        """The share of time that an on-demand backend stands in."""
        late = self.restart_s if self.backfill_s is None else self.backfill_s
        return self._per_cycle(max(0.0, self.restart_s - late))

    def _per_cycle(self, seconds: float) -> float:
        rate = self.preemptions_per_hour / 3600
        return rate * seconds / (1 + rate * self.restart_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Interchangeable backends: one model, one GPU type and count, one price, one profile.

    usd_per_hour: of one backend (all its GPUs). min_backends, max_backends: bounds of the plan,
    `None`: no upper bound. reserved: so many backends cost nothing more, they are paid for. spot:
    `None` for backends that stay. zone: where they are, for stock by zone and for spot.
    """

    name: str
    model: str
    profile: Profile
    usd_per_hour: float
    min_backends: int = 0
    max_backends: int | None = None
    reserved: int = 0
    spot: Spot | None = None
    zone: str | None = None

    def __post_init__(self) -> None:
        if self.reserved < 0 or (self.reserved and self.spot):
            raise InvalidValue(
                f"pool {self.name}: reserved must be ≥ 0, and 0 for spot: {self.reserved}"
            )
        if not 0 <= self.usd_per_hour < float("inf"):
            raise InvalidValue(f"pool {self.name}: usd_per_hour must be ≥ 0: {self.usd_per_hour}")
        if self.min_backends < 0 or (
            self.max_backends is not None and self.max_backends < self.min_backends
        ):
            raise InvalidValue(
                f"pool {self.name}: 0 ≤ min_backends ≤ max_backends does not hold: "
                f"{self.min_backends}, {self.max_backends}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Demand:
    """How fast requests arrive by bucket, and the actual sizes that fell into each bucket.

    rate: (B,) requests/s, shed ones included. bucket, input_tokens, output_tokens, share: (F,) one
    row per fine cell of actual size: its bucket, its mean size, and its share of the bucket; the
    shares of a bucket sum to 1. A bucket without rows has never been seen. dispersion: (C,) index
    of dispersion of counts per SLO class (1 = Poisson).
    """

    space: Space
    rate: FloatArray
    bucket: IntArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    share: FloatArray
    dispersion: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.rate.shape != (self.space.buckets,):
            raise InvalidValue(f"rate has shape {self.rate.shape}, not ({self.space.buckets},)")
        if not np.all(np.isfinite(self.rate)) or np.any(self.rate < 0):
            raise InvalidValue("rates must be finite and not negative")
        if len(self.dispersion) != len(self.space.classes) or min(self.dispersion) <= 0:
            raise InvalidValue(f"one positive dispersion per SLO class: {self.dispersion}")

    @classmethod
    def none(cls, space: Space) -> "Demand":
        """No demand known: every rate is zero and no bucket has been seen."""
        nothing = np.empty(0)
        return cls(
            space=space,
            rate=np.zeros(space.buckets),
            bucket=np.empty(0, dtype=np.int64),
            input_tokens=nothing,
            output_tokens=nothing,
            share=nothing,
            dispersion=(1.0,) * len(space.classes),
        )

    @classmethod
    def even(cls, space: Space) -> "Demand":
        """A guess where nothing is known: one request/s, every bucket as frequent as any other."""
        return replace(cls.none(space), rate=np.full(space.buckets, 1.0 / space.buckets))

    @property
    def total_rate(self) -> float:
        return float(self.rate.sum())

    def scaled_to(self, rate: float) -> "Demand":
        """The same mix at another total rate (requests/s)."""
        if not 0 < rate < float("inf"):
            raise InvalidValue(f"the rate must be positive and finite: {rate}")
        if self.total_rate == 0:
            raise InvalidValue("no demand to scale: its rate is zero")
        return Demand(
            space=self.space,
            rate=self.rate * (rate / self.total_rate),
            bucket=self.bucket,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            share=self.share,
            dispersion=self.dispersion,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved:
    """A bucket, or a part of one, that the plan cannot serve within its SLO, and why."""

    bucket: int
    rate: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """The cheapest fleet of one GPU type for the same demand, and the share of it left unserved.

    backends: by pool name. why: what stands in the way of the first bucket that it cannot serve.
    """

    gpu: str
    usd_per_hour: float
    backends: tuple[tuple[str, int], ...]
    unserved_share: float = 0.0
    why: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """The one limit that would help most if it gave way, and what the plan would cost then.

    limit: as in `Unserved.reason`. more: what that plan takes beyond it (GPUs, $/h, backends);
    `None` where that is no count. unserved_rate: requests/s that remain unserved all the same.
    """

    limit: str
    more: float | None
    usd_per_hour: float
    unserved_rate: float = 0.0


SLACK = 0.005  # by which the low end of a certificate may lie under the target


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What rehearsals say of a plan.

    attainment: mean share over the seeds; low, high: its 95 % interval (Student's t); worst: the
    worst seed's. seeds: played; fewer than asked for when the first ones were hopeless. model,
    slo_class: whose, where several were played together: those of the class that is worst off.
    """

    attainment: float
    low: float
    high: float
    worst: float
    target: float
    seeds: int
    requests: int
    model: str | None = None
    slo_class: str | None = None

    @property
    def holds(self) -> bool:
        """The mean meets the target and the interval does not reach far below it."""
        return self.attainment >= self.target and self.low >= self.target - SLACK


Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What should be: backends per pool and the share of each bucket that each pool serves.

    backends: (P,). weights: (B, P), every row sums to 1, or to 0 where no pool can hold the SLO.
    rate: (B,) the demand it was made for. load: (P,) mean load in backends; tail: (P,) what κ√V
    adds. seconds: (B, P) backend-seconds per request, `E[1/X]`, and slots: (B, P) `E[1/n*]`, the
    share of a backend that one request in flight occupies; both infinite where the SLO cannot hold.
    lower_bound_usd_per_hour: fluid bound, `Σ_b λ_b min_p usd_p E[1/X]`. gap: what the solver left
    unproven of the integer program, relative to its cost. usd_per_hour: the bill; what is reserved
    costs nothing more. switching_usd_per_hour: what changing the running fleet costs, spread over
    its horizon. relaxation: which limit to lift first if they leave demand unserved. certificate:
    what rehearsals say of it, where there were any.
    """

    plan_id: str
    objective: str
    space: Space
    pools: tuple[str, ...]
    backends: tuple[int, ...]
    weights: Matrix
    rate: tuple[float, ...]
    seconds: Matrix
    slots: Matrix
    load: tuple[float, ...]
    tail: tuple[float, ...]
    usd_per_hour: float
    lower_bound_usd_per_hour: float
    gap: float
    solve_s: float
    unserved: tuple[Unserved, ...] = ()
    singles: tuple[Single, ...] = ()
    switching_usd_per_hour: float = 0.0
    relaxation: Relaxation | None = None
    certificate: Certificate | None = None

    def shares(self) -> Iterator[tuple[int, str, float]]:
        """The slices: (bucket, pool, weight) wherever the weight is not zero."""
        for bucket, row in enumerate(self.weights):
            for pool, weight in zip(self.pools, row, strict=True):
                if weight > 0:
                    yield bucket, pool, weight
