"""Plans, their explanations and portfolios as tables for people. Pure output."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from gateway.rehearsal.fleet_diff import FleetDiff, FleetVerdict
from planner.costs.explain import RELIABLE, Explanation
from planner.costs.portfolio import Portfolio
from planner.costs.whatif import Alternative
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.limits import backend_price, shared_groups

SHORT = 8  # buckets, so that a plan takes 40 lines of a terminal at most
SERVES_LESS = "– (the plan serves less)"  # a bill for less work is no measure of another
SAME_SHARE = 1e-6  # of the requests, unserved by two plans: less is the solver's rounding
CENT = 0.005  # dollars that round to nothing in a table


def show_plan(
    plan: Plan,
    explanation: Explanation,
    alternatives: Sequence[Alternative],
    console: Console,
    *,
    whole: bool,
) -> None:
    """Print a plan on one screen; whole: every bucket, and the bill by key, as well.

    What is not served stands first: the bill is for the rest only.
    """
    show_unserved(plan, console)
    console.print(pools_table(plan))
    console.print(shares_table(plan, explanation, whole=whole))
    if whole and any(name for name, _ in explanation.key):
        console.print(keys_table(plan, explanation))
    console.print(singles_table(plan))
    if alternatives:
        console.print(alternatives_table(plan, alternatives))
    if whole and not explanation.reliable:
        console.print(
            "next 1,000: what growth costs in the long run; with fewer than "
            f"{RELIABLE} backends the next request costs nothing or a whole backend"
        )
    # highlight=False: rich would print every number of the line in another colour.
    console.print(_bill_in_parts(plan, explanation), highlight=False)


def show_shared(plan: Plan, pools: Sequence[Pool], console: Console) -> None:
    """Print who is awake on GPUs that pools share; nothing if none do."""
    counts = dict(zip(plan.pools, plan.backends, strict=True))
    for group in shared_groups(pools):
        own = {pool.name: counts[pool.name] for pool in pools if pool.shared == group}
        taken = sum(group.taken(pool) * counts[pool.name] for pool in pools)
        awake = ", ".join(f"{count} of {name}" for name, count in own.items() if count)
        console.print(
            f"{group}: awake are {awake or 'none'}, on {taken} of {group.gpus} GPUs, "
            f"${group.usd_per_hour:.2f}/h in any case",
            highlight=False,
        )


def show_unserved(plan: Plan, console: Console) -> None:
    """Print what a plan leaves out, and the limit to lift first; nothing if it serves all."""
    if plan.unserved:
        console.print(
            f"NOT SERVED: {plan.unserved_share:.2%} of the requests; the plan is for the others",
            highlight=False,
        )
    for unserved in plan.unserved:
        what = plan.buckets.describe(unserved.bucket)
        console.print(f"unserved: {what}, {unserved.rate:.3g} req/s: {unserved.reason}")
    if plan.relaxation is not None:
        lifted = plan.relaxation
        more = "" if lifted.more is None else f" by {lifted.more:g}"
        console.print(
            f"cheapest relaxation: {lifted.limit}{more}: ${lifted.usd_per_hour:.2f}/h, "
            f"{lifted.unserved_rate:.3g} req/s still unserved"
        )


def show_diff(diff: FleetDiff, console: Console, *, unserved: bool) -> None:
    """Print what the plan would start and stop, the bill before and after, and what follows.

    unserved: whether to begin with what the plan does not serve.
    """
    if unserved:
        show_unserved(diff.plan, console)
    console.print(diff_table(diff))
    console.print("\n".join(_verdict(diff)), highlight=False)


def diff_table(diff: FleetDiff) -> Table:
    """The backends of every pool now and in the plan."""
    table = _table(f"plan {diff.plan.plan_id} against the backends configured", "pool")
    for column in ("now", "plan", "", "$/h now", "$/h plan"):
        table.add_column(column, justify="right")
    for (name, now, then), pool in zip(diff.steps, diff.pools, strict=True):
        step = f"start {then - now}" if then > now else f"stop {now - then}" if then < now else "·"
        bills = [backend_price(pool) * max(0, n - pool.reserved) for n in (now, then)]
        table.add_row(name, str(now), str(then), step, *(f"{usd:.2f}" for usd in bills))
    total = (sum(diff.present.backends), sum(diff.plan.backends))
    usd = (diff.usd_per_hour, diff.plan.usd_per_hour)
    table.add_section()
    table.add_row("all", str(total[0]), str(total[1]), "", *(f"{one:.2f}" for one in usd))
    return table


def _verdict(diff: FleetDiff) -> list[str]:
    certificate = diff.present.certificate
    kept = "" if certificate is None else f": {certificate.attainment:.2%} keep their promise"
    lines = [f"the present fleet {'holds' if diff.holds else 'does not hold'}{kept}"]
    if diff.verdict is FleetVerdict.CHANGES:
        saved = "" if diff.saving is None else f", which saves {diff.saving:.1%}"
        lines.append(
            f"would change: ${diff.usd_per_hour:.2f}/h to ${diff.plan.usd_per_hour:.2f}/h{saved}"
        )
    elif diff.verdict is FleetVerdict.UNSERVED:
        lines.append("cannot serve all: neither this fleet nor the plan does")
    elif diff.saving is None:
        lines.append("stays: the plan serves less")
    elif diff.saving > 0:
        lines.append(
            f"stays: the plan saves {diff.saving:.1%}; min_saving is {diff.min_saving:.1%}"
        )
    else:
        lines.append("stays: the plan is not cheaper")
    return lines


def _shown(plan: Plan) -> list[int]:
    """The numbers of the pools that a table has: of many those with a backend."""
    every = range(len(plan.pools))
    return [p for p in every if plan.backends[p] or len(every) <= SHORT]


def pools_table(plan: Plan) -> Table:
    """Backends and load of every pool; of many those that have a backend."""
    table = _table(f"plan {plan.plan_id}: ${plan.usd_per_hour:.2f}/h", "pool")
    for column in ("backends", "mean load", "with tail"):
        table.add_column(column, justify="right")
    shown = _shown(plan)
    for p in shown:
        mean, tail = plan.load[p], plan.tail[p]
        table.add_row(plan.pools[p], str(plan.backends[p]), f"{mean:.2f}", f"{mean + tail:.2f}")
    if left_out := len(plan.pools) - len(shown):
        table.add_row(f"({left_out} others)", "0", "", "")
    return table


def shares_table(plan: Plan, explanation: Explanation, *, whole: bool) -> Table:
    """Which pool serves which request size: the dearest buckets with demand, or all of them."""
    rows = [b for b, rate in enumerate(plan.rate) if rate > 0]
    left_out = 0 if whole else max(0, len(rows) - SHORT)
    if left_out:
        dearest = sorted(rows, key=lambda b: -explanation.bucket[b])[:SHORT]
        rows = sorted(dearest)
    more = f": the {SHORT} dearest, {left_out} more with --explain" if left_out else ""
    table = _table(f"which pool serves which size{more}", "bucket")
    shown = _shown(plan)
    names = (plan.pools[p] for p in shown)
    for column in ("req/s", "$/h", *(("next 1,000",) if whole else ()), *names):
        table.add_column(column, justify="right")
    for b in rows:
        weights = (plan.weights[b][p] for p in shown)
        shares = [f"{weight:.0%}" if weight else "·" for weight in weights]
        usd = explanation.next_usd[b]
        price = [f"${usd:.3f}" if usd is not None else "–"] if whole else []
        cost = f"{explanation.bucket[b]:.2f}"
        table.add_row(plan.buckets.describe(b), f"{plan.rate[b]:.2f}", cost, *price, *shares)
    return table


def keys_table(plan: Plan, explanation: Explanation) -> Table:
    """The bill by the key that sent the requests; the rows sum to it."""
    table = _table("the bill by key", "key")
    for column in ("$/h", "share"):
        table.add_column(column, justify="right")
    rows = [(name or "(none)", usd) for name, usd in explanation.key]
    if abs(explanation.idle) >= CENT:
        rows.append(("(idle backends)", explanation.idle))
    for name, usd in rows:
        share = usd / plan.usd_per_hour if plan.usd_per_hour else 0.0
        table.add_row(name, f"{usd:.2f}", f"{share:.1%}")
    return table


def singles_table(plan: Plan) -> Table:
    """What the same demand costs on every single GPU type."""
    table = _table("the same demand and SLO on one GPU type", "GPU")
    for column in ("backends", "$/h", "against the plan"):
        table.add_column(column, justify="right")
    for single in sorted(plan.singles, key=lambda s: (s.unserved_share > 0, s.usd_per_hour)):
        if single.unserved_share:
            cannot = f"cannot serve {single.unserved_share:.1%}: {single.why}"
            table.add_row(single.gpu, "–", "–", cannot)
            continue
        running = str(sum(count for _, count in single.backends))
        ratio = _ratio(single.usd_per_hour, plan) if not plan.unserved else SERVES_LESS
        table.add_row(single.gpu, running, f"{single.usd_per_hour:.2f}", ratio)
    return table


def alternatives_table(plan: Plan, alternatives: Sequence[Alternative]) -> Table:
    """What the plan would be under each change."""
    table = _table("what if", "change")
    for column in ("$/h", "against the plan", "backends"):
        table.add_column(column, justify="right")
    for alternative in alternatives:
        changed = alternative.plan
        counts = zip(changed.pools, changed.backends, strict=True)
        fleet = " + ".join(f"{count} {name}" for name, count in counts if count) or "none"
        if changed.unserved_share:
            fleet += f"; {changed.unserved_share:.1%} unserved"
        alike = abs(changed.unserved_share - plan.unserved_share) < SAME_SHARE
        ratio = _ratio(changed.usd_per_hour, plan) if alike else "serves another share"
        table.add_row(alternative.change, f"{changed.usd_per_hour:.2f}", ratio, fleet)
    return table


def show_portfolio(portfolio: Portfolio, console: Console) -> None:
    """Print what to buy, and what that saves."""
    days = portfolio.hours / 24
    title = f"{portfolio.hours} hours ({days:.1f} days): ${portfolio.usd:,.0f}"
    table = _table(title, "GPU")
    for column in ("commit", "$", "on-demand GPU-h", "$", "spot GPU-h", "$"):
        table.add_column(column, justify="right")
    for line in portfolio.lines:
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
    console.print("\n".join(_savings(portfolio)), highlight=False)


def _savings(portfolio: Portfolio) -> list[str]:
    lines = [f"all on demand: ${portfolio.on_demand_usd:,.0f}; saving {portfolio.saving:.1%}"]
    if portfolio.single_usd is not None and portfolio.single_saving is not None:
        lines.append(
            f"{portfolio.single} alone, bought as well: ${portfolio.single_usd:,.0f}; "
            f"saving {portfolio.single_saving:.1%}"
        )
    if portfolio.unserved_share:
        lines.append(
            f"unserved in the busiest hour ({portfolio.peak_rate:.3g} req/s): "
            f"{portfolio.unserved_share:.1%}; see cuvee plan --rate {portfolio.peak_rate:.3g}"
        )
    return lines


def _bill_in_parts(plan: Plan, explanation: Explanation) -> str:
    """The lower bound and each part of the gap, which sum to the bill."""
    gap = explanation.gap
    parts = (
        ("tail", gap.tail),
        ("whole backends", gap.integrality),
        ("limits", gap.limits),
        ("switching", gap.switching),
        ("paid for already", gap.reserved),
    )
    terms = " + ".join(f"{name} {usd:.2f}" for name, usd in parts if abs(usd) >= CENT)
    return (
        f"lower bound ${gap.bound:.2f}/h{' + ' + terms if terms else ''} = "
        f"${plan.usd_per_hour:.2f}/h; solved in {plan.solve_s * 1e3:.0f} ms, "
        f"gap {plan.gap:.2%}"
    )


def _table(title: str, first: str) -> Table:
    table = Table(title=title)
    table.add_column(first, justify="left")
    return table


def _ratio(usd: float, plan: Plan) -> str:
    return f"{usd / plan.usd_per_hour:.2f} ×" if plan.usd_per_hour else "–"
