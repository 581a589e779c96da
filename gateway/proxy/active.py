"""The record of one request under way; becomes its one Observation. No I/O, no clock."""

from math import inf
from typing import Final

from gateway.errors import ClientGone
from gateway.proxy.events_schema import Usage
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.request import StreamWriter
from gateway.proxy.relay import Relay
from gateway.routing.backend import Lease
from gateway.routing.estimate import Estimate
from gateway.routing.llm_request import LlmRequest
from gateway.routing.observation import Observation, Outcome

FAILED: Final = Outcome.FAILED


class ActiveRequest:
    """Filled in by the exchange as things happen. Times are on the exchange's clock.

    strand: runs its handler. waiting: for a backend to begin its answer. committed: whether a
    stream has begun towards the client. due_s: when what is waited for is overdue. ping_s: when
    the waiting client gets its next comment.
    """

    __slots__ = (
        "arrival_s",
        "bucket",
        "client",
        "committed",
        "due_s",
        "estimate",
        "fiber",
        "first_at_s",
        "input_tokens",
        "key",
        "lease",
        "llm_request",
        "outcome",
        "output_tokens",
        "ping_s",
        "relay",
        "request_id",
        "retries",
        "status",
        "tpot_s",
        "waiting",
    )  # fmt: skip

    def __init__(
        self,
        *,
        arrival_s: float,
        request_id: bytes,
        llm_request: LlmRequest,
        estimate: Estimate,
        key: str,
        bucket: int,
        fiber: Fiber,
        client: StreamWriter,
    ) -> None:
        self.arrival_s = arrival_s
        self.request_id = request_id
        self.llm_request = llm_request
        self.estimate = estimate
        self.key = key
        self.bucket = bucket
        self.fiber = fiber
        self.lease: Lease | None = None
        self.client = client
        self.relay: Relay | None = None
        self.waiting = self.committed = False
        self.due_s = self.ping_s = inf
        self.outcome: Outcome = FAILED
        self.status = 500
        self.retries = 0
        self.first_at_s: float | None = None
        self.tpot_s: float | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None

    def left(self) -> None:
        """The client is gone: its request ends where it is."""
        self.fiber.cancel(ClientGone())

    def first(self, at_s: float) -> None:
        """The first token came."""
        self.first_at_s = at_s
        if self.lease is not None:
            self.lease.prefilled()

    def usage(self, usage: Usage | None) -> None:
        """Takes in what the backend reported."""
        if usage is not None:
            self.input_tokens = usage.prompt_tokens
            self.output_tokens = usage.completion_tokens

    def ended(self, outcome: Outcome, status: int) -> None:
        """How it ended, told once by whoever knows."""
        self.outcome = outcome
        self.status = status

    def receipt(self) -> bytes:
        """The header lines that say what was decided."""
        lease = self.lease
        lines = b"x-request-id: %b\r\nx-cuvee-bucket: %d\r\n" % (self.request_id, self.bucket)
        if lease is None:
            return lines
        return lines + lease.backend.receipt(lease.plan_id, lease.decision)

    def observation(self, now_s: float) -> Observation:
        """The request as it turned out to be."""
        lease, llm_request, estimate = self.lease, self.llm_request, self.estimate
        first_s = None if self.first_at_s is None else self.first_at_s - self.arrival_s
        return Observation(
            model=estimate.model,
            key=self.key,
            route=llm_request.route,
            stream=llm_request.stream,
            bucket=self.bucket,
            prompt_bytes=llm_request.prompt_bytes,
            max_tokens=llm_request.max_tokens,
            estimated_input=estimate.input_tokens,
            estimated_output=estimate.output_tokens,
            exact_input=llm_request.prompt_tokens is not None,
            outcome=self.outcome,
            status=self.status,
            duration_s=now_s - self.arrival_s,
            ttft_s=first_s,
            tpot_s=self.tpot_s,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            pool=None if lease is None else lease.backend.pool,
            backend=None if lease is None else lease.backend.name,
            plan_id=None if lease is None else lease.plan_id,
            decision=None if lease is None else lease.decision,
            retries=self.retries,
        )
