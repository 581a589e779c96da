"""What one exchange turned out to be. A value; who learns from it is not its business."""

from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a request ended: whole, refused for lack of room, failed upstream, left by its client, or
    refused by the backend for the client's own mistake."""

    OK = "ok"
    SHED = "shed"
    FAILED = "failed"
    ABANDONED = "abandoned"
    REJECTED = "rejected"


FIELDS = (
    "model", "key", "route", "stream", "bucket", "prompt_bytes", "max_tokens", "estimated_input",
    "estimated_output", "exact_input", "outcome", "status", "duration_s", "ttft_s", "tpot_s",
    "input_tokens", "output_tokens", "pool", "backend", "plan_id", "decision", "retries",
)  # fmt: skip


class Observation:
    """One accepted request: what was believed, what was done, what it turned out to be.

    Times in seconds from the request's arrival at the gateway. input_tokens, output_tokens: as
    reported by the backend, or counted; `None` where neither was possible. pool, backend, plan_id,
    decision: `None` if it was never routed. retries: backends that failed before it.
    """

    __slots__ = FIELDS

    def __init__(
        self,
        *,
        model: str,
        key: str,
        route: str,
        stream: bool,
        bucket: int,
        prompt_bytes: int,
        max_tokens: int | None,
        estimated_input: int,
        estimated_output: int,
        exact_input: bool,
        outcome: Outcome,
        status: int,
        duration_s: float,
        ttft_s: float | None = None,
        tpot_s: float | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        pool: str | None = None,
        backend: str | None = None,
        plan_id: str | None = None,
        decision: str | None = None,
        retries: int = 0,
    ) -> None:
        self.model = model
        self.key = key
        self.route = route
        self.stream = stream
        self.bucket = bucket
        self.prompt_bytes = prompt_bytes
        self.max_tokens = max_tokens
        self.estimated_input = estimated_input
        self.estimated_output = estimated_output
        self.exact_input = exact_input
        self.outcome = outcome
        self.status = status
        self.duration_s = duration_s
        self.ttft_s = ttft_s
        self.tpot_s = tpot_s
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.pool = pool
        self.backend = backend
        self.plan_id = plan_id
        self.decision = decision
        self.retries = retries

    def __repr__(self) -> str:
        return f"<Observation {self.model} {self.outcome} {self.status}, bucket {self.bucket}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """It travels between processes."""
        return _again, ({name: getattr(self, name) for name in FIELDS},)


def _again(fields: dict[str, Any]) -> Observation:
    return Observation(**fields)
