"""What should be: backends per pool, weights per bucket, their cost, and what is proven of them.

Must not know how a plan is found, rehearsed or executed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.model.buckets import Buckets

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved:
    """A bucket, or a part of one, that the plan cannot serve within its SLO, and the reason.

    rate: requests/s that are left. served: they are served all the same, without a promise.
    """

    bucket: int
    rate: float
    reason: str
    served: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleType:
    """The cheapest fleet of one GPU type for the same demand.

    backends: by pool name. certified: whether this fleet was played and holds, or is only what the
    program says. unserved_share: the share of the requests that this fleet cannot serve.
    why: the reason for the first bucket that it cannot serve, `None` if it serves all.
    """

    gpu: str
    usd_per_hour: float
    backends: tuple[tuple[str, int], ...]
    unserved_share: float = 0.0
    why: str | None = None
    certified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """The one limit whose removal helps most, and what the plan costs without it.

    limit: as in `Unserved.reason`. more: what that plan takes beyond the limit (GPUs, $/h,
    backends); `None` where the limit is no count. unserved_rate: requests/s that remain unserved.
    """

    limit: str
    more: float | None
    usd_per_hour: float
    unserved_rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What rehearsals prove of a plan.

    attainment: mean share over the seeds. low, high: its 95 % interval (Student's t). worst: the
    share of the worst seed, worst_window: of the worst minute of any seed (`None`: no minute had
    enough requests). grows: whether the backlog grows while the fleet is played. target: the
    promised share. margin: the fleet was played on engines that much slower, with that much more
    demand. peak: the highest utilisation `(M + κ√V)/y` of any pool under that demand, up to which
    the certificate speaks for the plan. seeds: how many were played; fewer than asked for if the
    first ones were hopeless. requests: counted in all. model, slo_class: the class that the
    certificate is about; of several classes that were played together the worst off.
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
    worst_window: float | None = None
    grows: bool = False
    margin: float = 0.0
    peak: float = 1.0

    @property
    def holds(self) -> bool:
        """Whether the whole interval meets the target, and no backlog grows."""
        return self.low >= self.target and not self.grows


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What should be: backends per pool and the share of each bucket that each pool serves.

    plan_id: eight digits made from counts and weights. objective: "provision" or "assign".
    backends: (P,). weights: (B, P), every row sums to 1, or to 0 where no pool can hold the SLO.
    rate: (B,) requests/s that the plan was made for. load: (P,) mean load in backends; tail: (P,)
    what κ√V adds. seconds: (B, P) backend-seconds per request, `E[1/X]`, and slots: (B, P)
    `E[1/n*]`, the share of a backend that one request in flight occupies; both infinite where the
    SLO cannot hold.
    usd_per_hour: the bill; reserved backends cost nothing more. lower_bound_usd_per_hour: the fluid
    bound, `Σ_b λ_b min_p usd_p E[1/X]`. gap: what the solver left unproven of the integer program,
    relative to its cost. solve_s: seconds that it took. switching_usd_per_hour: the cost of
    changing the running fleet, spread over its horizon.
    unserved: what limits or SLOs leave out. singles: the same demand on every single GPU type, if
    that was computed. relaxation: the limit to lift first, if limits leave demand unserved.
    certificate: what rehearsals prove, if there were any. cached_share: (P,) the share of the
    prompt tokens that the plan sends to each pool of which it expects prefix hits; empty: of none.
    safe_usd_per_hour: of a plan that was found by playing fleets, what the program's own plan for
    the same demand costs.
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
    cached_share: tuple[float, ...] = ()
    safe_usd_per_hour: float | None = None

    @property
    def unserved_share(self) -> float:
        """The share of the requests that the plan leaves unserved; 0 without any demand."""
        rate = float(np.sum(self.rate))  # rounded as `Demand.total_rate` is
        return sum(bucket.rate for bucket in self.unserved) / rate if rate else 0.0

    @property
    def cheapest_single(self) -> SingleType | None:
        """The cheapest fleet of one GPU type that serves all of the demand; `None` if there is
        none, or if that was not computed."""
        whole = [one for one in self.singles if not one.unserved_share]
        return min(whole, key=lambda one: one.usd_per_hour, default=None)

    def shares(self) -> Iterator[tuple[int, str, float]]:
        """The slices of the plan: (bucket, pool, weight) for every weight above zero."""
        for bucket, row in enumerate(self.weights):
            for pool, weight in zip(self.pools, row, strict=True):
                if weight > 0:
                    yield bucket, pool, weight
