"""The estimated size of a request, before it is served. Values; never changed.

Plain classes instead of frozen dataclasses, because compiled code makes them for every request.
"""

from gateway.routing.prefix_trail import PrefixTrail
from planner.model.buckets import DEFAULT


class PredictedLength:
    """Predicted output tokens: the median and the 90th percentile."""

    __slots__ = ("median", "p90")

    def __init__(self, *, median: int, p90: int) -> None:
        self.median = median
        self.p90 = p90

    def __repr__(self) -> str:
        return f"<PredictedLength {self.median}, P90 {self.p90}>"


class Estimate:
    """The size of a request as the router estimates it.

    input_tokens, output_tokens: estimated medians, of one prompt and of one answer. output_p90:
    90th percentile of the output. streams: whether the answer streams, so that its first token is
    seen. prompts: that it has. width: sequences, each of this size, that an engine works on for it:
    the prompts, each as often as it has choices. max_tokens: the client's limit on output tokens,
    `None` if there is none: engines refuse a prompt that leaves no room for it. room_tokens: so
    many, the prompt's with it. only: names of the pools that can serve the request, `None`: all of
    the model; changes where a pool turns out to be unable. trail: the beginnings of its prompt;
    `None`: nothing of it is worth to be known again; the other field that is set later.
    """

    __slots__ = (
        "input_tokens", "max_tokens", "model", "only", "output_p90", "output_tokens", "prompts",
        "room_tokens", "slo_class", "streams", "trail", "width",
    )  # fmt: skip

    def __init__(
        self,
        *,
        model: str,
        input_tokens: int,
        output_tokens: int,
        output_p90: int,
        slo_class: str = DEFAULT,
        streams: bool = True,
        prompts: int = 1,
        width: int = 1,
        max_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.only: frozenset[str] | None = None
        self.trail: PrefixTrail | None = None
        self.input_tokens = input_tokens
        self.room_tokens = input_tokens + (max_tokens or 1)
        self.output_tokens = output_tokens
        self.output_p90 = output_p90
        self.slo_class = slo_class
        self.streams = streams
        self.prompts = prompts
        self.width = width

    def __repr__(self) -> str:
        return (
            f"<Estimate {self.model}/{self.slo_class} {self.input_tokens} → {self.output_tokens}>"
        )

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts. Choices of one prompt share its prefill."""
        return self.input_tokens * self.prompts

    @property
    def lasting(self) -> int:
        """Sequences that stay in the batch. Where answers have one token, as in embeddings, each is
        gone with its prefill, and they never stand beside each other for long: they count as one.
        """
        return self.width if self.output_p90 > 1 else 1

    @property
    def tokens(self) -> int:
        """All that an engine works on: prompts and answers."""
        return self.input_tokens * self.prompts + self.output_tokens * self.width
