"""The state of an estimator and its lessons, as values that can be sent to another process.

They are not in `estimator` because mypyc cannot compile a `msgspec.Struct`.
"""

import msgspec


class Lesson(msgspec.Struct, frozen=True, array_like=True):
    """The actual sizes of one finished request, beside its estimate.

    estimated_input: tokens of one prompt. prompt_bytes, units, wide, payload, max_tokens: of its
    body, see `LlmRequest`. input_tokens: of all prompts, as the backend reported; `None` if it did
    not, or if the prompts came as token ids. output_tokens: of one of its answers; `None` if the
    answer was cut or failed, or if the endpoint generates none. least_input: tokens that the
    prompts have at least, as a backend said that refused them for their length. counted: tokens of
    their text by the model's tokenizer, `None` where they were estimated.
    """

    model: str
    caller: str
    endpoint: str
    prompt_bytes: int
    max_tokens: int | None
    estimated_input: int
    input_tokens: int | None
    output_tokens: int | None
    units: int = 0
    wide: bool = False
    payload: tuple[tuple[str, int], ...] = ()
    least_input: int | None = None
    counted: int | None = None


class TokenFitState(msgspec.Struct, frozen=True):
    """What a line of `token_fit` is made of. key: model and endpoint, then caller, then size."""

    key: tuple[str | int, ...]
    sums: tuple[float, ...]


class PayloadState(msgspec.Struct, frozen=True):
    """Tokens of one thing of a kind that is no text."""

    model: str
    kind: str
    tokens: float


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
    """All that an estimator has learned. counts: the lines from tokens that a tokenizer counts to
    those that engines report."""

    tokens: list[TokenFitState]
    lengths: LengthsState
    payload: list[PayloadState]
    counts: list[TokenFitState] = []
