"""What a demo run amounts to: every plan beside what happened under it. Pure.

Knows `/cuvee/plan` and the records of a replay; must not know processes or consoles.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from loadtest.demo.race import Lane, best_single, fleet_of, gateway_lane
from loadtest.replay import report
from loadtest.replay.record import Record
from loadtest.replay.report import Attainment, Percentiles
from planner.slo import Slo

OFF_PLAN = ("spill", "overload", "best-effort")  # decisions that left the plan's shares


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSeen:
    """A plan as the gateway published it, and when it was first seen in force.

    at_s: seconds since the replay's start, 0 for the first plan. body: the answer of `/cuvee/plan`.
    """

    at_s: float
    body: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.body["plan_id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The requests of one period of the run, or of one pool.

    off_plan: requests whose decision left the plan's shares.
    """

    name: str
    requests: int
    failed: int
    off_plan: int
    ttft: Percentiles | None
    tpot: Percentiles | None
    attainment: Attainment | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketShares:
    """One bucket under one plan, with the share of each pool in the order of the plan's pools.

    what: the bucket's sizes in words. planned, real: by the plan, and by where requests went.
    """

    plan: str
    bucket: int
    what: str
    requests: int
    planned: tuple[float, ...]
    real: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSummary:
    """The whole run.

    lag_p99_s: of the load generator itself. turn_s, until_s: when the traffic mix turned, and when
    the last request ended, since the start. gpus: the GPU type of each pool. lanes: the gateway's
    first. periods: the last one is the whole run. pools: the run by pool.
    """

    slo: Slo
    requests: int
    failed: int
    lag_p99_s: float
    turn_s: float
    until_s: float
    gpus: Mapping[str, str]
    plans: tuple[PlanSeen, ...]
    lanes: tuple[Lane, ...]
    periods: tuple[Period, ...]
    pools: tuple[Period, ...]
    slices: tuple[BucketShares, ...]


def summarise(
    records: Sequence[Record],
    plans: Sequence[PlanSeen],
    slo: Slo,
    *,
    turn_s: float,
    gpus: Mapping[str, str],
    others: Sequence[Lane] = (),
) -> DemoSummary:
    """Add up a run; a plan that served no request is left out. others: the lanes beside the
    gateway's."""
    whole = report.summarise(records, slo)
    names = sorted({record.pool for record in records if record.pool})
    own = gateway_lane(records, [fleet_of(plan.body, plan.at_s) for plan in plans], slo)
    used = {record.plan for record in records}
    plans = [plan for plan in plans if plan.name in used]
    return DemoSummary(
        slo=slo,
        requests=whole.requests,
        failed=whole.failed,
        lag_p99_s=whole.lag_p99_s,
        turn_s=turn_s,
        until_s=max((record.sent_s + record.e2e_s for record in records), default=0.0),
        gpus=gpus,
        plans=tuple(plans),
        lanes=(own, *others),
        periods=tuple(_periods(records, plans, slo, turn_s)),
        pools=tuple(_period(n, [r for r in records if r.pool == n], slo) for n in names),
        slices=tuple(s for plan in plans for s in _bucket_shares(records, plan)),
    )


def _periods(
    records: Sequence[Record], plans: Sequence[PlanSeen], slo: Slo, turn_s: float
) -> Iterator[Period]:
    """Before and after the turn, each divided by plan; then the whole run."""
    for name, early in (("before", True), ("after", False)):
        half = [record for record in records if (record.arrival_s < turn_s) == early]
        for number, plan in enumerate(plans, 1):
            under_plan = [record for record in half if record.plan == plan.name]
            if under_plan:
                yield _period(f"{name}, plan {number}", under_plan, slo)
    yield _period("everything", records, slo)


def _period(name: str, records: Sequence[Record], slo: Slo) -> Period:
    whole = report.summarise(records, slo)
    return Period(
        name=name,
        requests=whole.requests,
        failed=whole.failed,
        off_plan=sum(record.decision in OFF_PLAN for record in records),
        ttft=whole.ttft,
        tpot=whole.tpot,
        attainment=whole.attainment,
    )


def _bucket_shares(records: Sequence[Record], plan: PlanSeen) -> Iterator[BucketShares]:
    """Every bucket that had requests under a plan."""
    pools = tuple(plan.body["pools"])
    under_plan = [r for r in records if r.plan == plan.name and r.bucket is not None]
    counts = Counter((int(record.bucket or 0), record.pool) for record in under_plan)
    for bucket in sorted({bucket for bucket, _ in counts}):
        total = sum(counts[bucket, pool] for pool in pools)
        cell = plan.body["buckets"]["cells"][bucket]
        (input_from, input_to), (output_from, output_to) = cell["input"], cell["output"]
        yield BucketShares(
            plan=plan.name,
            bucket=bucket,
            what=f"in {input_from}–{input_to} out {output_from}–{output_to}",
            requests=total,
            planned=tuple(plan.body["weights"][bucket]),
            real=tuple(counts[bucket, pool] / total if total else 0.0 for pool in pools),
        )


def to_json(summary: DemoSummary) -> dict[str, Any]:
    """The summary as plain JSON values, by the names of its fields."""
    return asdict(summary)


def tables(summary: DemoSummary) -> Iterator[Table]:
    """The summary for a terminal of 80 columns."""
    for number, plan in enumerate(summary.plans, 1):
        yield _shares_table(summary, plan, number)
    yield _periods_table("what happened, by period", summary.periods)
    yield _periods_table("what happened, by pool", summary.pools)
    yield _costs_table(summary)


def _shares_table(summary: DemoSummary, plan: PlanSeen, number: int) -> Table:
    pools = plan.body["pools"]
    since = f"from {plan.at_s:.0f} s" if plan.at_s else "from the start"
    table = Table(
        title=f"plan {number} ({plan.name}), {since}: planned → real share by request size",
        title_justify="left",
        box=SIMPLE_HEAD,
        collapse_padding=True,
    )
    table.add_column("tokens, as estimated", no_wrap=True)
    table.add_column("sent", justify="right")
    for pool in pools:
        count = plan.body["backends"][pool]
        table.add_column(f"{pool} × {count}", justify="right", no_wrap=True)
    for row in (shares for shares in summary.slices if shares.plan == plan.name):
        cells = (
            "·" if not planned and not real else f"{planned:.0%} → {real:.0%}"
            for planned, real in zip(row.planned, row.real, strict=True)
        )
        table.add_row(row.what, str(row.requests), *cells)
    return table


def _periods_table(title: str, periods: Sequence[Period]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    table.add_column("", no_wrap=True)
    for heading in ("sent", "failed", "off-plan", "TTFT ms", "TPOT ms", "within SLO"):
        table.add_column(heading, justify="right", no_wrap=True)
    for period in periods:
        attained = period.attainment
        table.add_row(
            period.name,
            str(period.requests),
            str(period.failed),
            str(period.off_plan),
            _ms(period.ttft),
            _ms(period.tpot),
            "–" if attained is None else f"{attained.share:.1%} ≥{attained.low:.1%}",
        )
    table.caption = "p50 / p99; after ≥ the lower end of the 95 % interval"
    return table


def _ms(values: Percentiles | None) -> str:
    return "–" if values is None else f"{1e3 * values.p50_s:.0f} / {1e3 * values.p99_s:.0f}"


def _costs_table(summary: DemoSummary) -> Table:
    """Dollars per hour of each plan, and of every single GPU type for the same demand and SLO."""
    table = Table(
        title="$ per hour, same demand and SLO",
        title_justify="left",
        box=SIMPLE_HEAD,
        collapse_padding=True,
    )
    table.add_column("")
    for number, _ in enumerate(summary.plans, 1):
        table.add_column(f"plan {number}", justify="right")
    table.add_row(
        "demand planned for", *(f"{p.body['requests_per_s']:.1f} req/s" for p in summary.plans)
    )
    table.add_row("Cuvée's mix", *(f"{p.body['usd_per_hour']:.2f}" for p in summary.plans))
    table.add_row("rehearsed attainment", *(_rehearsed(plan.body) for plan in summary.plans))
    gpus = sorted({gpu for plan in summary.plans for gpu in plan.body["single_types"]})
    for gpu in gpus:
        singles = (plan.body["single_types"].get(gpu) for plan in summary.plans)
        table.add_row(f"{gpu} only", *map(_single, singles))
    table.add_row("saved against the best", *(_saving(plan.body) for plan in summary.plans))
    bounds = (f"{plan.body['lower_bound_usd_per_hour']:.2f}" for plan in summary.plans)
    table.add_row("lower bound (fluid)", *bounds)
    table.caption = (
        "certified types are marked ✓; –: cannot be the cheapest, so not played; "
        "cannot: the share of requests whose SLO none of these GPUs holds"
    )
    return table


def _rehearsed(body: dict[str, Any]) -> str:
    """The attainment in a plan's certificate, from the demand that was known when it was made."""
    certificate = body.get("certificate")
    if certificate is None:
        return "–"
    return f"{certificate['attainment']:.1%} ≥{certificate['low']:.1%}"


def _single(single: dict[str, Any] | None) -> str:
    if single is None:
        return "–"
    if not single["feasible"]:
        return f"cannot: {single['unserved_share']:.0%}"
    mark = " ✓" if single["certified"] else ""
    return f"{single['usd_per_hour']:.2f} (× {sum(single['backends'].values())}){mark}"


def _saving(body: dict[str, Any]) -> str:
    """Saved against the best single type."""
    best = best_single(body, 0.0)
    return "no type can" if best is None else f"{1 - body['usd_per_hour'] / best.usd_per_hour:.0%}"
