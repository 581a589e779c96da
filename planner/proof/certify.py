"""Whether a plan keeps its promises: played through several times, and what that proves.

A rehearsal is handed in: it plays a plan through with one seed and says, class by class, how many
requests met their SLO. So this module knows no router, no simulator and no clock. The interval is
over seeds, not over requests: requests of one run queue behind each other and are not independent.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import sqrt

from planner.model.buckets import SloClass
from planner.model.plan import Certificate, Plan

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
    """One class in one rehearsal: how many requests there were, and how many met their SLO."""

    kind: SloClass
    met: int
    requests: int

    @property
    def share(self) -> float:
        return self.met / self.requests if self.requests else 1.0


Rehearse = Callable[[Plan, int], tuple[Score, ...]]  # one score per class, one class at least


def certify(plan: Plan, rehearse: Rehearse, *, seeds: Iterable[int] = range(SEEDS)) -> Certificate:
    """The certificate of the class that keeps its promise worst."""
    with_certificate = certificates(plan, rehearse, seeds=seeds)
    return min(
        with_certificate,
        key=lambda certificate: (certificate.holds, certificate.attainment - certificate.target),
    )


def certificates(
    plan: Plan, rehearse: Rehearse, *, seeds: Iterable[int] = range(SEEDS)
) -> tuple[Certificate, ...]:
    """One certificate per class, by class in the order of their scores.

    Plays a plan through, one seed after the other; stops early when one of the classes is hopeless.
    """
    scores: dict[SloClass, list[Score]] = {}
    for seed in seeds:
        for score in rehearse(plan, seed):
            scores.setdefault(score.kind, []).append(score)
        if any(_hopeless(kind, played) for kind, played in scores.items()):
            break
    return tuple(_certificate(kind, played) for kind, played in scores.items())


def _hopeless(kind: SloClass, played: list[Score]) -> bool:
    mean = sum(score.share for score in played) / len(played)
    return len(played) >= EARLY and mean < kind.slo.attainment - HOPELESS


def _certificate(kind: SloClass, played: list[Score]) -> Certificate:
    # A seed in which the class had no request says nothing of it.
    shares = [score.share for score in played if score.requests] or [1.0] * len(played)
    mean, half = _interval(shares)
    return Certificate(
        attainment=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        worst=min(shares),
        target=kind.slo.attainment,
        seeds=len(shares),
        requests=sum(score.requests for score in played),
        model=kind.model,
        slo_class=kind.name,
    )


def _interval(shares: list[float]) -> tuple[float, float]:
    """Mean and half width of the 95 % interval; one seed alone proves nothing."""
    n = len(shares)
    mean = sum(shares) / n
    if n < 2:
        return mean, 1.0
    variance = sum((share - mean) ** 2 for share in shares) / (n - 1)
    return mean, (T_95[n - 2] if n - 2 < len(T_95) else 1.96) * sqrt(variance / n)
