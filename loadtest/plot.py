"""The picture of a demo run: which GPU serves which request size, before and after. Pure output."""

from collections.abc import Sequence
from pathlib import Path

from gateway.pictures import canvas, size_map
from loadtest.verdict import Sighting


def draw(plans: Sequence[Sighting], path: Path) -> None:
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
