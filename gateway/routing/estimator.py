"""The one place where the size of a request is estimated and learned.

Serving, planning from a trace and rehearsing use the same estimator, so that a plan is made and
tested with the buckets that the router will use. Knows no backend, no plan, and no credentials: a
caller is an id.
"""

from typing import Final

from gateway.routing.endpoints import CHAT, Endpoint
from gateway.routing.estimate import Estimate, PredictedLength
from gateway.routing.estimator_schema import EstimatorState, Lesson
from gateway.routing.lengths import HISTORIES, OutputLengths
from gateway.routing.llm_request import LlmRequest
from gateway.routing.payload_tokens import PayloadTokens
from gateway.routing.tokens import SURE, BytesPerToken
from planner.model.buckets import DEFAULT

NO_OUTPUT: Final = PredictedLength(median=1, p90=1)  # an embedding has no output to decode
QUOTA: Final = 100  # lessons between two refills; with 5 refills/s all lessons of 500 requests/s


class Estimator:
    """The learned output lengths and bytes per token of one process; outlives every plan and
    table."""

    def __init__(self, bytes_per_token: dict[str, float] | None = None) -> None:
        """bytes_per_token: first value of each model, by name; `None` where all sizes are given in
        tokens, as in traces."""
        self.lengths = OutputLengths()
        self.tokens = BytesPerToken(bytes_per_token or {})
        # From the tokens that a tokenizer counts in a prompt's text to those that engines report,
        # who write the marks of a template around it: the same lines, which start at one for one.
        self.counts = BytesPerToken(dict.fromkeys(bytes_per_token or {}, 1.0))
        self.payload = PayloadTokens()
        self._quota = QUOTA

    def __repr__(self) -> str:
        return f"<Estimator {self.lengths!r}, {self.tokens!r}>"

    def add(self, bytes_per_token: dict[str, float]) -> None:
        """Add models, with the first value of each. What was learned stays."""
        self.tokens.add(bytes_per_token)
        self.counts.add(dict.fromkeys(bytes_per_token, 1.0))

    def estimate(
        self, request: LlmRequest, *, model: str, caller: str, slo_class: str = DEFAULT
    ) -> Estimate:
        """Estimate a request at its arrival: input tokens from its bytes, output tokens from the
        lengths of similar requests; both of one of its sequences."""
        endpoint, inputs, prompts = request.endpoint, request.prompt_tokens, request.prompts
        if inputs is None:
            tokens, size = self.tokens, request.prompt_bytes
            if request.counted is not None:
                tokens, size = self.counts, request.counted
            inputs = tokens.estimate(
                model,
                endpoint.name,
                size,
                caller=caller,
                units=request.units,
                wide=request.wide,
            )
            if request.payload:
                inputs += self.payload.estimate(model, request.payload)
        if prompts > 1:
            inputs = max(1, round(inputs / prompts))
        return self.estimate_size(
            inputs,
            prompts=prompts,
            width=request.width,
            model=model,
            caller=caller,
            endpoint=endpoint,
            max_tokens=request.max_tokens,
            slo_class=slo_class,
            streams=request.stream,
        )

    def estimate_size(
        self,
        input_tokens: int,
        *,
        model: str,
        caller: str,
        endpoint: Endpoint = CHAT,
        max_tokens: int | None = None,
        slo_class: str = DEFAULT,
        streams: bool = True,
        prompts: int = 1,
        width: int = 1,
    ) -> Estimate:
        """Estimate a request whose input tokens are known, as in a trace."""
        length = NO_OUTPUT
        if endpoint.generates:
            length = self.lengths.predict(model, caller, endpoint.name, input_tokens, max_tokens)
        return Estimate(
            model=model,
            input_tokens=input_tokens,
            output_tokens=length.median,
            output_p90=length.p90,
            slo_class=slo_class,
            streams=streams,
            prompts=prompts,
            width=width,
            max_tokens=max_tokens,
        )

    def learn(self, lesson: Lesson) -> None:
        """Learn the actual sizes of one finished request."""
        model, endpoint, outputs = lesson.model, lesson.endpoint, lesson.output_tokens
        if lesson.input_tokens is not None:
            self._learn_input(lesson, lesson.input_tokens, 1.0)
        elif lesson.least_input is not None:
            least = lesson.least_input
            # It says nothing of a prompt that was thought longer: engines stop counting.
            if least > self._text(lesson) + self.payload.estimate(model, lesson.payload):
                self._learn_input(lesson, least, SURE)
        if outputs is not None:
            # By the estimated input, not the actual one: that is what the next request is looked up
            # by.
            self.lengths.learn(
                model, lesson.caller, endpoint, lesson.estimated_input, lesson.max_tokens, outputs
            )

    def _learn_input(self, lesson: Lesson, tokens: int, weight: float) -> None:
        """Learn the tokens of a prompt: of its text, or else of what is no text."""
        if lesson.payload:
            text = self._text(lesson)
            self.payload.learn(lesson.model, lesson.payload, text=text, tokens=tokens)
            return
        for lines, size in ((self.tokens, lesson.prompt_bytes), (self.counts, lesson.counted)):
            if size is not None:
                lines.learn(
                    lesson.model,
                    lesson.endpoint,
                    size,
                    tokens,
                    caller=lesson.caller,
                    units=lesson.units,
                    wide=lesson.wide,
                    weight=weight,
                )

    def _text(self, lesson: Lesson) -> int:
        """The tokens of a prompt's text, as they would be estimated now."""
        counted = lesson.counted
        lines = self.tokens if counted is None else self.counts
        return lines.estimate(
            lesson.model,
            lesson.endpoint,
            lesson.prompt_bytes if counted is None else counted,
            caller=lesson.caller,
            units=lesson.units,
            wide=lesson.wide,
        )

    def learn_size(self, input_tokens: int, output_tokens: int, *, model: str, caller: str) -> None:
        """Learn the sizes of one request of a trace, as a chat without `max_tokens`."""
        self.lengths.learn(model, caller, CHAT.name, input_tokens, None, output_tokens)

    def spend(self) -> bool:
        """Take one lesson from the quota; `False` if none is left until the next refill.

        Above 500 requests/s a sample of the requests teaches as much as all of them, and costs
        less.
        """
        if self._quota <= 0:
            return False
        self._quota -= 1
        return True

    def refill(self) -> None:
        """Fill up the quota of lessons; called several times a second."""
        self._quota = QUOTA

    def state(self, most: int = HISTORIES) -> EstimatorState:
        """All that was learned, as a value that can be sent to another process. most: histories of
        output lengths of each kind, those used last."""
        return EstimatorState(
            tokens=self.tokens.state(),
            lengths=self.lengths.state(most),
            payload=self.payload.state(),
            counts=self.counts.state(),
        )

    def restore(self, state: EstimatorState) -> None:
        """Replace all that was learned by the state of another process."""
        self.tokens.restore(state.tokens)
        self.lengths.restore(state.lengths)
        self.payload.restore(state.payload)
        self.counts.restore(state.counts)
