"""How long an answer will be: quantiles of what similar requests got. Knows no backend and no plan.

Histories form a hierarchy: key × route × quarter octave of the input × log₂ max_tokens, then key ×
route × log₂ input, then route × log₂ input, then all of the model's. A history with n samples has
weight n/(n + 20) against the coarser one (shrinkage), so a new key starts at what its size usually
gets and moves to its own as it is seen.
"""

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from math import ceil, log2

WINDOW = 300  # samples a history remembers
QUARTERS = (
    4  # finest cells per doubling of the input: half the error of whole doublings on Azure 2023
)
SHRINKAGE = 20.0  # samples at which a history counts as much as the coarser one
HISTORIES = 20_000  # histories kept; the one longest without a sample is forgotten first
PRIOR = (128.0, 512.0)  # median and P90 before anything was seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Predicted output tokens: the median, and the ninetieth percentile."""

    median: int
    p90: int


class History:
    """The last `WINDOW` lengths, kept sorted."""

    __slots__ = ("_order", "_sorted")

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._sorted: list[int] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, tokens: int) -> None:
        self._order.append(tokens)
        insort(self._sorted, tokens)
        if len(self._order) > WINDOW:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]

    def quantile(self, share: float) -> int:
        """The smallest length that `share` of the samples do not exceed."""
        return self._sorted[max(0, ceil(share * len(self._sorted)) - 1)]


class Lengths:
    """Learned output lengths. Living state: outlives every plan and table."""

    def __init__(self) -> None:
        self._histories: OrderedDict[Hashable, History] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Lengths {len(self._histories)} histories>"

    def predict(
        self, model: str, key: str, route: str, input_tokens: int, max_tokens: int | None
    ) -> Length:
        """Median and P90 of the answer's tokens, capped by `max_tokens`."""
        median, p90 = PRIOR
        for level in reversed(_levels(model, key, route, input_tokens, max_tokens)):
            history = self._histories.get(level)
            if history:
                weight = len(history) / (len(history) + SHRINKAGE)
                median += weight * (history.quantile(0.5) - median)
                p90 += weight * (history.quantile(0.9) - p90)
        cap = float("inf") if max_tokens is None else max_tokens
        return Length(
            median=max(1, round(min(median, cap))), p90=max(1, round(min(max(p90, median), cap)))
        )

    def learn(
        self,
        model: str,
        key: str,
        route: str,
        input_tokens: int,
        max_tokens: int | None,
        output_tokens: int,
    ) -> None:
        """Takes in one finished answer."""
        for level in _levels(model, key, route, input_tokens, max_tokens):
            history = self._histories.get(level)
            if history is None:
                history = self._histories[level] = History()
                if len(self._histories) > HISTORIES:
                    self._histories.popitem(last=False)
            self._histories.move_to_end(level)
            history.add(output_tokens)


def _levels(
    model: str, key: str, route: str, input_tokens: int, max_tokens: int | None
) -> tuple[Hashable, ...]:
    """The histories that a request belongs to, finest first."""
    octave = input_tokens.bit_length()
    quarter = int(QUARTERS * log2(max(1, input_tokens)))
    cap = 0 if max_tokens is None else max_tokens.bit_length()
    return (
        (model, key, route, quarter, cap),
        (model, key, route, octave),
        (model, route, octave),
        (model,),
    )
