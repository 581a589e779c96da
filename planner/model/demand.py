"""What arrives: requests per second by bucket, and the actual sizes that fell into each bucket.

Must not know pools, nor what a request costs on one.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from planner.errors import InvalidValue
from planner.model.buckets import Buckets
from planner.sizes import FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Demand:
    """How fast requests arrive by bucket, and the actual sizes that fell into each bucket.

    rate: (B,) requests/s, shed requests included: a plan must not shrink because of what it shed.
    bucket, input_tokens, output_tokens, share: (F,) one row per fine cell of actual size: its
    bucket, its mean size, and its share of the bucket; the shares of a bucket sum to 1. A bucket
    without rows has never been seen. dispersion: (C,) index of dispersion of counts per SLO class
    (1 = Poisson). cached_share: (F,) the share of the input tokens that engines had computed for
    earlier requests (prefix hits), from 0 to 1; without it none.
    Raises InvalidValue for arrays of another shape, for rates that are not finite and ≥ 0, and for
    a cached share outside [0, 1].
    """

    buckets: Buckets
    rate: FloatArray
    bucket: IntArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    share: FloatArray
    dispersion: tuple[float, ...]
    cached_share: FloatArray = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if self.rate.shape != (self.buckets.count,):
            raise InvalidValue(f"rate has shape {self.rate.shape}, not ({self.buckets.count},)")
        if not np.all(np.isfinite(self.rate)) or np.any(self.rate < 0):
            raise InvalidValue("rates must be finite and not negative")
        if len(self.dispersion) != len(self.buckets.classes) or min(self.dispersion) <= 0:
            raise InvalidValue(f"one positive dispersion per SLO class: {self.dispersion}")
        if not self.cached_share.any():  # no hits, also of a demand that got other rows since
            object.__setattr__(self, "cached_share", np.zeros(self.share.shape))
        if self.cached_share.shape != self.share.shape:
            shapes = f"{self.cached_share.shape}, not {self.share.shape}"
            raise InvalidValue(f"cached_share has shape {shapes}")
        if not np.all((self.cached_share >= 0) & (self.cached_share <= 1)):
            raise InvalidValue("cached_share must be from 0 to 1")

    @classmethod
    def none(cls, buckets: Buckets) -> "Demand":
        """The demand before any request: every rate is zero and no bucket has been seen."""
        nothing = np.empty(0)
        return cls(
            buckets=buckets,
            rate=np.zeros(buckets.count),
            bucket=np.empty(0, dtype=np.int64),
            input_tokens=nothing,
            output_tokens=nothing,
            share=nothing,
            dispersion=(1.0,) * len(buckets.classes),
        )

    @classmethod
    def even(cls, buckets: Buckets) -> "Demand":
        """A guess for an unknown demand: one request/s in all, spread evenly over the buckets."""
        return replace(cls.none(buckets), rate=np.full(buckets.count, 1.0 / buckets.count))

    @property
    def total_rate(self) -> float:
        """Requests/s of all buckets."""
        return float(self.rate.sum())

    def scaled_to(self, rate: float) -> "Demand":
        """The same mix at another total rate (requests/s).

        Raises InvalidValue for a rate that is not positive and finite, and without any demand.
        """
        if not 0 < rate < float("inf"):
            raise InvalidValue(f"the rate must be positive and finite: {rate}")
        if self.total_rate == 0:
            raise InvalidValue("no demand to scale: its rate is zero")
        return replace(self, rate=self.rate * (rate / self.total_rate))
