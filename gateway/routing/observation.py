"""What became of one request. A value; knows neither statistics nor estimator."""

from enum import StrEnum
from typing import Final

from gateway.routing.endpoints import Endpoint
from gateway.routing.estimator_schema import Lesson

NO_BUCKET: Final = -1  # in place of a bucket: the model left the configuration under the request


class Outcome(StrEnum):
    """How a request ended.

    OK: with a whole answer. SHED: refused for lack of room. FAILED: a backend or the gateway
    failed. ABANDONED: the client closed its connection. REJECTED: refused because of the client's
    mistake.
    """

    OK = "ok"
    SHED = "shed"
    FAILED = "failed"
    ABANDONED = "abandoned"
    REJECTED = "rejected"


class Observation:
    """One accepted request: its estimate, the decision, and the actual values.

    caller: id of the caller. exact_input: whether the prompt came as token ids, so that its
    estimate was exact and teaches nothing. input_tokens, output_tokens: as the backend reported, or
    counted; `None` if neither. duration_s, ttft_s: from the arrival at the gateway. pool, backend,
    plan_id, decision: of the last attempt; `None` if the request was never routed. retries:
    attempts after the first.

    A plain class instead of a frozen dataclass: compiled code makes one per request.
    """

    __slots__ = (
        "backend", "bucket", "caller", "decision", "duration_s", "endpoint", "estimated_input",
        "estimated_output", "exact_input", "input_tokens", "max_tokens", "model", "outcome",
        "output_tokens", "plan_id", "pool", "prompt_bytes", "request_id", "retries", "status",
        "stream", "tpot_s", "ttft_s",
    )  # fmt: skip

    def __init__(
        self,
        *,
        model: str,
        caller: str,
        endpoint: Endpoint,
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
        request_id: bytes = b"",
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
        self.caller = caller
        self.endpoint = endpoint
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
        self.request_id = request_id
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

    def lesson(self) -> Lesson:
        """The sizes from which an estimator learns: no output tokens of an answer that was cut, no
        input tokens of a prompt that came as token ids."""
        whole = self.outcome is Outcome.OK and self.endpoint.generates
        return Lesson(
            model=self.model,
            caller=self.caller,
            endpoint=self.endpoint.name,
            prompt_bytes=self.prompt_bytes,
            max_tokens=self.max_tokens,
            estimated_input=self.estimated_input,
            input_tokens=None if self.exact_input else self.input_tokens,
            output_tokens=self.output_tokens if whole else None,
        )

    def log_line(self) -> dict[str, object]:
        """All fields for a log, in JSON's types: no header, no body, no credentials."""
        return {
            "request_id": self.request_id.decode("latin-1"),
            "model": self.model,
            "caller": self.caller,
            "endpoint": self.endpoint.name,
            "stream": self.stream,
            "outcome": self.outcome.value,
            "status": self.status,
            "bucket": self.bucket,
            "plan": self.plan_id,
            "pool": self.pool,
            "backend": self.backend,
            "decision": self.decision,
            "retries": self.retries,
            "input_tokens": self.input_tokens,
            "estimated_input": self.estimated_input,
            "output_tokens": self.output_tokens,
            "estimated_output": self.estimated_output,
            "max_tokens": self.max_tokens,
            "ttft_s": self.ttft_s,
            "tpot_s": self.tpot_s,
            "duration_s": self.duration_s,
        }
