"""What one exchange turned out to be. A value; who learns from it is not its business."""

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """How a request ended: whole, refused for lack of room, failed upstream, left by its client, or
    refused by the backend for the client's own mistake."""

    OK = "ok"
    SHED = "shed"
    FAILED = "failed"
    ABANDONED = "abandoned"
    REJECTED = "rejected"


class Observation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One accepted request: what was believed, what was done, what it turned out to be.

    Times in seconds from the request's arrival at the gateway. input_tokens, output_tokens: as
    reported by the backend, or counted; `None` where neither was possible. pool, backend, plan_id,
    decision: `None` if it was never routed. retries: backends that failed before it.
    """

    model: str
    key: str
    route: str
    stream: bool
    bucket: int
    prompt_bytes: int
    max_tokens: int | None
    estimated_input: int
    estimated_output: int
    exact_input: bool
    outcome: Outcome
    status: int
    duration_s: float
    ttft_s: float | None = None
    tpot_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    pool: str | None = None
    backend: str | None = None
    plan_id: str | None = None
    decision: str | None = None
    retries: int = 0
