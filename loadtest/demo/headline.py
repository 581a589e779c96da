"""A demo run in a few lines for who pays for GPUs: dollars, promises kept, what is proven. Pure."""

from collections.abc import Iterator, Mapping

from loadtest.demo import race
from loadtest.demo.race import FleetInForce, Lane
from loadtest.demo.summary import DemoSummary, PlanSeen

MARGIN = 16  # columns of the left edge, where a line says what it is about


def headline(summary: DemoSummary) -> list[str]:
    """Six lines at most."""
    lines = [f"{when:{MARGIN}}{_offer(plan, summary.gpus)}" for when, plan in _last_plans(summary)]
    lines.append(f"{'this run':{MARGIN}}{_outcome(summary)}")
    others = [_other(lane, summary) for lane in summary.lanes if lane.played and lane.fleets]
    if others:
        lines.append(f"{'':{MARGIN}}{'; '.join(others)}")
        lines.append(f"{'':{MARGIN}}(these were played in virtual time, on the same requests)")
    return lines


def _last_plans(summary: DemoSummary) -> Iterator[tuple[str, PlanSeen]]:
    """The plans in force at the end of each half of the run."""
    before = [plan for plan in summary.plans if plan.at_s < summary.turn_s]
    if before:
        yield "before the turn", before[-1]
    if len(summary.plans) > len(before):
        yield "after the turn", summary.plans[-1]


def _offer(plan: PlanSeen, gpus: Mapping[str, str]) -> str:
    """A plan's dollars, those of the best single type, and what was proven."""
    mix = race.fleet_of(plan.body, plan.at_s)
    single = race.best_single(plan.body, plan.at_s)
    text = f"${mix.usd_per_hour:.2f}/h ({described(mix, gpus)})"
    if single is not None and dict(single.backends) == dict(mix.backends):
        text += ": no mix is cheaper"
    elif single is not None:
        kind = "" if single.certified else ", not certified"
        text += f" instead of ${single.usd_per_hour:.2f} ({described(single, gpus)}{kind})"
        text += f": {1 - mix.usd_per_hour / single.usd_per_hour:.0%} less"
    certificate = plan.body["certificate"]
    if not mix.certified:
        return f"{text}; safe by the formula, not yet certified"
    return f"{text}, {certificate['attainment']:.1%} kept, proven on {certificate['seeds']} seeds"


def described(fleet: FleetInForce, gpus: Mapping[str, str]) -> str:
    """A fleet in words. gpus: the GPU type of each pool."""
    return ", ".join(f"{n} {gpus.get(name, name)}" for name, n in fleet.backends.items()) or "none"


def _outcome(summary: DemoSummary) -> str:
    """What happened to the requests that were sent through the gateway."""
    attained = summary.periods[-1].attainment
    kept = "" if attained is None else f", {attained.share:.1%} kept {promise(summary)}"
    swaps = len(summary.plans) - 1
    own = next((lane for lane in summary.lanes if not lane.played), None)
    spent = "" if own is None else f", ${own.spent_usd(summary.until_s):.2f}"
    return (
        f"{summary.requests:,} requests, {summary.failed} failed{kept}; "
        f"{swaps} {'swap' if swaps == 1 else 'swaps'}{spent}"
    )


def promise(summary: DemoSummary) -> str:
    """The SLO in words."""
    return f"TTFT ≤ {summary.slo.ttft_s:g} s and TPOT ≤ {summary.slo.tpot_s * 1e3:g} ms"


def _other(lane: Lane, summary: DemoSummary) -> str:
    kept = lane.kept()
    share = "" if kept is None else f"{kept:.1%} kept, "
    return f"{title(lane)}: {share}${lane.spent_usd(summary.until_s):.2f}"


def title(lane: Lane) -> str:
    """A lane's name for people: that of one GPU type has the type's, or those that it had."""
    types = list(dict.fromkeys(fleet.gpu for fleet in lane.fleets if fleet.gpu))
    if types:
        return f"{' then '.join(types)} only"
    return f"{lane.name} on the same mix" if lane.played else lane.name
