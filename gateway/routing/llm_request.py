"""What a client asks for, as far as routing cares. Never changed once it is made."""

from gateway.routing.endpoints import Endpoint


class LlmRequest:
    """The few fields of one request's body that serving needs.

    model: as the client named it, `None` where it named none. stream: whether the answer is to be a
    stream of events. prompt_bytes: length of the prompt in the body. prompt_tokens: exact number of
    tokens where the prompt came as token ids, else `None`. max_tokens: the client's cap on output
    tokens, `None` without one. asks_usage: whether the client set `stream_options` itself, or could
    not (embeddings): the gateway adds `include_usage` only where this is false.

    A plain class instead of a frozen dataclass: compiled code makes one per request.
    """

    __slots__ = (
        "asks_usage", "endpoint", "max_tokens", "model", "prompt_bytes", "prompt_tokens", "stream",
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
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.stream = stream
        self.prompt_bytes = prompt_bytes
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.asks_usage = asks_usage

    def __repr__(self) -> str:
        return (
            f"<LlmRequest {self.endpoint.name} of {self.model}, stream {self.stream}, "
            f"{self.prompt_bytes} bytes, {self.prompt_tokens} tokens, "
            f"at most {self.max_tokens}, asks usage {self.asks_usage}>"
        )
