"""Certificates: whether a plan keeps its promises when it is played through several times.

A rehearsal is an argument: it plays a plan through with one seed and tells for each SLO class how
many requests met the SLO. So this module must not know a router, a simulator or a clock.

The confidence interval is over seeds, not over requests: requests of one run queue behind each
other, so they are not independent, and an interval over requests would be far too narrow.
"""

from collections.abc import Callable, Iterable
from math import sqrt

from planner.model.buckets import SloClass
from planner.model.plan import Certificate, Plan
from planner.proof.score import Score

# Four seeds are too few near the cliff: in the prototype a fleet that was accepted on four seeds
# attained 99.2 % on average on fresh ones and 96.4 % on the worst of them.
SEEDS = 16
# A plan is hopeless if after the first seeds its mean is so far below the target. Most fleets that
# a search plays fail like this at once, and every further seed would cost a whole simulation.
HOPELESS = 0.02
EARLY = 2  # seeds before a plan may be called hopeless: one alone may be bad luck
CHOICE = 4  # a plan is chosen by a fourth of the seeds that prove it
# From so many seeds on a plan is hopeless, too, if its whole interval lies below the target.
SURE = 5
# The backlog grows if the whole interval of its growth, from the first half of a play to the
# second, lies above this: less is neither told from chance nor of much use.
GROWTH = 0.05
# Student's t, two-sided 95 %, by degrees of freedom 1 to 30; beyond that the normal's 1.96.
T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


Rehearse = Callable[[Plan, int], tuple[Score, ...]]  # (plan, seed) -> a score for each SLO class


def certify(
    plan: Plan, rehearse: Rehearse, *, seeds: Iterable[int] = range(SEEDS), early: bool = True
) -> Certificate:
    """The certificate of the SLO class that keeps its promise worst. early: as `certificates`."""
    by_class = certificates(plan, rehearse, seeds=seeds, early=early)
    # A class whose certificate does not hold is worse than any that holds, even if its mean is
    # higher: a wide interval is no promise.
    return min(
        by_class,
        key=lambda certificate: (certificate.holds, certificate.low - certificate.target),
    )


def proven(plan: Plan, choose: Rehearse, prove: Rehearse, seeds: int = SEEDS) -> Certificate:
    """The certificate of one plan among many: played twice, so that luck does not choose it.

    A few seeds are played with `choose`. A plan whose mean meets the target there is played with
    `prove` on `seeds` fresh ones, and these make its certificate: the cheapest of many fleets that
    hold once is also the luckiest of many.
    """
    few = max(EARLY, seeds // CHOICE)
    certificate = certify(plan, choose, seeds=range(few))
    if certificate.attainment < certificate.target or certificate.grows:
        return certificate  # it does not hold: its interval reaches below its mean
    return certify(plan, prove, seeds=range(few, few + seeds))


def certificates(
    plan: Plan, rehearse: Rehearse, *, seeds: Iterable[int] = range(SEEDS), early: bool = True
) -> tuple[Certificate, ...]:
    """One certificate for each SLO class, in the order of the first scores.

    Play the plan through once for every seed. early: stop when one of the classes is hopeless.
    """
    scores: dict[SloClass, list[Score]] = {}
    for seed in seeds:
        for score in rehearse(plan, seed):
            scores.setdefault(score.slo_class, []).append(score)
        if early and any(_hopeless(slo_class, played) for slo_class, played in scores.items()):
            break
    return tuple(_certificate(slo_class, played) for slo_class, played in scores.items())


def _hopeless(slo_class: SloClass, scores: list[Score]) -> bool:
    target = slo_class.slo.attainment
    mean, half = _interval([score.share for score in scores])
    if len(scores) >= SURE and mean + half < target:
        return True
    return len(scores) >= EARLY and mean < target - HOPELESS


def _certificate(slo_class: SloClass, scores: list[Score]) -> Certificate:
    # A seed in which the class had no request says nothing about it. A class without any request
    # keeps its promise.
    told = [score for score in scores if score.requests]
    shares = [score.share for score in told] or [1.0] * len(scores)
    mean, half = _interval(shares)
    windows = [score.worst_window for score in told if score.worst_window is not None]
    return Certificate(
        attainment=mean,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        worst=min(shares),
        worst_window=min(windows, default=None),
        grows=_grows(told),
        target=slo_class.slo.attainment,
        seeds=len(shares),
        requests=sum(score.requests for score in scores),
        model=slo_class.model,
        slo_class=slo_class.name,
    )


def _grows(scores: list[Score]) -> bool:
    """Whether more requests are in flight in the second half of the plays than in the first.

    Where requests come faster than they can be served, this shows before any promise is broken.
    """
    halves = [score.backlog for score in scores if score.backlog is not None and score.backlog[0]]
    if len(halves) < EARLY:
        return False
    mean, half = _interval([second / first - 1 for first, second in halves])
    return mean - half > GROWTH


def _interval(shares: list[float]) -> tuple[float, float]:
    """Mean and half width of the 95 % interval; with one seed the half width is 1, no proof."""
    n = len(shares)
    mean = sum(shares) / n
    if n < 2:
        return mean, 1.0
    variance = sum((share - mean) ** 2 for share in shares) / (n - 1)
    return mean, (T_95[n - 2] if n - 2 < len(T_95) else 1.96) * sqrt(variance / n)
