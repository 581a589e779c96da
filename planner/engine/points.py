"""Measured points of one backend: a steady load and the times at it, each checked.

Must not know engines, profiles or fits.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from planner.files import outside, refuse

# Bounds that a time in milliseconds, as most tools print it, does not keep: 2 s per token is half a
# word per second.
Tokens = Annotated[float, Meta(gt=0, le=1e8, description="in tokens, above 0")]
Load = Annotated[float, Meta(gt=0, le=1e6, description="above 0, at most a million")]
Tpot = Annotated[float, Meta(gt=0, le=2, description="in seconds, above 0 and at most 2")]
Ttft = Annotated[float, Meta(gt=0, le=600, description="in seconds, above 0 and at most 600")]


class Point(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One steady load on one backend, requests of one (mean) size.

    The load is `rate`, requests/s completed, or `batch`, sequences decoding at once. With a rate,
    prompts are prefilled between the decode steps and TPOT contains that. With a batch alone, all
    its prompts went in together at the start: TPOT is decode only, TTFT the prefill of them all.
    """

    input_tokens: Tokens
    output_tokens: Tokens
    batch: Load | None = None
    rate: Load | None = None
    tpot_s: Tpot | None = None
    ttft_s: Ttft | None = None

    @property
    def in_flight(self) -> float | None:
        """Sequences decoding at once: as stated, or by Little's law; `None` where unknown."""
        if self.batch is not None or self.rate is None or self.tpot_s is None:
            return self.batch
        return self.rate * self.output_tokens * self.tpot_s


def checked(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points, each of them usable. Raises InvalidValue, a line for each point and its key."""
    refuse(unusable(points))
    return tuple(points)


def unusable(points: Sequence[Point]) -> list[str]:
    """A line for each fault of the points, with the point and its key; none: they can be used."""
    problems = [] if points else ["points: at least one is needed"]
    seen: dict[tuple[float | None, ...], int] = {}
    for number, point in enumerate(points):
        where = f"points[{number}]"
        problems += [f"{where}.{line}" for line in outside(point)]
        if point.batch is None and point.rate is None:
            problems.append(f"{where}: a hole: its load is missing, give rate or batch")
        if point.tpot_s is None and point.ttft_s is None:
            problems.append(f"{where}: a hole: give tpot_s, ttft_s or both")
        key = (point.input_tokens, point.output_tokens, point.batch, point.rate)
        if key in seen:
            problems.append(f"{where}: the same size and load as points[{seen[key]}]")
        seen.setdefault(key, number)
    return problems
