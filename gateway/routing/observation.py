"""What became of one request. A value; knows neither statistics nor estimator."""

from enum import StrEnum
from typing import Final

from gateway.routing.endpoints import Endpoint
from gateway.routing.estimator_schema import Lesson
from gateway.routing.trace_context import TraceContext
from planner.model.buckets import DEFAULT

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


OK: Final = Outcome.OK
SHED: Final = Outcome.SHED
FAILED: Final = Outcome.FAILED
ABANDONED: Final = Outcome.ABANDONED
REJECTED: Final = Outcome.REJECTED


class Observation:
    """One accepted request: its estimate, the decision, and the actual values.

    caller: id of the caller. asked: the model's name in the request, also an alias or an adapter;
    `None` if it had none. prompt_bytes, units, wide, payload, prompts, answers, width, counted: as
    of `LlmRequest`. estimated_input, estimated_output: tokens of one prompt and of one answer.
    exact_input: whether the prompt came as token ids, so that its estimate was exact and teaches
    nothing. least_input: tokens that the prompts have at least, as a backend said that refused them
    for their length; `None` if none did. input_tokens, output_tokens: of all its prompts and
    answers, as the backend reported, or counted; `None` if neither. cached_tokens: of the input,
    that the engine had computed for an earlier request; `None` if it does not say. reason: of the
    error that the client got. waited_s: for its turn, `None` if it was placed or refused at once.
    arrival_s: on the gateway's clock. duration_s, ttft_s: from the arrival at the gateway; TTFT is
    `None` where no first token was seen, as in most answers that do not stream. in_flight:
    sequences on its backend meanwhile, on average; `None` unless it was sent there once, for one
    answer. beside: the same at its last backend, however often it was sent; 0 if to none. pool,
    backend, plan_id, decision: of the last attempt; `None` if the request was never
    routed. retries: attempts after the first. trace: of a request that is traced, else `None`.

    A plain class instead of a frozen dataclass: compiled code makes one per request.
    """

    __slots__ = (
        "answers", "arrival_s", "asked", "backend", "beside", "bucket", "cached_tokens", "caller",
        "counted", "decision", "duration_s", "endpoint", "estimated_input", "estimated_output",
        "exact_input",
        "in_flight", "input_tokens", "least_input", "max_tokens", "model", "outcome",
        "output_tokens", "payload", "plan_id", "pool", "prompt_bytes", "prompts", "reason",
        "request_id", "retries", "slo_class", "status", "stream", "tpot_s", "trace", "ttft_s",
        "units", "waited_s", "wide", "width",
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
        reason: str | None = None,
        arrival_s: float = 0.0,
        slo_class: str = DEFAULT,
        request_id: bytes = b"",
        waited_s: float | None = None,
        ttft_s: float | None = None,
        tpot_s: float | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_tokens: int | None = None,
        in_flight: float | None = None,
        pool: str | None = None,
        backend: str | None = None,
        plan_id: str | None = None,
        decision: str | None = None,
        retries: int = 0,
        least_input: int | None = None,
        units: int = 0,
        wide: bool = False,
        payload: tuple[tuple[str, int], ...] = (),
        prompts: int = 1,
        answers: int = 1,
        width: int = 1,
        asked: str | None = None,
        counted: int | None = None,
        beside: float = 0.0,
        trace: TraceContext | None = None,
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
        self.reason = reason
        self.arrival_s = arrival_s
        self.slo_class = slo_class
        self.request_id = request_id
        self.waited_s = waited_s
        self.ttft_s = ttft_s
        self.tpot_s = tpot_s
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.cached_tokens = cached_tokens
        self.in_flight = in_flight
        self.pool = pool
        self.backend = backend
        self.plan_id = plan_id
        self.decision = decision
        self.retries = retries
        self.least_input = least_input
        self.units = units
        self.wide = wide
        self.payload = payload
        self.prompts = prompts
        self.answers = answers
        self.width = width
        self.asked = asked
        self.counted = counted
        self.beside = beside
        self.trace = trace

    def __repr__(self) -> str:
        return f"<Observation {self.model} {self.outcome} {self.status}, bucket {self.bucket}>"

    def met(self, ttft_s: float, tpot_s: float) -> str:
        """Whether the promise of these targets was kept: `yes`, `no`, `refused` (for lack of room),
        `unknown`, or empty where no promise holds: after a mistake of the client.

        An answer that does not stream shows no first token; the two targets then come to one for
        the whole answer, TTFT + TPOT · (tokens - 1). It is unknown whether the promise was kept if
        the engine did not count the tokens of such an answer, or if the client left before its
        request was late.
        """
        outcome, first_s = self.outcome, self.ttft_s
        if outcome is REJECTED:
            return ""
        if outcome is SHED or outcome is FAILED:
            return "refused" if outcome is SHED else "no"
        streamed = first_s is not None or self.stream
        waited_s = self.duration_s if first_s is None else first_s
        late = waited_s > ttft_s or (self.tpot_s or 0.0) > tpot_s
        if outcome is ABANDONED:
            return "no" if late and streamed else "unknown"
        tokens = self.answer_tokens
        if not late or streamed:
            return "no" if late else "yes"
        if not tokens:
            return "unknown"
        return "yes" if waited_s <= ttft_s + tpot_s * (tokens - 1) else "no"

    @property
    def answer_tokens(self) -> int | None:
        """Tokens of one answer, the mean of all; `None` where they are not known."""
        if self.output_tokens is None or self.answers == 1:
            return self.output_tokens
        return round(self.output_tokens / self.answers)

    @property
    def stay_s(self) -> float | None:
        """Seconds from the placement of the request to its last token, of one that ended well at
        the first backend; `None` where that cannot be told."""
        first_s, tokens = self.ttft_s, self.output_tokens
        if self.outcome is not OK or self.in_flight is None or not tokens:
            return None
        if not self.stream:
            stay_s = self.duration_s
        elif first_s is None or (self.tpot_s is None and tokens > 1):
            return None
        else:
            stay_s = first_s + (self.tpot_s or 0.0) * (tokens - 1)
        return stay_s - (self.waited_s or 0.0)

    def lesson(self) -> Lesson:
        """The sizes from which an estimator learns: none of an answer that was cut, no input tokens
        of a prompt that came as token ids."""
        ok = self.outcome is Outcome.OK
        return Lesson(
            model=self.model,
            caller=self.caller,
            endpoint=self.endpoint.name,
            prompt_bytes=self.prompt_bytes,
            max_tokens=self.max_tokens,
            estimated_input=self.estimated_input,
            input_tokens=self.input_tokens if ok and not self.exact_input else None,
            output_tokens=self.answer_tokens if ok and self.endpoint.generates else None,
            units=self.units,
            wide=self.wide,
            payload=self.payload,
            least_input=None if self.exact_input else self.least_input,
            counted=self.counted,
        )
