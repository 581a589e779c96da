"""What can be bought: pools of interchangeable backends, which may be spot instances.

Must not know demand, nor limits that several pools share (`planner.program.limits`).
"""

from dataclasses import dataclass

from planner.engine.profiles import Profile
from planner.errors import InvalidValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """The terms of backends that the provider may take away at any time.

    preemptions_per_hour: of one backend. restart_s: until a lost backend is ready again.
    confidence: the probability with which enough backends are ready. most_share: the largest share
    of its model's requests/s that spot pools of one zone may serve (a pool without a zone is a zone
    of its own). backfill_s: until an on-demand backend stands in for a lost one, at
    backfill_usd_per_hour; `None`: there is no backfill.
    Raises InvalidValue for a term outside its domain.
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

        An alternating renewal process: ready for 1/r on average, then away for L' = restart_s. The
        preemption rate r is per second.
        """
        gap_s = min(self.restart_s, self.restart_s if self.backfill_s is None else self.backfill_s)
        return self._per_cycle(gap_s)

    @property
    def backfill_share(self) -> float:
        """The share of time in which an on-demand backend stands in for a lost one."""
        late = self.restart_s if self.backfill_s is None else self.backfill_s
        return self._per_cycle(max(0.0, self.restart_s - late))

    def _per_cycle(self, seconds: float) -> float:
        """The share of a cycle, ready then away, that so many seconds of it take."""
        rate = self.preemptions_per_hour / 3600
        return rate * seconds / (1 + rate * self.restart_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedGpus:
    """GPUs on which backends of several pools live, of which those that are awake have them.

    gpus: how many there are. usd_per_hour: price of all of them, whoever is awake.
    Raises InvalidValue for fewer than one, or a negative price.
    """

    name: str
    gpus: int
    usd_per_hour: float

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise InvalidValue(f"shared GPUs {self.name}: there must be one at least: {self.gpus}")
        if not 0 <= self.usd_per_hour < float("inf"):
            text = f"usd_per_hour must be finite and ≥ 0: {self.usd_per_hour}"
            raise InvalidValue(f"shared GPUs {self.name}: {text}")

    def __str__(self) -> str:
        return f"shared GPUs {self.name}"

    @property
    def most(self) -> int:
        """GPUs that those that are awake may have."""
        return self.gpus

    def taken(self, pool: "Pool") -> int:
        """GPUs of these that one backend of a pool takes while it is awake."""
        return pool.gpus if pool.shared == self else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Interchangeable backends: one model, one GPU type and count, one price, one profile.

    usd_per_hour: of one backend with all its GPUs. min_backends, max_backends: bounds of every
    plan; `None`: no upper bound. reserved: backends that are paid for already and cost nothing
    more. spot: `None` for backends that are not taken away. zone: for stock by zone and for spot.
    shared: the GPUs that it shares with other pools; its price is then only what decides between
    fleets that cost the same, since the GPUs are paid for by the group.
    Raises InvalidValue, with the name of the pool, for a field outside its domain.
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
    shared: SharedGpus | None = None

    @property
    def gpu(self) -> str:
        """The GPU type of every backend, as prices and stocks name it."""
        return self.profile.gpu

    @property
    def gpus(self) -> int:
        """The number of GPUs of one backend."""
        return self.profile.gpus

    def __post_init__(self) -> None:
        # What may be taken away at any time cannot be paid for in advance.
        if self.reserved < 0 or (self.reserved and self.spot):
            raise InvalidValue(
                f"pool {self.name}: reserved must be ≥ 0, and 0 for spot: {self.reserved}"
            )
        if self.shared is not None and (self.reserved or self.spot):
            raise InvalidValue(f"pool {self.name}: shared GPUs are neither reserved nor spot")
        if not 0 <= self.usd_per_hour < float("inf"):
            raise InvalidValue(f"pool {self.name}: usd_per_hour must be ≥ 0: {self.usd_per_hour}")
        if self.min_backends < 0 or (
            self.max_backends is not None and self.max_backends < self.min_backends
        ):
            raise InvalidValue(
                f"pool {self.name}: 0 ≤ min_backends ≤ max_backends does not hold: "
                f"{self.min_backends}, {self.max_backends}"
            )
