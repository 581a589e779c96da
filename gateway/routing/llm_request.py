"""What a client asks for, as far as routing cares. Nobody changes it once it is made."""


class LlmRequest:
    """One request.

    route: chat, completions or embeddings. prompt_bytes: the prompt's length in the body.
    prompt_tokens: exact where the prompt came as token ids, else `None`. max_tokens: the client's
    cap on output tokens, `None` without one. bare: whether the client says nothing of stream
    options, where it could.
    """

    __slots__ = ("bare", "max_tokens", "model", "prompt_bytes", "prompt_tokens", "route", "stream")

    def __init__(
        self,
        *,
        route: str,
        model: str | None,
        stream: bool,
        prompt_bytes: int,
        prompt_tokens: int | None,
        max_tokens: int | None,
        bare: bool = False,
    ) -> None:
        self.route = route
        self.model = model
        self.stream = stream
        self.prompt_bytes = prompt_bytes
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.bare = bare

    def __repr__(self) -> str:
        return (
            f"<LlmRequest {self.route} of {self.model}, stream {self.stream}, "
            f"{self.prompt_bytes} bytes, {self.prompt_tokens} tokens, "
            f"at most {self.max_tokens}, bare {self.bare}>"
        )
