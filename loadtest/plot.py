"""The picture of a demo run: which GPU serves which request size, before and after. Pure output.

matplotlib is an extra: it is imported when a picture is asked for.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.verdict import Sighting

COLOURS = ("#2a9d8f", "#e9c46a", "#e76f51", "#264653", "#8ab17d", "#9b5de5")


class NoPicture(Exception):
    """matplotlib is not installed."""


def draw(plans: Sequence[Sighting], path: Path) -> None:
    """Draws every plan's buckets, each cell divided by the share of each pool.

    Cells without demand are pale. Raises NoPicture without matplotlib, OSError if it cannot write.
    """
    try:
        import matplotlib
    except ImportError:
        raise NoPicture("--plot needs matplotlib: pip install 'cuvee[plot]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(plans), figsize=(6.4 * len(plans), 5.2), sharey=True, squeeze=False
    )
    for number, (axis, plan) in enumerate(zip(axes[0], plans, strict=True), 1):
        _panel(axis, plan, number)
    axes[0][0].set_ylabel("output tokens, as estimated")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _panel(axis: Any, plan: Sighting, number: int) -> None:
    body = plan.body
    inputs, outputs = body["buckets"]["input_edges"], body["buckets"]["output_edges"]
    columns = len(outputs) - 1
    for bucket, (weights, rate) in enumerate(zip(body["weights"], body["rate"], strict=True)):
        row, column = divmod(bucket, columns)
        left = float(row)
        for pool, weight in enumerate(weights):
            if weight > 0:
                axis.add_patch(_cell(left, column, weight, pool, seen=rate > 0))
                left += weight
        if rate > 0:
            axis.text(row + 0.5, column + 0.5, f"{rate:.2g}/s", ha="center", va="center", size=8)
    for pool, name in enumerate(body["pools"]):
        label = f"{name} × {body['backends'][name]}"
        axis.add_patch(_cell(-9.0, 0, 1.0, pool, seen=True, label=label))
    axis.set(
        xlim=(0, len(inputs) - 1),
        ylim=(0, columns),
        xticks=range(len(inputs)),
        yticks=range(len(outputs)),
        xticklabels=inputs,
        yticklabels=outputs,
        xlabel="input tokens, as estimated",
    )
    when = f"from {plan.at_s:.0f} s" if plan.at_s else "from the start"
    axis.set_title(f"plan {number}, {when}: ${body['usd_per_hour']:.2f}/h")
    axis.legend(loc="upper left", fontsize=8, framealpha=0.9)


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
