"""Predicts output lengths from the lengths of similar requests. Knows no backend and no plan.

Histories form a hierarchy: caller × endpoint × quarter octave of the input × log₂ max_tokens, then
caller × endpoint × log₂ input, then endpoint × log₂ input, then all requests of the model. A
history with n samples has weight n/(n + 20) against the next coarser one (shrinkage), so that a new
caller starts at the usual length for its input size and moves to its own lengths as they are
observed.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from math import ceil, log2
from typing import Final

from gateway.routing.estimate import PredictedLength
from gateway.routing.estimator_schema import HistoryKey, LengthsState

WINDOW: Final = 300  # samples that a history keeps
QUARTERS: Final = 4  # finest cells per doubling of the input; whole doublings have twice the error
SHRINKAGE: Final = 20.0  # samples at which a history counts as much as the coarser one
HISTORIES: Final = 20_000  # histories kept; the least recently used one is dropped first
LAG: Final = 8  # quantiles are computed again after n/8 new samples: sorting is what costs
# Median and P90 before the first sample, tokens. Two constants, because mypyc 2.4 never sets a
# Final tuple of floats.
PRIOR_MEDIAN: Final = 128.0
PRIOR_P90: Final = 512.0


class LengthHistory:
    """The last `WINDOW` lengths of one history. median, p90: as of the last computation, see
    `LAG`."""

    __slots__ = ("_lengths", "_new", "median", "p90")

    def __init__(self, lengths: Iterable[int] = ()) -> None:
        self._lengths: deque[int] = deque(lengths, maxlen=WINDOW)
        self._new = 0  # samples until the quantiles are computed again
        self.median = self.p90 = 0
        if self._lengths:
            self._take_quantiles()

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, tokens: int) -> None:
        """Add the length of one answer."""
        self._lengths.append(tokens)
        self._new -= 1
        if self._new <= 0:
            self._take_quantiles()

    @property
    def samples(self) -> tuple[int, ...]:
        """The lengths, oldest first."""
        return tuple(self._lengths)

    def _take_quantiles(self) -> None:
        ordered = sorted(self._lengths)
        self._new = len(ordered) // LAG
        self.median, self.p90 = _quantile(ordered, 0.5), _quantile(ordered, 0.9)


def _quantile(ordered: list[int], share: float) -> int:
    """The smallest length that at least this share of the samples do not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


class LengthCell:
    """The finest history of some requests and the coarser histories behind it.

    Their blend is computed again when the finest history has grown by an eighth.
    """

    __slots__ = ("_length", "_new", "histories")

    def __init__(self, histories: tuple[LengthHistory, ...]) -> None:
        """histories: the finest first."""
        self.histories = histories
        self._length: PredictedLength | None = None
        self._new = 0  # samples until the blend is computed again

    @property
    def length(self) -> PredictedLength:
        """The prediction for requests of this cell."""
        if self._length is None or self._new <= 0:
            self._length = blended(self.histories)
            known = len(self.histories[0])
            # A young history moves the blend with every sample, so it is never kept for later.
            self._new = known // LAG if known >= SHRINKAGE else 0
        return self._length

    def add(self, tokens: int) -> None:
        """Add the length of one answer to all histories."""
        self._new -= 1
        for history in self.histories:
            history.add(tokens)


def blended(histories: tuple[LengthHistory, ...]) -> PredictedLength:
    """Blend the quantiles of several histories, the finest first.

    Starts at the prior; each finer history moves the result towards its own quantiles by its weight
    n/(n + 20).
    """
    median, p90 = PRIOR_MEDIAN, PRIOR_P90
    for history in reversed(histories):
        n = len(history)
        weight = n / (n + SHRINKAGE)
        median += weight * (history.median - median)
        p90 += weight * (history.p90 - p90)
    return PredictedLength(median=round(median) or 1, p90=round(max(p90, median)) or 1)


class OutputLengths:
    """The learned output lengths of one process; outlives every plan and table."""

    def __init__(self) -> None:
        self._cells: OrderedDict[HistoryKey, LengthCell] = OrderedDict()
        self._coarse: OrderedDict[HistoryKey, LengthHistory] = OrderedDict()

    def __repr__(self) -> str:
        return f"<OutputLengths {len(self._cells)} histories>"

    def predict(
        self, model: str, caller: str, endpoint: str, input_tokens: int, max_tokens: int | None
    ) -> PredictedLength:
        """Predict the output tokens of a request; never more than its `max_tokens`."""
        cell = self._cells.get(_finest(model, caller, endpoint, input_tokens, max_tokens))
        if cell is not None:
            length = cell.length
        else:
            keys = _coarser(model, caller, endpoint, input_tokens)
            known = [self._coarse.get(key) for key in keys]
            length = blended(tuple(history for history in known if history is not None))
        # Most answers end before max_tokens, so it is a bound of the prediction and no prediction.
        if max_tokens is None or length.p90 <= max_tokens:
            return length
        return PredictedLength(median=min(length.median, max_tokens), p90=max_tokens)

    def learn(
        self,
        model: str,
        caller: str,
        endpoint: str,
        input_tokens: int,
        max_tokens: int | None,
        output_tokens: int,
    ) -> None:
        """Learn the length of one finished answer."""
        finest = _finest(model, caller, endpoint, input_tokens, max_tokens)
        cell = self._cells.get(finest)
        if cell is None:
            keys = _coarser(model, caller, endpoint, input_tokens)
            cell = LengthCell((LengthHistory(), *map(self._history, keys)))
            self._cells[finest] = cell
            if len(self._cells) > HISTORIES:
                self._cells.popitem(last=False)
        # In the order of learning, not of predicting: requests that are only shed teach nothing,
        # and must not keep a history alive.
        self._cells.move_to_end(finest)
        cell.add(output_tokens)

    def state(self, most: int = HISTORIES) -> LengthsState:
        """All histories as a value that can be sent to another process. most: of each kind, those
        used last."""
        places: dict[int, int] = {}
        histories: list[tuple[int, ...]] = []

        def place(history: LengthHistory) -> int:
            """The index of a history, added once: cells share their coarser histories."""
            if id(history) not in places:
                places[id(history)] = len(histories)
                histories.append(history.samples)
            return places[id(history)]

        coarse = [(key, place(history)) for key, history in list(self._coarse.items())[-most:]]
        last = list(self._cells.items())[-most:]
        cells = [(key, tuple(map(place, cell.histories))) for key, cell in last]
        return LengthsState(histories=histories, coarse=coarse, cells=cells)

    def restore(self, state: LengthsState) -> None:
        """Replace all histories by those of another process."""
        histories = [LengthHistory(samples) for samples in state.histories]
        self._coarse = OrderedDict((key, histories[place]) for key, place in state.coarse)
        self._cells = OrderedDict(
            (key, LengthCell(tuple(histories[place] for place in places)))
            for key, places in state.cells
        )

    def _history(self, key: HistoryKey) -> LengthHistory:
        """A coarser history, made if there is none; the least recently used one is dropped for
        it."""
        history = self._coarse.get(key)
        if history is None:
            history = self._coarse[key] = LengthHistory()
            if len(self._coarse) > HISTORIES:
                self._coarse.popitem(last=False)
        self._coarse.move_to_end(key)
        return history


def _finest(
    model: str, caller: str, endpoint: str, input_tokens: int, max_tokens: int | None
) -> HistoryKey:
    # Clients of one kind send one max_tokens, which tells them apart where they share a key.
    cap = 0 if max_tokens is None else max_tokens.bit_length()
    return model, caller, endpoint, int(QUARTERS * log2(input_tokens or 1)), cap


def _coarser(model: str, caller: str, endpoint: str, input_tokens: int) -> tuple[HistoryKey, ...]:
    """The keys of the coarser histories of a request, the finest first."""
    octave = input_tokens.bit_length()
    return (model, caller, endpoint, octave), (model, endpoint, octave), (model,)
