"""The cheapest plan that is certified: a search around several starts. Knows no traffic.

The variance term of the program is safe and therefore a little dear, and with large burstiness it
misjudges types against each other. So fleets near each start (the program's own plan and the best
fleet of every single type) are taken in order of cost, given the shares that even out their load,
and played through; the first that holds is the answer, checked again on fresh seeds because the
cheapest of many is the luckiest of many. Never dearer than any start that may be bought and is
certified itself. Models share no backend, so that fleets are not played whose backends for one of
the models have failed already.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from planner.model.plan import Certificate, Plan
from planner.proof.certify import SEEDS, Rehearse, certify

REACH = 2  # backends by which a fleet may differ from a start in one pool, or
REACH_SHARE = 0.15  # this share of the start's, if that is more
SUM = 2  # beyond the widest reach, by which it may differ in all pools together
OVERLOADED = 2.0  # a peak of (M + κ√V)/y beyond which no fleet was seen to hold
MISFIT = 0.05  # share of requests in buckets without a pool that holds their SLO; more cannot hold
DEARER = 1.5  # how far above starts that do not hold the search goes, and one backend more

Shares = Callable[[tuple[int, ...]], Plan]
ModelFleet = tuple[str, tuple[int, ...]]  # a model, and the backends of its pools


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """The outcome: the plan, what it was certified with, and how many fleets were played.

    certificate.holds is False only if no fleet within reach of any start holds.
    """

    plan: Plan
    certificate: Certificate
    played: int


def refine(
    starts: Sequence[Plan],
    *,
    shares: Shares,
    usd: Sequence[float],
    models: Sequence[str],
    legal: Callable[[tuple[int, ...]], bool],
    rehearse: Rehearse,
    seeds: int = SEEDS,
) -> Refined:
    """Searches for the cheapest certified plan.

    starts: plans over the same pools. shares: the plan of least peak load for (P,) counts. usd,
    models: (P,) per pool. legal: whether (P,) counts may be bought. Seeds 0 to `seeds − 1` choose,
    the next `seeds` check again.
    """
    known = _certified(starts, rehearse, seeds)
    holding = [
        (plan, certificate)
        for plan, certificate in known
        if certificate.holds and legal(plan.backends)
    ]
    best = min(holding, key=lambda pair: pair[0].usd_per_hour, default=None)
    dearest = max(plan.usd_per_hour for plan in starts)
    limit = best[0].usd_per_hour if best else DEARER * dearest + max(usd)
    played = len(known)
    failed: set[ModelFleet] = set()
    for counts in filter(legal, _nearby(starts, usd, limit)):
        parts = _parts(counts, models)
        if not failed.isdisjoint(parts.values()):
            continue
        plan = shares(counts)
        if _misfit(plan) > MISFIT or _peak(plan) > OVERLOADED:
            continue
        played += 1
        certificate = certify(plan, rehearse, seeds=range(seeds))
        if certificate.holds:
            certificate = certify(plan, rehearse, seeds=range(seeds, 2 * seeds))
            if certificate.holds:
                return Refined(plan=plan, certificate=certificate, played=played)
        if certificate.model is not None:
            failed.add(parts[certificate.model])
    if best is None:
        best = max(known, key=lambda pair: pair[1].attainment - pair[1].target)
    return Refined(plan=best[0], certificate=best[1], played=played)


def _certified(
    starts: Sequence[Plan], rehearse: Rehearse, seeds: int
) -> list[tuple[Plan, Certificate]]:
    """The starts, certified on the fresh seeds like whatever replaces them."""
    fresh = range(seeds, 2 * seeds)
    return [(p, certify(p, rehearse, seeds=fresh)) for p in starts]


def _nearby(
    starts: Sequence[Plan], usd: Sequence[float], limit: float
) -> Iterator[tuple[int, ...]]:
    """Fleets within reach of a start that cost less than the limit, the cheapest first."""
    fleets = {fleet for start in starts for fleet in _box(start.backends)}
    fleets -= {start.backends for start in starts}
    costs = {fleet: sum(n * price for n, price in zip(fleet, usd, strict=True)) for fleet in fleets}
    cheaper = [fleet for fleet in fleets if costs[fleet] < limit - 1e-9 and any(fleet)]
    return iter(sorted(cheaper, key=lambda fleet: (costs[fleet], fleet)))


def _parts(counts: tuple[int, ...], models: Sequence[str]) -> dict[str, ModelFleet]:
    """By model, its name and the counts of its pools."""
    return {
        model: (model, tuple(n for n, owner in zip(counts, models, strict=True) if owner == model))
        for model in dict.fromkeys(models)
    }


def _box(backends: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The fleets within reach of one."""
    reach = [max(REACH, ceil(REACH_SHARE * count)) for count in backends]
    return _steps(backends, reach, max(reach) + SUM)


def _steps(have: Sequence[int], reach: Sequence[int], left: int) -> Iterator[tuple[int, ...]]:
    """Counts ≥ 0 that differ by at most `reach` in each pool and by `left` in all together."""
    if not have:
        yield ()
        return
    far = min(reach[0], left)
    for step in range(max(-far, -have[0]), far + 1):
        for rest in _steps(have[1:], reach[1:], left - abs(step)):
            yield have[0] + step, *rest


def _misfit(plan: Plan) -> float:
    """The share of requests that the plan serves without a promise: whether they keep their SLO all
    the same, the rehearsal says."""
    rate = sum(plan.rate)
    return sum(bucket.rate for bucket in plan.unserved) / rate if rate else 0.0


def _peak(plan: Plan) -> float:
    """The peak of (M + κ√V)/y over the pools in use."""
    rows = zip(plan.load, plan.tail, plan.backends, strict=True)
    return max(
        ((mean + tail) / count if count else float("inf"))
        for mean, tail, count in rows
        if mean + tail > 0
    )
