"""Plans, what explains them, and portfolios as tables for people. Pure output."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from planner.costs.explain import RELIABLE, Explanation
from planner.costs.portfolio import Portfolio
from planner.costs.whatif import Alternative
from planner.model.plan import Plan

SHORT = 8  # buckets in a table of one screen


def show(
    found: Plan,
    explanation: Explanation,
    alternatives: Sequence[Alternative],
    console: Console,
    *,
    whole: bool,
) -> None:
    """The plan for people: one screen, or the whole of it."""
    console.print(pools_table(found))
    console.print(shares_table(found, explanation, whole=whole))
    if whole and any(name for name, _ in explanation.key):
        console.print(keys_table(found, explanation))
    console.print(singles_table(found))
    if alternatives:
        console.print(alternatives_table(found, alternatives))
    for unserved in found.unserved:
        what = found.buckets.describe(unserved.bucket)
        console.print(f"unserved: {what}, {unserved.rate:.3g} req/s: {unserved.reason}")
    if found.relaxation is not None:
        lifted = found.relaxation
        more = "" if lifted.more is None else f" by {lifted.more:g}"
        console.print(
            f"cheapest relaxation: {lifted.limit}{more}: ${lifted.usd_per_hour:.2f}/h, "
            f"{lifted.unserved_rate:.3g} req/s still unserved"
        )
    if whole and not explanation.reliable:
        console.print(
            "next 1,000: what growth costs in the long run; with fewer than "
            f"{RELIABLE} backends the next request costs nothing or a whole backend"
        )
    console.print(_why(found, explanation), highlight=False)


def pools_table(found: Plan) -> Table:
    """Backends and load of every pool."""
    table = _table(f"plan {found.plan_id}: ${found.usd_per_hour:.2f}/h", "pool")
    for column in ("backends", "mean load", "with tail"):
        table.add_column(column, justify="right")
    for name, count, mean, tail in zip(
        found.pools, found.backends, found.load, found.tail, strict=True
    ):
        table.add_row(name, str(count), f"{mean:.2f}", f"{mean + tail:.2f}")
    return table


def shares_table(found: Plan, explanation: Explanation, *, whole: bool) -> Table:
    """Which pool serves which request size: the dearest buckets with demand, or all of them."""
    rows = [b for b, rate in enumerate(found.rate) if rate > 0]
    left_out = 0 if whole else max(0, len(rows) - SHORT)
    if left_out:
        dearest = sorted(rows, key=lambda b: -explanation.bucket[b])[:SHORT]
        rows = sorted(dearest)
    more = f": the {SHORT} dearest, {left_out} more with --explain" if left_out else ""
    table = _table(f"which pool serves which size{more}", "bucket")
    for column in ("req/s", "$/h", *(("next 1,000",) if whole else ()), *found.pools):
        table.add_column(column, justify="right")
    for b in rows:
        cells = [f"{weight:.0%}" if weight else "·" for weight in found.weights[b]]
        usd = explanation.next_usd[b]
        price = [f"${usd:.3f}" if usd is not None else "–"] if whole else []
        cost = f"{explanation.bucket[b]:.2f}"
        table.add_row(found.buckets.describe(b), f"{found.rate[b]:.2f}", cost, *price, *cells)
    return table


def keys_table(found: Plan, explanation: Explanation) -> Table:
    """The bill by who sent the requests; the rows sum to it."""
    table = _table("the bill by key", "key")
    for column in ("$/h", "share"):
        table.add_column(column, justify="right")
    rows = [(name or "(none)", usd) for name, usd in explanation.key]
    if abs(explanation.idle) >= 0.005:
        rows.append(("(idle backends)", explanation.idle))
    for name, usd in rows:
        share = usd / found.usd_per_hour if found.usd_per_hour else 0.0
        table.add_row(name, f"{usd:.2f}", f"{share:.1%}")
    return table


def singles_table(found: Plan) -> Table:
    """What the same demand costs on every single GPU type."""
    table = _table("the same demand and SLO on one GPU type", "GPU")
    for column in ("backends", "$/h", "against the plan"):
        table.add_column(column, justify="right")
    for single in sorted(found.singles, key=lambda s: (s.unserved_share > 0, s.usd_per_hour)):
        if single.unserved_share:
            cannot = f"cannot serve {single.unserved_share:.1%}: {single.why}"
            table.add_row(single.gpu, "–", "–", cannot)
            continue
        running = str(sum(count for _, count in single.backends))
        ratio = _ratio(single.usd_per_hour, found.usd_per_hour)
        table.add_row(single.gpu, running, f"{single.usd_per_hour:.2f}", ratio)
    return table


def alternatives_table(found: Plan, alternatives: Sequence[Alternative]) -> Table:
    """What else could be promised, paid or bought."""
    table = _table("what if", "change")
    for column in ("$/h", "against the plan", "backends"):
        table.add_column(column, justify="right")
    for other in alternatives:
        plan = other.plan
        counts = zip(plan.pools, plan.backends, strict=True)
        fleet = " + ".join(f"{count} {name}" for name, count in counts if count) or "none"
        if other.plan.unserved_share:
            fleet += f"; {other.plan.unserved_share:.1%} unserved"
        ratio = _ratio(plan.usd_per_hour, found.usd_per_hour)
        table.add_row(other.change, f"{plan.usd_per_hour:.2f}", ratio, fleet)
    return table


def show_portfolio(found: Portfolio, console: Console) -> None:
    """What to buy, and what that saves."""
    days = found.hours / 24
    table = _table(f"{found.hours} hours ({days:.1f} days): ${found.usd:,.0f}", "GPU")
    for column in ("commit", "$", "on-demand GPU-h", "$", "spot GPU-h", "$"):
        table.add_column(column, justify="right")
    for line in found.lines:
        table.add_row(
            line.gpu,
            str(line.committed),
            f"{line.committed_usd:,.0f}",
            f"{line.on_demand_hours:,}",
            f"{line.on_demand_usd:,.0f}",
            f"{line.spot_hours:,}",
            f"{line.spot_usd:,.0f}",
        )
    console.print(table)
    lines = [f"all on demand: ${found.on_demand_usd:,.0f}; saving {found.saving:.1%}"]
    if found.single_usd is not None and found.single_saving is not None:
        lines.append(
            f"{found.single} alone, bought as well: ${found.single_usd:,.0f}; "
            f"saving {found.single_saving:.1%}"
        )
    if found.unserved_share:
        lines.append(
            f"unserved in the busiest hour ({found.peak_rate:.3g} req/s): "
            f"{found.unserved_share:.1%}; see cuvee plan --rate {found.peak_rate:.3g}"
        )
    console.print("\n".join(lines), highlight=False)


def _why(found: Plan, explanation: Explanation) -> str:
    gap = explanation.gap
    parts = (
        ("tail", gap.tail),
        ("whole backends", gap.integrality),
        ("limits", gap.limits),
        ("switching", gap.switching),
        ("paid for already", gap.reserved),
    )
    sums = " + ".join(f"{name} {usd:.2f}" for name, usd in parts if abs(usd) >= 0.005)
    return (
        f"lower bound ${gap.bound:.2f}/h{' + ' + sums if sums else ''} = "
        f"${found.usd_per_hour:.2f}/h; solved in {found.solve_s * 1e3:.0f} ms, "
        f"gap {found.gap:.2%}"
    )


def _table(title: str, first: str) -> Table:
    table = Table(title=title)
    table.add_column(first, justify="left")
    return table


def _ratio(usd: float, reference: float) -> str:
    return f"{usd / reference:.2f} ×" if reference else "–"
