"""Pictures of plans and of demo runs: which pool serves what, dollars, and promises kept.

Pure output. matplotlib is an extra: it is imported when a picture is asked for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.demo import headline
from loadtest.demo.race import Lane
from loadtest.demo.summary import DemoSummary
from planner.costs.curves import MIX, CostCurve
from planner.costs.explain import Explanation
from planner.model.plan import Plan
from planner.model.plan_json import plan_figures

# One colour for each GPU type in all pictures, and further ones for types that do not ship.
GPU_COLOURS = {
    "T4": "#b5838d",
    "L4": "#8ab17d",
    "A10G": "#2a9d8f",
    "L40S": "#90be6d",
    "RTX-4090": "#577590",
    "A100-40G": "#f4a261",
    "A100-80G": "#e9c46a",
    "H100": "#e76f51",
    "H200": "#c1121f",
    "B200": "#6a040f",
    "MI300X": "#9b5de5",
}
OTHER_COLOURS = ("#264653", "#4361ee", "#bc6c25", "#606c38")
WINDOW_S = 10.0  # of arrivals, over which a picture of a demo shows the share that kept the SLO
STEP_COLOUR = "#8d99ae"  # of a part of the bill, which is no GPU
PARTS = ("tail", "integrality", "limits", "switching", "reserved")


class NoPicture(Exception):
    """matplotlib is not installed."""


def draw(
    plan: Plan,
    explanation: Explanation,
    path: Path,
    *,
    gpus: Mapping[str, str],
    over_rate: tuple[CostCurve, ...],
    over_tpot: tuple[CostCurve, ...],
) -> None:
    """Draw four panels: GPU by request size, cost over rate, cost over TPOT target, cost in parts.

    The first panel shows the first SLO class. gpus: the GPU type of each pool. Raises NoPicture
    without matplotlib, OSError if the file cannot be written, ValueError for an ending that stands
    for no kind of picture.
    """
    pyplot = canvas()
    figure, axes = pyplot.subplots(2, 2, figsize=(12.8, 9.6))
    rate = sum(plan.rate)
    title = f"plan {plan.plan_id}: ${plan.usd_per_hour:.2f}/h at {rate:.3g} req/s"
    size_map(axes[0][0], plan_figures(plan), title, gpus)
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


def colour(gpu: str) -> str:
    """The colour of a GPU type, the same in every picture."""
    other = OTHER_COLOURS[sum(gpu.encode()) % len(OTHER_COLOURS)]
    return GPU_COLOURS.get(gpu, other)


def draw_demo(run: DemoSummary, path: Path) -> None:
    """Draw the dollars and the kept promises of every lane over time, and below them the size maps
    of the last plan before the turn and of the last plan.

    Raises NoPicture without matplotlib, OSError if the file cannot be written.
    """
    pyplot = canvas()
    figure, axes = pyplot.subplots(2, 2, figsize=(12.8, 9.2))
    lanes = [lane for lane in run.lanes if lane.fleets]
    for number, lane in enumerate(lanes):
        _lane(axes[0][0], axes[0][1], lane, run, number)
    for axis in axes[0]:
        axis.axvline(run.turn_s, color="black", linewidth=0.8, linestyle=":")
        axis.set_xlabel("seconds; dotted: the traffic turns")
        axis.grid(alpha=0.3)
    axes[0][0].set(title="dollars per hour", ylabel="$/h")
    axes[0][0].set_ylim(bottom=0)
    axes[0][0].legend(fontsize=8)
    axes[0][1].axhline(100 * run.slo.attainment, color="black", linewidth=0.8)
    axes[0][1].set(
        title=f"requests within the SLO, of those that came in {WINDOW_S:g} s", ylabel="%"
    )
    before = [plan for plan in run.plans if plan.at_s < run.turn_s]
    for axis, plan in zip(axes[1], [*before[-1:], *run.plans[-1:]], strict=False):
        when = f"from {plan.at_s:.0f} s" if plan.at_s else "from the start"
        title = f"the plan {when}: ${plan.body['usd_per_hour']:.2f}/h"
        size_map(axis, plan.body, title, run.gpus)
    axes[1][0].set_ylabel("output tokens, as estimated")
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=110)
    finally:
        pyplot.close(figure)


def _lane(dollars: Any, kept: Any, lane: Lane, run: DemoSummary, number: int) -> None:
    """Draw a lane's cost and its kept promises; the first one, which is Cuvée's, is black."""
    gpu = next((fleet.gpu for fleet in lane.fleets if fleet.gpu), None)
    look = {
        "color": "black" if number == 0 else "#888888" if gpu is None else colour(gpu),
        "linewidth": 2.4 if number == 0 else 1.6,
        "linestyle": "--" if lane.played else "-",
    }
    times = [*(fleet.from_s for fleet in lane.fleets), run.until_s]
    usd = [fleet.usd_per_hour for fleet in lane.fleets]
    note = " (virtual time)" if lane.played else ""
    dollars.step(times, [*usd, usd[-1]], where="post", label=headline.title(lane) + note, **look)
    last_s = max((request.arrival_s for request in lane.requests), default=0.0)
    shares = []
    for window in range(int(last_s // WINDOW_S) + 1):
        start_s = window * WINDOW_S
        met = [r.met for r in lane.requests if start_s <= r.arrival_s < start_s + WINDOW_S]
        if met:
            shares.append((start_s + WINDOW_S / 2, 100 * sum(met) / len(met)))
    kept.plot([at_s for at_s, _ in shares], [share for _, share in shares], marker="o", **look)


def canvas() -> Any:
    """matplotlib's pyplot, drawing to files. Raises NoPicture without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise NoPicture("--plot needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")  # draws into files: a server has no display
    from matplotlib import pyplot

    return pyplot


def size_map(axis: Any, body: Mapping[str, Any], title: str, gpus: Mapping[str, str]) -> None:
    """Draw every cell of the grid divided by the share of each pool; cells without demand are pale.

    body: a plan as `plan_figures` has it; of several SLO classes the first is drawn. gpus: the GPU
    type of each pool; a further pool of the same type is hatched.
    """
    types = [gpus.get(name, name) for name in body["pools"]]
    looks = [
        {"facecolor": colour(gpu), "hatch": "//" if gpu in types[:pool] else None}
        for pool, gpu in enumerate(types)
    ]
    inputs, outputs = body["buckets"]["input_edges"], body["buckets"]["output_edges"]
    rows, columns = len(inputs) - 1, len(outputs) - 1
    for bucket in range(rows * columns):
        row, column = divmod(bucket, columns)
        left, rate = float(row), body["rate"][bucket]
        for pool, weight in enumerate(body["weights"][bucket]):
            if weight > 0:
                axis.add_patch(_cell(left, column, weight, looks[pool], pale=rate == 0))
                left += weight
        if rate > 0:
            axis.text(row + 0.5, column + 0.5, f"{rate:.2g}/s", ha="center", va="center", size=8)
    used = [(pool, name) for pool, name in enumerate(body["pools"]) if body["backends"][name]]
    for pool, name in used:
        label = f"{name} × {body['backends'][name]}"
        axis.add_patch(
            _cell(-9.0, 0, 1.0, looks[pool], label=label)
        )  # out of sight: for the legend
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
    for curve in curves:
        mix = curve.name == MIX
        feasible = any(value is not None for value in curve.usd_per_hour)
        usd = [float("nan") if value is None else value for value in curve.usd_per_hour]
        axis.plot(
            curve.x,
            usd,
            marker="o",
            markersize=3.5,
            color="black" if mix else colour(curve.name),
            linewidth=2.4 if mix else 1.4,
            linestyle="--" if mix else "-",
            zorder=3 if mix else 2,
            label=curve.name if feasible else f"{curve.name}: cannot serve it all",
        )
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
        axis.bar(step, usd, bottom=total, color=STEP_COLOUR)
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
    look: Mapping[str, Any],
    *,
    pale: bool = False,
    label: str | None = None,
) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (left, bottom),
        width,
        1,
        **look,
        edgecolor="white",
        alpha=0.25 if pale else 0.95,
        label=label,
    )
