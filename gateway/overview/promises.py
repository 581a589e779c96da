"""How the promises of the SLO classes are kept: numbers of requests, from what workers counted."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.telemetry.stats_schema import PoolStats
from planner.model.buckets import BEST_EFFORT

ByClass = Mapping[tuple[str, str, str], PoolStats]  # by model, SLO class and pool


class Kept(NamedTuple):
    """What became of the requests of one class: of those with a promise kept, missed, and refused
    for lack of room; all that ended; and their tokens."""

    kept: int = 0
    missed: int = 0
    refused: int = 0
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def plus(self, other: "Kept") -> "Kept":
        """The sum of both."""
        return Kept(*(a + b for a, b in zip(self, other, strict=True)))

    def minus(self, other: "Kept") -> "Kept":
        """What came on top of another one."""
        return Kept(*(a - b for a, b in zip(self, other, strict=True)))

    @property
    def attainment(self) -> float | None:
        """The share of the promises that was kept; `None` if there was none."""
        promised = self.kept + self.missed + self.refused
        return self.kept / promised if promised else None


def promises(by_class: ByClass) -> dict[tuple[str, str], Kept]:
    """By model and SLO class. Requests whose model left the configuration under them have no class
    and are left out."""
    found: dict[tuple[str, str], Kept] = {}
    for (model, slo_class, _), stats in by_class.items():
        if not slo_class:
            continue
        counts = {"yes": 0, "no": 0, "refused": 0}
        requests = 0
        for (_, _, met, _), number in stats.ends.items():
            requests += number
            if met in counts and slo_class != BEST_EFFORT:
                counts[met] += number
        own = Kept(
            counts["yes"],
            counts["no"],
            counts["refused"],
            requests,
            stats.input_tokens,
            stats.output_tokens,
        )
        found[model, slo_class] = found.get((model, slo_class), Kept()).plus(own)
    return found


def served_by_pool(by_class: ByClass) -> dict[tuple[str, str], int]:
    """Numbers of requests that were sent to a pool, by model and pool."""
    found: dict[tuple[str, str], int] = {}
    for (model, _, pool), stats in by_class.items():
        if pool:
            found[model, pool] = found.get((model, pool), 0) + sum(stats.ends.values())
    return found


def refusals(by_class: ByClass, without_bucket: Mapping[tuple[int, str], int]) -> dict[str, int]:
    """Numbers of refused requests by reason. without_bucket: of those that were answered with an
    error before their size was known, by status and reason."""
    found: dict[str, int] = {}
    for stats in by_class.values():
        for reason, number in stats.sheds.items():
            found[reason or "no room"] = found.get(reason or "no room", 0) + number
    for (status, reason), number in without_bucket.items():
        said = f"{status} {reason}"
        found[said] = found.get(said, 0) + number
    return found
