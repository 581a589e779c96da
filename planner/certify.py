"""Whether a plan keeps its promise: played through several times, and what that proves.

A rehearsal is handed in: it plays a plan through with one seed and says how many requests met their
SLO. So this module knows no router, no simulator and no clock. The interval is over seeds, not over
requests: requests of one run queue behind each other and are not independent.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import sqrt

from planner.model import Certificate, Plan

SEEDS = 16
HOPELESS = 0.02  # by which the mean of the first seeds may: then the others are not played
EARLY = 2
# Student's t, two-sided 95 %, by degrees of freedom 1 to 30; the normal's beyond.
T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One rehearsal: how many requests there were, and how many met their SLO."""

    met: int
    requests: int

    @property
    def share(self) -> float:
        return self.met / self.requests if self.requests else 1.0


Rehearse = Callable[[Plan, int], Score]


def certify(
    plan: Plan, rehearse: Rehearse, *, target: float, seeds: Iterable[int] = range(SEEDS)
) -> Certificate:
    """Plays a plan through, one seed after the other; stops early when it cannot hold."""
    scores: list[Score] = []
    for seed in seeds:
        scores.append(rehearse(plan, seed))
        mean = sum(score.share for score in scores) / len(scores)
        if len(scores) >= EARLY and mean < target - HOPELESS:
            break
    shares = [score.share for score in scores]
    mean, half = _interval(shares)
    return Certificate(
        attainment=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        worst=min(shares),
        target=target,
        seeds=len(shares),
        requests=sum(score.requests for score in scores),
    )


def _interval(shares: list[float]) -> tuple[float, float]:
    """Mean and half width of the 95 % interval; one seed alone proves nothing."""
    n = len(shares)
    mean = sum(shares) / n
    if n < 2:
        return mean, 1.0
    variance = sum((share - mean) ** 2 for share in shares) / (n - 1)
    return mean, (T_95[n - 2] if n - 2 < len(T_95) else 1.96) * sqrt(variance / n)
