"""Pictures of plans: who serves what, and what it costs under other rates and promises.

Pure output. matplotlib is an extra: it is imported when a picture is asked for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.demo.summary import PlanSeen
from planner.costs.curves import MIX, CostCurve
from planner.costs.explain import Explanation
from planner.model.plan import Plan
from planner.model.plan_json import plan_figures

COLOURS = ("#2a9d8f", "#e9c46a", "#e76f51", "#264653", "#8ab17d", "#9b5de5")
PARTS = ("tail", "integrality", "limits", "switching", "reserved")


class NoPicture(Exception):
    """matplotlib is not installed."""


def draw(
    plan: Plan,
    explanation: Explanation,
    path: Path,
    *,
    over_rate: tuple[CostCurve, ...],
    over_tpot: tuple[CostCurve, ...],
) -> None:
    """Four panels: GPU by request size, cost over rate, cost over TPOT target, cost in parts.

    The first shows the first SLO class. Raises NoPicture without matplotlib, OSError or ValueError
    if it cannot write there or not that kind of file.
    """
    pyplot = canvas()
    figure, axes = pyplot.subplots(2, 2, figsize=(12.8, 9.6))
    rate = sum(plan.rate)
    title = f"plan {plan.plan_id}: ${plan.usd_per_hour:.2f}/h at {rate:.3g} req/s"
    size_map(axes[0][0], plan_figures(plan), title)
    axes[0][0].set_ylabel("output tokens, as estimated")
    _lines(axes[0][1], over_rate, "requests/s")
    axes[0][1].set_title("cost over rate, unlimited stock")
    if any(usd for curve in over_rate for usd in curve.usd_per_hour):
        axes[0][1].set_yscale("log", base=2)
    axes[0][1].yaxis.set_major_formatter("{x:.3g}")
    axes[0][1].minorticks_off()
    _lines(axes[1][0], over_tpot, "TPOT target, s")
    axes[1][0].set(title="cost over the TPOT target, unlimited stock")
    axes[1][0].set_ylim(0, 1.3 * axes[1][0].get_ylim()[1])
    _parts(axes[1][1], plan, explanation)
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=130)
    finally:
        pyplot.close(figure)


def draw_demo(plans: Sequence[PlanSeen], path: Path) -> None:
    """Draws every plan's buckets, each cell divided by the share of each pool.

    Raises NoPicture without matplotlib, OSError if it cannot write.
    """
    pyplot = canvas()
    figure, axes = pyplot.subplots(
        1, len(plans), figsize=(6.4 * len(plans), 5.2), sharey=True, squeeze=False
    )
    for number, (axis, plan) in enumerate(zip(axes[0], plans, strict=True), 1):
        when = f"from {plan.at_s:.0f} s" if plan.at_s else "from the start"
        title = f"plan {number}, {when}: ${plan.body['usd_per_hour']:.2f}/h"
        size_map(axis, plan.body, title)
    axes[0][0].set_ylabel("output tokens, as estimated")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def canvas() -> Any:
    """matplotlib's pyplot, drawing to files. Raises NoPicture without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise NoPicture("--plot needs matplotlib: pip install 'cuvee[plot]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def size_map(axis: Any, body: Mapping[str, Any], title: str) -> None:
    """Every cell of the grid divided by the share of each pool; cells without demand are pale.

    body: a plan as `plan_figures` has it; of several SLO classes the first is drawn.
    """
    inputs, outputs = body["buckets"]["input_edges"], body["buckets"]["output_edges"]
    rows, columns = len(inputs) - 1, len(outputs) - 1
    for bucket in range(rows * columns):
        row, column = divmod(bucket, columns)
        left, rate = float(row), body["rate"][bucket]
        for pool, weight in enumerate(body["weights"][bucket]):
            if weight > 0:
                axis.add_patch(_cell(left, column, weight, pool, seen=rate > 0))
                left += weight
        if rate > 0:
            axis.text(row + 0.5, column + 0.5, f"{rate:.2g}/s", ha="center", va="center", size=8)
    used = [(pool, name) for pool, name in enumerate(body["pools"]) if body["backends"][name]]
    for pool, name in used:
        label = f"{name} × {body['backends'][name]}"
        axis.add_patch(_cell(-9.0, 0, 1.0, pool, seen=True, label=label))
    axis.set(
        xlim=(0, rows),
        ylim=(0, columns),
        xticks=range(rows + 1),
        yticks=range(columns + 1),
        xticklabels=inputs,
        yticklabels=outputs,
        xlabel="input tokens, as estimated",
        title=title,
    )
    if used:
        axis.legend(loc="upper left", fontsize=8, framealpha=0.9)


def _lines(axis: Any, curves: tuple[CostCurve, ...], xlabel: str) -> None:
    others = 0
    for curve in curves:
        mix = curve.name == MIX
        able = any(value is not None for value in curve.usd_per_hour)
        usd = [float("nan") if value is None else value for value in curve.usd_per_hour]
        axis.plot(
            curve.x,
            usd,
            marker="o",
            markersize=3.5,
            color="black" if mix else COLOURS[others % len(COLOURS)],
            linewidth=2.4 if mix else 1.4,
            linestyle="--" if mix else "-",
            zorder=3 if mix else 2,
            label=curve.name if able else f"{curve.name}: cannot serve it all",
        )
        others += not mix
    axis.set_xscale("log", base=2)
    x = curves[0].x
    axis.set(xlabel=xlabel, ylabel="$/h", xticks=x, xticklabels=[f"{value:.3g}" for value in x])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def _parts(axis: Any, plan: Plan, explanation: Explanation) -> None:
    """The bill as a staircase from the bound, one step for each part of the gap."""
    gap = explanation.gap
    steps = [("lower bound", gap.bound), *((name, getattr(gap, name)) for name in PARTS)]
    foot = 0.0
    for place, (_, usd) in enumerate(steps):
        axis.bar(place, usd, bottom=foot, color=COLOURS[place % len(COLOURS)])
        axis.text(place, max(foot, foot + usd), f"{usd:.2f}", ha="center", va="bottom", size=9)
        foot += usd
    axis.bar(len(steps), plan.usd_per_hour, color="#555555")
    axis.text(len(steps), plan.usd_per_hour, f"{foot:.2f}", ha="center", va="bottom", size=9)
    axis.set(
        xticks=range(len(steps) + 1),
        xticklabels=[*(name for name, _ in steps), "bill"],
        ylabel="$/h",
        title="why it costs that",
    )
    axis.set_ylim(top=1.12 * max(foot, gap.bound, 1e-9))


def _cell(
    left: float, bottom: int, width: float, pool: int, *, seen: bool, label: str | None = None
) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (left, bottom),
        width,
        1,
        facecolor=COLOURS[pool % len(COLOURS)],
        edgecolor="white",
        alpha=0.95 if seen else 0.25,
        label=label,
    )
