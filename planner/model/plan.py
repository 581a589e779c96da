"""What should be: backends per pool, weights per bucket, their cost, and what is proven of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from planner.model.buckets import Buckets

SLACK = 0.005  # by which the low end of a certificate may lie under the target

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved:
    """A bucket, or a part of one, that the plan cannot serve within its SLO, and why."""

    bucket: int
    rate: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleType:
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
    buckets: Buckets
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
    singles: tuple[SingleType, ...] = ()
    switching_usd_per_hour: float = 0.0
    relaxation: Relaxation | None = None
    certificate: Certificate | None = None

    def shares(self) -> Iterator[tuple[int, str, float]]:
        """The slices: (bucket, pool, weight) wherever the weight is not zero."""
        for bucket, row in enumerate(self.weights):
            for pool, weight in zip(self.pools, row, strict=True):
                if weight > 0:
                    yield bucket, pool, weight
