"""How long an answer will be: quantiles of what similar requests got. Knows no backend and no plan.

Histories form a hierarchy: key × route × quarter octave of the input × log₂ max_tokens, then key ×
route × log₂ input, then route × log₂ input, then all of the model's. A history with n samples has
weight n/(n + 20) against the coarser one (shrinkage), so a new key starts at what its size usually
gets and moves to its own as it is seen.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from math import ceil, log2
from typing import Final

from gateway.routing.estimate import PredictedLength

WINDOW: Final = 300  # samples a history remembers
QUARTERS: Final = 4  # finest cells per doubling of the input: half the error of whole doublings
SHRINKAGE: Final = 20.0  # samples at which a history counts as much as the coarser one
HISTORIES: Final = 20_000  # histories kept; the one longest without a sample is forgotten first
LAG: Final = 8  # quantiles are of all samples but the last eighth: sorting at each would cost more
PRIOR = (128.0, 512.0)  # median and P90 before anything was seen


class LengthHistory:
    """The last `WINDOW` lengths. median, p90: of most of them, see `LAG`."""

    __slots__ = ("_due", "_lengths", "median", "p90")

    def __init__(self, lengths: Iterable[int] = ()) -> None:
        self._lengths: deque[int] = deque(lengths, maxlen=WINDOW)
        self._due = 0
        self.median = self.p90 = 0
        if self._lengths:
            self._look()

    def __reduce__(self) -> tuple[type["LengthHistory"], tuple[tuple[int, ...]]]:
        return LengthHistory, (tuple(self._lengths),)

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, tokens: int) -> None:
        self._lengths.append(tokens)
        self._due -= 1
        if self._due <= 0:
            self._look()

    def quantile(self, share: float) -> int:
        """The smallest length that `share` of the samples do not exceed."""
        return _quantile(sorted(self._lengths), share)

    def _look(self) -> None:
        ordered = sorted(self._lengths)
        self._due = len(ordered) // LAG
        self.median, self.p90 = _quantile(ordered, 0.5), _quantile(ordered, 0.9)


def _quantile(ordered: list[int], share: float) -> int:
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


class LengthCell:
    """The finest history of some requests, the coarser ones behind it, and what all say together.

    That is kept between two predictions until it has learned enough for it to matter.
    """

    __slots__ = ("_due", "_histories", "_length")

    def __init__(self, histories: tuple[LengthHistory, ...]) -> None:
        """histories: the finest of them first."""
        self._histories = histories
        self._length: PredictedLength | None = None
        self._due = 0

    def __reduce__(self) -> tuple[type["LengthCell"], tuple[tuple[LengthHistory, ...]]]:
        return LengthCell, (self._histories,)

    @property
    def length(self) -> PredictedLength:
        if self._length is None or self._due <= 0:
            self._length = blended(self._histories)
            known = len(self._histories[0])
            self._due = known // LAG if known >= SHRINKAGE else 0
        return self._length

    def add(self, tokens: int) -> None:
        self._due -= 1
        for history in self._histories:
            history.add(tokens)


def blended(histories: tuple[LengthHistory, ...]) -> PredictedLength:
    """Every history, the finest first, moves the belief of the coarser ones by its weight."""
    median, p90 = PRIOR
    for history in reversed(histories):
        n = len(history)
        weight = n / (n + SHRINKAGE)
        median += weight * (history.median - median)
        p90 += weight * (history.p90 - p90)
    return PredictedLength(median=round(median) or 1, p90=round(max(p90, median)) or 1)


class OutputLengths:
    """Learned output lengths. Living state: outlives every plan and table."""

    def __init__(
        self,
        cells: OrderedDict[Hashable, LengthCell] | None = None,
        coarse: OrderedDict[Hashable, LengthHistory] | None = None,
    ) -> None:
        """cells, coarse: what is known already, the least recent first."""
        self._cells = OrderedDict() if cells is None else cells
        self._coarse = OrderedDict() if coarse is None else coarse

    def __reduce__(self) -> tuple[type["OutputLengths"], tuple[object, ...]]:
        return OutputLengths, (self._cells, self._coarse)

    def __repr__(self) -> str:
        return f"<OutputLengths {len(self._cells)} histories>"

    def predict(
        self, model: str, key: str, route: str, input_tokens: int, max_tokens: int | None
    ) -> PredictedLength:
        """Median and P90 of the answer's tokens, capped by `max_tokens`."""
        cell = self._cells.get(_finest(model, key, route, input_tokens, max_tokens))
        if cell is not None:
            length = cell.length
        else:
            found = (self._coarse.get(k) for k in _coarser(model, key, route, input_tokens))
            length = blended(tuple(history for history in found if history is not None))
        if max_tokens is None or length.p90 <= max_tokens:
            return length
        return PredictedLength(median=min(length.median, max_tokens), p90=max_tokens)

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
        finest = _finest(model, key, route, input_tokens, max_tokens)
        cell = self._cells.get(finest)
        if cell is None:
            keys = _coarser(model, key, route, input_tokens)
            cell = self._cells[finest] = LengthCell((LengthHistory(), *map(self._history, keys)))
            if len(self._cells) > HISTORIES:
                self._cells.popitem(last=False)
        self._cells.move_to_end(finest)
        cell.add(output_tokens)

    def _history(self, key: Hashable) -> LengthHistory:
        """A coarser history; the one that served no new cell for longest is forgotten first."""
        history = self._coarse.get(key)
        if history is None:
            history = self._coarse[key] = LengthHistory()
            if len(self._coarse) > HISTORIES:
                self._coarse.popitem(last=False)
        self._coarse.move_to_end(key)
        return history


def _finest(
    model: str, key: str, route: str, input_tokens: int, max_tokens: int | None
) -> Hashable:
    cap = 0 if max_tokens is None else max_tokens.bit_length()
    return model, key, route, int(QUARTERS * log2(input_tokens or 1)), cap


def _coarser(model: str, key: str, route: str, input_tokens: int) -> tuple[Hashable, ...]:
    """The other histories that a request belongs to, finest first."""
    octave = input_tokens.bit_length()
    return (model, key, route, octave), (model, route, octave), (model,)
