"""The state of an estimator and its lessons, as values that can be sent to another process.

They are not in `estimator` because mypyc cannot compile a `msgspec.Struct`.
"""

import msgspec


class Lesson(msgspec.Struct, frozen=True, array_like=True):
    """The actual sizes of one finished request, beside its estimate.

    estimated_input: tokens. prompt_bytes, max_tokens: of its body. input_tokens: as the backend
    reported; `None` if it did not, or if the prompt came as token ids. output_tokens: of a whole
    answer; `None` if the answer was cut or failed, or if the endpoint generates none.
    """

    model: str
    caller: str
    endpoint: str
    prompt_bytes: int
    max_tokens: int | None
    estimated_input: int
    input_tokens: int | None
    output_tokens: int | None


class TokenRatioState(msgspec.Struct, frozen=True):
    """Bytes per token of one model on one endpoint."""

    model: str
    endpoint: str
    whole: float
    by_size: dict[int, float]


HistoryKey = tuple[str | int, ...]


class LengthsState(msgspec.Struct, frozen=True):
    """Output lengths: every history once, and the keys with the indexes of their histories.

    histories: samples, the oldest first. coarse: key and index of its history, the least recently
    used first. cells: finest key and indexes of its histories, the finest first; the least recently
    used cell first.
    """

    histories: list[tuple[int, ...]]
    coarse: list[tuple[HistoryKey, int]]
    cells: list[tuple[HistoryKey, tuple[int, ...]]]


class EstimatorState(msgspec.Struct, frozen=True):
    """All that an estimator has learned."""

    tokens: list[TokenRatioState]
    lengths: LengthsState
