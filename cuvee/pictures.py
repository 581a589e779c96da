"""Pictures of plans: which pool serves what, and what it costs at other rates and TPOT targets.

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
    """Draw four panels: GPU by request size, cost over rate, cost over TPOT target, cost in parts.

    The first panel shows the first SLO class. Raises NoPicture without matplotlib, OSError if the
    file cannot be written, ValueError for an ending that stands for no kind of picture.
    """
    pyplot = canvas()
    figure, axes = pyplot.subplots(2, 2, figsize=(12.8, 9.6))
    rate = sum(plan.rate)
    title = f"plan {plan.plan_id}: ${plan.usd_per_hour:.2f}/h at {rate:.3g} req/s"
    size_map(axes[0][0], plan_figures(plan), title)
    axes[0][0].set_ylabel("output tokens, as estimated")
    _lines(axes[0][1], over_rate, "requests/s")
    axes[0][1].set_title("cost over rate, unlimited stock")
    # A logarithmic axis cannot show a cost of zero alone.
    if any(usd for curve in over_rate for usd in curve.usd_per_hour):
        axes[0][1].set_yscale("log", base=2)
    axes[0][1].yaxis.set_major_formatter("{x:.3g}")
    axes[0][1].minorticks_off()
    _lines(axes[1][0], over_tpot, "TPOT target, s")
    axes[1][0].set(title="cost over the TPOT target, unlimited stock")
    axes[1][0].set_ylim(0, 1.3 * axes[1][0].get_ylim()[1])  # room for the legend
    _staircase(axes[1][1], plan, explanation)
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=130)
    finally:
        pyplot.close(figure)  # pyplot keeps every figure alive until it is closed


def draw_demo(plans: Sequence[PlanSeen], path: Path) -> None:
    """Draw the size map of every plan of a demo run, side by side.

    Raises NoPicture without matplotlib, OSError if the file cannot be written.
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
        raise NoPicture("--plot needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")  # draws into files: a server has no display
    from matplotlib import pyplot

    return pyplot


def size_map(axis: Any, body: Mapping[str, Any], title: str) -> None:
    """Draw every cell of the grid divided by the share of each pool; cells without demand are pale.

    body: a plan as `plan_figures` has it; of several SLO classes the first is drawn.
    """
    inputs, outputs = body["buckets"]["input_edges"], body["buckets"]["output_edges"]
    rows, columns = len(inputs) - 1, len(outputs) - 1
    for bucket in range(rows * columns):
        row, column = divmod(bucket, columns)
        left, rate = float(row), body["rate"][bucket]
        for pool, weight in enumerate(body["weights"][bucket]):
            if weight > 0:
                axis.add_patch(_cell(left, column, weight, pool, pale=rate == 0))
                left += weight
        if rate > 0:
            axis.text(row + 0.5, column + 0.5, f"{rate:.2g}/s", ha="center", va="center", size=8)
    used = [(pool, name) for pool, name in enumerate(body["pools"]) if body["backends"][name]]
    for pool, name in used:
        label = f"{name} × {body['backends'][name]}"
        axis.add_patch(_cell(-9.0, 0, 1.0, pool, label=label))  # out of sight: for the legend
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
    """Draw cost curves: the mix black and dashed, every single GPU type in a colour."""
    others = 0
    for curve in curves:
        mix = curve.name == MIX
        feasible = any(value is not None for value in curve.usd_per_hour)
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
            label=curve.name if feasible else f"{curve.name}: cannot serve it all",
        )
        others += not mix
    axis.set_xscale("log", base=2)
    x = curves[0].x
    axis.set(xlabel=xlabel, ylabel="$/h", xticks=x, xticklabels=[f"{value:.3g}" for value in x])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def _staircase(axis: Any, plan: Plan, explanation: Explanation) -> None:
    """Draw the bill as a staircase from the bound, one step for each part of the gap."""
    gap = explanation.gap
    steps = [("lower bound", gap.bound), *((name, getattr(gap, name)) for name in PARTS)]
    total = 0.0
    for step, (_, usd) in enumerate(steps):
        axis.bar(step, usd, bottom=total, color=COLOURS[step % len(COLOURS)])
        axis.text(step, max(total, total + usd), f"{usd:.2f}", ha="center", va="bottom", size=9)
        total += usd
    axis.bar(len(steps), plan.usd_per_hour, color="#555555")
    axis.text(len(steps), plan.usd_per_hour, f"{total:.2f}", ha="center", va="bottom", size=9)
    axis.set(
        xticks=range(len(steps) + 1),
        xticklabels=[*(name for name, _ in steps), "bill"],
        ylabel="$/h",
        title="why it costs that",
    )
    axis.set_ylim(top=1.12 * max(total, gap.bound, 1e-9))


def _cell(
    left: float,
    bottom: int,
    width: float,
    pool: int,
    *,
    pale: bool = False,
    label: str | None = None,
) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (left, bottom),
        width,
        1,
        facecolor=COLOURS[pool % len(COLOURS)],
        edgecolor="white",
        alpha=0.25 if pale else 0.95,
        label=label,
    )
