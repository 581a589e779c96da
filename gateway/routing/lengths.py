"""How long an answer will be: quantiles of what similar requests got. Knows no backend and no plan.

Histories form a hierarchy: key × route × quarter octave of the input × log₂ max_tokens, then key ×
route × log₂ input, then route × log₂ input, then all of the model's. A history with n samples has
weight n/(n + 20) against the coarser one (shrinkage), so a new key starts at what its size usually
gets and moves to its own as it is seen.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from math import ceil, log2

import msgspec

WINDOW = 300  # samples a history remembers
QUARTERS = (
    4  # finest cells per doubling of the input: half the error of whole doublings on Azure 2023
)
SHRINKAGE = 20.0  # samples at which a history counts as much as the coarser one
HISTORIES = 20_000  # histories kept; the one longest without a sample is forgotten first
LAG = 8  # quantiles are of all samples but the last eighth at most: sorting at each would cost more
PRIOR = (128.0, 512.0)  # median and P90 before anything was seen


class Length(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Predicted output tokens: the median, and the ninetieth percentile."""

    median: int
    p90: int


class History:
    """The last `WINDOW` lengths. median, p90: of most of them, see `LAG`."""

    __slots__ = ("_due", "_lengths", "median", "p90")

    def __init__(self) -> None:
        self._lengths: deque[int] = deque(maxlen=WINDOW)
        self._due = 0
        self.median = self.p90 = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, tokens: int) -> None:
        self._lengths.append(tokens)
        self._due -= 1
        if self._due <= 0:
            self._due = len(self._lengths) // LAG
            self.median, self.p90 = self.quantile(0.5), self.quantile(0.9)

    def quantile(self, share: float) -> int:
        """The smallest length that `share` of the samples do not exceed."""
        return sorted(self._lengths)[max(0, ceil(share * len(self._lengths)) - 1)]


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
                n = len(history)
                weight = n / (n + SHRINKAGE)
                median += weight * (history.median - median)
                p90 += weight * (history.p90 - p90)
        p90 = max(p90, median)
        if max_tokens is not None:
            median, p90 = min(median, max_tokens), min(p90, max_tokens)
        return Length(median=round(median) or 1, p90=round(p90) or 1)

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
