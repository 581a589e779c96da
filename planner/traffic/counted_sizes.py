"""Sizes and times as a Prometheus histogram counts them: numbers by bucket, and an exact sum. Pure.

Only the bucket of a value is known, so what is drawn from one is spread inside the buckets such
that the mean is the exact one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from planner.errors import InvalidValue
from planner.sizes import FloatArray

STEPS = 60  # of a bisection: more than a float tells apart
STEEPEST = 8.0  # the spread inside a bucket is u^γ, γ up to this and down to its inverse
BEYOND = 2.0  # values of the last bucket, which has no upper edge, go up to so many times its lower


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedSizes:
    """A histogram. bounds: (K,) upper edges, ascending, the last infinite. counts: (K,) values in
    each bucket, not those below it. total: their sum. Raises InvalidValue if they do not agree."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float

    def __post_init__(self) -> None:
        if len(self.bounds) != len(self.counts) or not self.bounds or self.bounds[-1] != inf:
            raise InvalidValue("a histogram needs a count for each bound, the last one infinite")
        if any(count < 0 for count in self.counts) or self.total < 0:
            raise InvalidValue("the counts of a histogram are not negative")

    @classmethod
    def of(cls, below: Mapping[float, float], total: float) -> "CountedSizes":
        """Of numbers of values up to each bound, as Prometheus has them."""
        bounds = tuple(sorted(below))
        before = 0.0
        counts = []
        for bound in bounds:
            counts.append(below[bound] - before)
            before = below[bound]
        return cls(bounds=bounds, counts=tuple(counts), total=total)

    @property
    def number(self) -> float:
        """How many values were counted."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Of all values; `None` of none."""
        return self.total / self.number if self.number else None

    def minus(self, before: "CountedSizes") -> "CountedSizes":
        """What was counted since another moment; all of it where the engine began anew."""
        if before.bounds != self.bounds or before.number > self.number:
            return self
        counts = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        if min(counts) < 0 or self.total < before.total:
            return self
        return CountedSizes(
            bounds=self.bounds, counts=tuple(counts), total=self.total - before.total
        )

    def plus(self, other: "CountedSizes") -> "CountedSizes":
        """Both together. What has other bounds is counted at the bound above."""
        bounds = sorted({*self.bounds, *other.bounds})
        counts = dict.fromkeys(bounds, 0.0)
        for one in (self, other):
            for bound, count in zip(one.bounds, one.counts, strict=True):
                counts[bound] += count
        return CountedSizes(
            bounds=tuple(bounds), counts=tuple(counts.values()), total=self.total + other.total
        )

    def quantile(self, share: float) -> float | None:
        """The upper edge of the bucket in which this share of the values is reached; `None` of no
        values, and where it is in the last bucket, which has no edge."""
        reached, needed = 0.0, share * self.number
        for bound, count in zip(self.bounds, self.counts, strict=True):
            reached += count
            if reached >= needed and self.number:
                return bound if isfinite(bound) else None
        return None

    def drawn(self, number: int) -> FloatArray:
        """(number,) values, ascending, at equal distances of probability, with the exact mean as
        far as the buckets allow it. Raises InvalidValue of none."""
        if not self.number:
            raise InvalidValue("nothing was counted")
        share = (np.arange(number) + 0.5) / number
        reached = np.cumsum(self.counts) / self.number
        bucket = np.minimum(np.searchsorted(reached, share), len(self.bounds) - 1)
        first = np.concatenate(([0.0], reached[:-1]))
        width = np.maximum(np.array(self.counts) / self.number, 1e-12)
        place = np.clip((share - first[bucket]) / width[bucket], 0.0, 1.0)
        low, high = self._edges()
        return self._tilted(low[bucket], high[bucket], place)

    def _edges(self) -> tuple[FloatArray, FloatArray]:
        """(K,) the lower and the upper edges between which values are drawn."""
        finite = [bound for bound in self.bounds if isfinite(bound)]
        high = np.array([*finite, BEYOND * finite[-1] if finite else 2.0 * (self.mean or 1.0)])
        low = np.concatenate(([0.0], high[:-1]))
        return low, high

    def _tilted(self, low: FloatArray, high: FloatArray, place: FloatArray) -> FloatArray:
        """Values at these places of their buckets, all tilted to one side, so that the mean is the
        exact one; by bisection, since the mean falls with the tilt."""
        mean = self.mean or 0.0
        small, large = -np.log(STEEPEST), np.log(STEEPEST)
        for _ in range(STEPS):
            tilt = (small + large) / 2
            values = low + (high - low) * place ** np.exp(tilt)
            if values.mean() > mean:
                small = tilt
            else:
                large = tilt
        return np.asarray(low + (high - low) * place ** np.exp((small + large) / 2))
