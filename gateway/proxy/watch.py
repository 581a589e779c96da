"""The record of one request under way; becomes its one Observation. No I/O, no clock."""

from gateway.proxy.sse import Usage
from gateway.routing.ask import Ask
from gateway.routing.backend import Lease
from gateway.routing.observation import Observation, Outcome
from gateway.routing.router import Estimate


class Watch:
    """Filled in by the exchange as things happen. Times are on the exchange's clock."""

    __slots__ = (
        "arrival_s", "ask", "bucket", "estimate", "first_at_s", "input_tokens", "key", "lease",
        "outcome", "output_tokens", "request_id", "retries", "status", "tpot_s",
    )  # fmt: skip

    def __init__(
        self,
        *,
        arrival_s: float,
        request_id: str,
        ask: Ask,
        estimate: Estimate,
        key: str,
        bucket: int,
    ) -> None:
        self.arrival_s = arrival_s
        self.request_id = request_id
        self.ask = ask
        self.estimate = estimate
        self.key = key
        self.bucket = bucket
        self.lease: Lease | None = None
        self.outcome = Outcome.FAILED
        self.status = 500
        self.retries = 0
        self.first_at_s: float | None = None
        self.tpot_s: float | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None

    def usage(self, usage: Usage | None) -> None:
        """Takes in what the backend reported."""
        if usage is not None:
            self.input_tokens = usage.prompt_tokens
            self.output_tokens = usage.completion_tokens

    def ended(self, outcome: Outcome, status: int) -> None:
        """How it ended, told once by whoever knows."""
        self.outcome = outcome
        self.status = status

    def receipt(self) -> list[tuple[str, str]]:
        """The response headers that say what was decided."""
        headers = [("x-request-id", self.request_id), ("x-cuvee-bucket", str(self.bucket))]
        if self.lease is not None:
            headers += [
                ("x-cuvee-pool", self.lease.backend.pool),
                ("x-cuvee-backend", self.lease.backend.name),
                ("x-cuvee-plan", self.lease.plan_id or ""),
                ("x-cuvee-decision", self.lease.decision),
            ]
        return headers

    def observation(self, now_s: float) -> Observation:
        """The request as it turned out to be."""
        lease, ask, estimate = self.lease, self.ask, self.estimate
        first_s = None if self.first_at_s is None else self.first_at_s - self.arrival_s
        return Observation(
            model=estimate.model,
            key=self.key,
            route=ask.route,
            stream=ask.stream,
            bucket=self.bucket,
            prompt_bytes=ask.prompt_bytes,
            max_tokens=ask.max_tokens,
            estimated_input=estimate.input_tokens,
            estimated_output=estimate.output_tokens,
            exact_input=ask.prompt_tokens is not None,
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
