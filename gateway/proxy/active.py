"""The state of one request under way, from its arrival to its Observation. No I/O, no clock."""

from collections.abc import Callable, Collection
from math import inf
from typing import Final

from msgspec.structs import astuple

from gateway.access.charge import Charge
from gateway.errors import GatewayError
from gateway.proxy.context_refusal import context_refusal
from gateway.proxy.engines import EngineRefusal
from gateway.proxy.events_schema import Usage
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.request import StreamWriter
from gateway.proxy.http.upload import Upload
from gateway.proxy.receipt import Receipts
from gateway.proxy.relay import Relay
from gateway.routing.backend import Lease
from gateway.routing.estimate import Estimate
from gateway.routing.llm_request import LlmRequest
from gateway.routing.observation import Observation, Outcome
from gateway.routing.trace_context import TraceContext

DETAILS: Final = 4  # where what a usage says of hits begins among its fields
NO_DETAILS: Final = (None, None, None)
LEFT: Final = 499  # nginx's status for a client that left
OK: Final = Outcome.OK
FAILED: Final = Outcome.FAILED


class ActiveRequest:
    """One request; the exchange fills it in. Times are on the exchange's clock, in seconds.

    caller: id of the caller. fiber: runs the handler. lease: the present one, or the last. waiting:
    whether a backend has the request and has not begun to answer. committed: whether a stream has
    begun towards the client, so that an error can only be an event inside it. due_s: when the
    present wait times out. exclude: names of backends that cannot serve it. ping_s: when the client
    gets its next keep-alive comment. upload: what is still to come of the body, or `None`. trace:
    of a request that is traced, else `None`. charge: what it takes of the limits of its key; `None`
    without limits.
    """

    __slots__ = (
        "_receipts", "_room", "arrival_s", "bucket", "cached_tokens", "caller", "charge", "client",
        "committed", "due_s", "estimate", "exclude", "fiber", "first_at_s", "input_tokens", "lease",
        "least_input", "llm_request", "outcome", "output_tokens", "ping_s", "reason", "relay",
        "request_id", "retries", "status", "tpot_s", "trace", "upload", "waited_s", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        *,
        arrival_s: float,
        request_id: bytes,
        llm_request: LlmRequest,
        estimate: Estimate,
        caller: str,
        bucket: int,
        fiber: Fiber,
        client: StreamWriter,
        receipts: Receipts,
        room: Callable[[float], None],
    ) -> None:
        """room: called when the backend may have room for another request."""
        self.arrival_s = arrival_s
        self.request_id = request_id
        self.llm_request = llm_request
        self.estimate = estimate
        self.caller = caller
        self.bucket = bucket
        self.exclude: Collection[str] = ()
        self.fiber = fiber
        self.lease: Lease | None = None
        self.client = client
        self.relay: Relay | None = None
        self.upload: Upload | None = None
        self.trace: TraceContext | None = None
        self.charge: Charge | None = None
        self.waiting = self.committed = False
        self.due_s = self.ping_s = inf
        self.outcome: Outcome = FAILED
        self.status = 500
        self.reason: str | None = None
        self.retries = 0
        self.first_at_s: float | None = None
        self.waited_s: float | None = None
        self.tpot_s: float | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.least_input: int | None = None
        self._receipts = receipts
        self._room = room

    def __repr__(self) -> str:
        return f"<ActiveRequest {self.request_id!r} {self.llm_request!r}, lease {self.lease!r}>"

    @property
    def repeatable(self) -> bool:
        """Whether all that a backend was sent can be sent to another one."""
        return self.upload is None or not self.upload.moved

    def abandon(self) -> None:
        """The client closed its connection: end the handler where it waits."""
        self.fiber.abandon()

    def sent(self, lease: Lease, now_s: float, limit_s: float) -> None:
        """Note that a backend gets it now, and is to begin its answer within `limit_s`."""
        self.waiting, self.due_s = True, now_s + limit_s
        if self.trace is not None:
            self.trace.note(now_s, lease.backend.name)

    def first_token(self, at_s: float) -> None:
        """Note the first token, which shows that the backend has prefilled the prompt."""
        self.first_at_s = at_s
        if self.lease is not None:
            self.lease.prefilled()
            self._room(at_s)

    def add_usage(self, usage: Usage | None) -> None:
        """Note the tokens that the backend reported; `None`: it reported none."""
        if usage is not None:
            # All at once: compiled code pays 110 instructions for each attribute of its class.
            values = astuple(usage)
            self.input_tokens, self.output_tokens = values[0], values[1]
            if values[DETAILS:] != NO_DETAILS:
                self.cached_tokens = usage.cached_tokens

    def add_pace(self, output_tokens: int, tpot_s: float | None) -> None:
        """Note the tokens of a stream and their pace, as of one sequence: those of several choices
        come at the same time. tpot_s: as if they were all of one."""
        self.output_tokens = output_tokens
        answers = self.llm_request.answers
        if answers > 1 and tpot_s is not None:
            steps = output_tokens / answers - 1.0
            tpot_s = tpot_s * (output_tokens - 1) / steps if steps >= 1.0 else None
        self.tpot_s = tpot_s

    def add_refusal(self, error: GatewayError) -> None:
        """Note what an engine's refusal says of the length of the prompt."""
        if isinstance(error, EngineRefusal) and error.status < 500:
            told = context_refusal(error.body())
            if told is not None:
                self.least_input = told.least(self.llm_request.max_tokens)

    def finish(self, outcome: Outcome, status: int, reason: str | None = None) -> None:
        """Note how the request ended, the status that its client saw, and the code of an error."""
        self.outcome = outcome
        self.status = status
        self.reason = reason

    def receipt(self) -> bytes:
        """The response headers that say what was decided until now."""
        lines = self._receipts.lines(self.request_id, self.bucket, self.lease)
        return lines if self.charge is None else lines + self.charge.lines

    def _in_flight(self) -> float | None:
        """Requests beside it at its backend, if one backend made the one answer."""
        if self.lease is None or self.retries or not self.llm_request.one_choice:
            return None
        return self.lease.in_flight

    def observation(self, now_s: float) -> Observation:
        """What became of the request."""
        lease, request, estimate = self.lease, self.llm_request, self.estimate
        duration_s = now_s - self.arrival_s
        ttft_s: float | None = None
        if self.first_at_s is not None:
            ttft_s = self.first_at_s - self.arrival_s
        elif self.outcome is OK and (
            self.output_tokens == request.answers or not request.endpoint.generates
        ):
            ttft_s = duration_s  # the whole answer is one token, or an embedding
        return Observation(
            model=estimate.model,
            caller=self.caller,
            slo_class=estimate.slo_class,
            endpoint=request.endpoint,
            stream=request.stream,
            bucket=self.bucket,
            prompt_bytes=request.prompt_bytes,
            max_tokens=request.max_tokens,
            estimated_input=estimate.input_tokens,
            estimated_output=estimate.output_tokens,
            exact_input=request.prompt_tokens is not None,
            outcome=self.outcome,
            status=self.status,
            reason=self.reason,
            waited_s=self.waited_s,
            duration_s=duration_s,
            arrival_s=self.arrival_s,
            request_id=self.request_id,
            ttft_s=ttft_s,
            tpot_s=self.tpot_s,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens,
            in_flight=self._in_flight(),
            beside=0.0 if lease is None else lease.in_flight,
            pool=None if lease is None else lease.backend.pool,
            backend=None if lease is None else lease.backend.name,
            plan_id=None if lease is None else lease.plan_id,
            decision=None if lease is None else lease.decision,
            retries=self.retries,
            least_input=self.least_input,
            units=request.units,
            wide=request.wide,
            payload=request.payload,
            prompts=request.prompts,
            answers=request.answers,
            width=request.width,
            asked=request.model,
            counted=request.counted,
            trace=self.trace,
        )
