"""What an estimator has learned, and what a request teaches, as values that can be sent.

Apart from `estimator` because mypyc cannot compile a `msgspec.Struct`. Knows nothing of how they
are used.
"""

import msgspec


class Lesson(msgspec.Struct, frozen=True, array_like=True):
    """What one finished request teaches: what was believed, and what it turned out to be.

    estimated_input: tokens believed at arrival. prompt_bytes, max_tokens: of its body.
    input_tokens: as reported; `None`: not reported, or exact from the start, which teaches nothing.
    output_tokens: of a whole answer; `None`: the answer was cut, failed, or has no length.
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
    """Output lengths: every history once, and which of them each key means.

    histories: samples, oldest first. coarse: key and its history, the least recently used first.
    cells: finest key and its histories, finest first, the least recently used first.
    """

    histories: list[tuple[int, ...]]
    coarse: list[tuple[HistoryKey, int]]
    cells: list[tuple[HistoryKey, tuple[int, ...]]]


class EstimatorState(msgspec.Struct, frozen=True):
    """All that an estimator has learned."""

    tokens: list[TokenRatioState]
    lengths: LengthsState
