"""The fields of a client's request that the gateway needs. A value; never changed."""

from gateway.routing.endpoints import Endpoint


class LlmRequest:
    """One request, as its body states it.

    model: `None` if the body names none. stream: whether the answer is a stream of events.
    prompt_bytes: length of the prompt in the body. prompt_tokens: exact number of tokens of a
    prompt that came as token ids, else `None`. max_tokens: the client's limit on output tokens,
    `None` if there is none. asks_usage: whether the client set `stream_options` itself, or the
    endpoint knows none (embeddings); otherwise the gateway adds `include_usage`. one_choice:
    whether the answer has one choice; false where it may have more. previous: the id of the answer
    that this one goes on from, which one backend has.

    A plain class instead of a frozen dataclass: compiled code makes one per request.
    """

    __slots__ = (
        "asks_usage", "endpoint", "max_tokens", "model", "one_choice", "previous",
        "prompt_bytes", "prompt_tokens", "stream",
    )  # fmt: skip

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        model: str | None,
        stream: bool,
        prompt_bytes: int,
        prompt_tokens: int | None,
        max_tokens: int | None,
        asks_usage: bool = True,
        one_choice: bool = False,
        previous: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.stream = stream
        self.prompt_bytes = prompt_bytes
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.asks_usage = asks_usage
        self.one_choice = one_choice
        self.previous = previous

    def __repr__(self) -> str:
        return (
            f"<LlmRequest {self.endpoint.name} of {self.model}, stream {self.stream}, "
            f"{self.prompt_bytes} bytes, {self.prompt_tokens} tokens, "
            f"at most {self.max_tokens}, asks usage {self.asks_usage}>"
        )
