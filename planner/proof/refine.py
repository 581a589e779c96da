"""Refinement: the cheapest certified plan, searched around several starts.

The variance term of the program is safe, and therefore often dear: refined fleets were 8 to 16 %
cheaper in the prototype. With large burstiness the term also ranks GPU types wrongly: its plans
cost up to 20 % more than a certified fleet of the best single type. Hence several starts: the
program's own plan, and the smallest certified fleet of every single type.

Fleets near each start are taken in order of cost. Each gets the shares that even out its load and
is played through; the first that holds on the first seeds and again on fresh seeds is the answer.
The answer is never dearer than a start that is certified itself and may be bought.

Must not know the traffic, the router or the simulator: all of them are behind `rehearse`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from planner.model.plan import Certificate, Plan
from planner.proof.certify import SEEDS, Rehearse, proven

# How far a fleet may differ from a start: in one pool by REACH backends or by REACH_SHARE of the
# start's, whichever is more; in all pools together by SUM more than in the widest pool. The share
# lets the search move as far, relatively, from a fleet of forty backends as from one of ten.
REACH = 2
REACH_SHARE = 0.15
SUM = 2
# A mean load M/y beyond which a pool cannot keep the pace that its requests were promised.
FULL = 1.0
# A peak of (M + κ√V)/y beyond which no fleet was seen to hold. The tail is safe, so fleets above 1
# may hold: the prototype found those up to 1.35–1.6 worth playing.
OVERLOADED = 2.0
# The share of requests in buckets without a pool that holds their SLO, up to which a fleet is
# played all the same: the rehearsal shows whether those requests keep their SLO. For Llama-3-8B at
# 60 ms and 5 req/s such a fleet attains 99.2 % and saves a fifth (docs/comparison.md).
MISFIT = 0.05
# If no start holds, the search goes up to this multiple of the dearest start, and one backend more:
# half as much again would add no backend to a fleet of one.
DEARER = 1.5

PlanFor = Callable[[tuple[int, ...]], Plan]
ModelFleet = tuple[str, tuple[int, ...]]  # a model, and the backends of its pools


@dataclass(frozen=True, slots=True, kw_only=True)
class Refined:
    """The outcome: the plan, its certificate on fresh seeds, and how many fleets were played.

    certificate.holds is False only if no fleet within reach of any start holds.
    """

    plan: Plan
    certificate: Certificate
    played: int


def refine(
    starts: Sequence[Plan],
    *,
    plan_for: PlanFor,
    usd: Sequence[float],
    models: Sequence[str],
    legal: Callable[[tuple[int, ...]], bool],
    rehearse: Rehearse,
    prove: Rehearse,
    seeds: int = SEEDS,
    progress: Callable[[str], None] = lambda _: None,
    spent: Callable[[], bool] = lambda: False,
    harder: float = 1.0,
    sunk_usd: float = 0.0,
) -> Refined:
    """Search for the cheapest certified plan.

    starts: plans over the same pools. plan_for: the plan of least peak load for (P,) counts. usd,
    models: (P,) price and model of each pool. legal: whether (P,) counts may be bought. rehearse,
    prove: play a plan with a seed; see `proven`. spent: whether to stop with what is known by now.
    harder: by how much the played load exceeds that of the plans, as a factor. sunk_usd: $/h of all
    plans that no count changes.
    """
    certified = [(plan, proven(plan, rehearse, prove, seeds)) for plan in starts]
    holding = [
        (plan, certificate)
        for plan, certificate in certified
        if certificate.holds and legal(plan.backends)
    ]
    best = min(holding, key=lambda pair: pair[0].usd_per_hour, default=None)
    dearest = max(plan.usd_per_hour for plan in starts)
    limit = best[0].usd_per_hour if best else DEARER * dearest + max(usd)
    limit -= sunk_usd
    played = len(certified)
    failed: set[ModelFleet] = set()
    for counts in filter(legal, _nearby(starts, usd, limit)):
        if spent():
            break
        # Models share no backend: what was too small for a model is so whatever the others have.
        by_model = _model_fleets(counts, models)
        if not failed.isdisjoint(by_model.values()):
            continue
        plan = plan_for(counts)
        # A play costs seconds, the plan milliseconds.
        if plan.unserved_share > MISFIT or peak(plan) > OVERLOADED:
            continue
        if fullest(plan) * harder > FULL:
            continue
        played += 1
        progress(f"playing fleet {played}: ${plan.usd_per_hour:.2f}/h")
        certificate = proven(plan, rehearse, prove, seeds)
        if certificate.holds:
            return Refined(plan=plan, certificate=certificate, played=played)
        if certificate.model is not None:
            failed.add(by_model[certificate.model])
    if best is None:
        # Targets differ between classes: compare starts by how far each is below its own.
        best = max(certified, key=lambda pair: pair[1].low - pair[1].target)
    return Refined(plan=best[0], certificate=best[1], played=played)


def _nearby(
    starts: Sequence[Plan], usd: Sequence[float], limit: float
) -> Iterator[tuple[int, ...]]:
    """Fleets within reach of a start that cost less than the limit, the cheapest first.

    Fleets of the same cost come in the order of their counts, so that a search can be repeated.
    """
    fleets = {fleet for start in starts for fleet in _within_reach(start.backends)}
    fleets -= {start.backends for start in starts}
    costs = {fleet: sum(n * price for n, price in zip(fleet, usd, strict=True)) for fleet in fleets}
    cheaper = [fleet for fleet in fleets if costs[fleet] < limit - 1e-9 and any(fleet)]
    return iter(sorted(cheaper, key=lambda fleet: (costs[fleet], fleet)))


def _model_fleets(counts: tuple[int, ...], models: Sequence[str]) -> dict[str, ModelFleet]:
    """By model, its name and the counts of its pools."""
    return {
        model: (model, tuple(n for n, owner in zip(counts, models, strict=True) if owner == model))
        for model in dict.fromkeys(models)
    }


def _within_reach(backends: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The fleets within reach of one fleet, itself among them."""
    reach = [max(REACH, ceil(REACH_SHARE * count)) for count in backends]
    return _steps(backends, reach, max(reach) + SUM)


def _steps(have: Sequence[int], reach: Sequence[int], left: int) -> Iterator[tuple[int, ...]]:
    """Counts ≥ 0 that differ by at most `reach` in each pool and by `left` in all together.

    Recursive instead of a filtered product: of many pools nearly every combination exceeds `left`.
    """
    if not have:
        yield ()
        return
    widest = min(reach[0], left)
    for step in range(max(-widest, -have[0]), widest + 1):
        for rest in _steps(have[1:], reach[1:], left - abs(step)):
            yield have[0] + step, *rest


def fullest(plan: Plan) -> float:
    """The highest mean load M/y of a pool in use."""
    rows = zip(plan.load, plan.backends, strict=True)
    return max((load / count for load, count in rows if count), default=0.0)


def peak(plan: Plan) -> float:
    """The peak of (M + κ√V)/y over the pools in use."""
    rows = zip(plan.load, plan.tail, plan.backends, strict=True)
    return max(
        ((mean + tail) / count if count else float("inf"))
        for mean, tail, count in rows
        if mean + tail > 0
    )
