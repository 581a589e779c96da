"""The fields of a client's request that the gateway needs. A value; never changed."""

from gateway.routing.endpoints import Endpoint


class LlmRequest:
    """One request, as its body states it.

    model: `None` if the body names none. stream: whether the answer is a stream of events.
    prompt_bytes: of the text of the prompt, wherever it stands, as UTF-8. units: its messages and
    the answer's, or its prompts; each takes a few tokens more than its text. wide: whether it is
    written in another script than Latin. payload: kinds and numbers of what is no text, such as
    pictures. prompt_tokens: exact number of tokens of a prompt that came as token ids, else `None`.
    max_tokens: the client's limit on output tokens, `None` if there is none. asks_usage: whether
    the client set `stream_options` itself, or the endpoint knows none (embeddings); otherwise the
    gateway adds `include_usage`. nulls_options: whether the client set it to null. prompts: in the
    list. answers: choices in the reply, of all prompts. width: sequences that an engine works on
    for it, more than answers with `best_of`. one_choice: whether the answer has one choice; false
    where it may have more. previous: the id of the answer that this one goes on from, which one
    backend has. beside: CRC of what stands beside the prompt and is put before it, such as tools,
    and beside_bytes: how much that is. session: the name of its conversation, `None` if it has
    none. counted: tokens of the prompt's text by the model's tokenizer, `None` if they are not
    counted; the one field that is set later.

    A plain class instead of a frozen dataclass: compiled code makes one per request.
    """

    __slots__ = (
        "answers", "asks_usage", "beside", "beside_bytes", "counted", "endpoint", "max_tokens",
        "model", "nulls_options", "one_choice", "payload", "previous", "prompt_bytes",
        "prompt_tokens", "prompts", "session", "stream", "units", "wide", "width",
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
        nulls_options: bool = False,
        one_choice: bool = False,
        previous: str | None = None,
        units: int = 0,
        wide: bool = False,
        payload: tuple[tuple[str, int], ...] = (),
        prompts: int = 1,
        answers: int = 1,
        width: int = 1,
        beside: int = 0,
        beside_bytes: int = 0,
        session: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.stream = stream
        self.prompt_bytes = prompt_bytes
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.asks_usage = asks_usage
        self.nulls_options = nulls_options
        self.one_choice = one_choice
        self.previous = previous
        self.units = units
        self.wide = wide
        self.payload = payload
        self.prompts = prompts
        self.answers = answers
        self.width = width
        self.beside = beside
        self.beside_bytes = beside_bytes
        self.session = session
        self.counted: int | None = None

    def __repr__(self) -> str:
        return (
            f"<LlmRequest {self.endpoint.name} of {self.model}, stream {self.stream}, "
            f"{self.prompt_bytes} bytes in {self.units}, {self.payload}, "
            f"{self.prompt_tokens} tokens, at most {self.max_tokens}, "
            f"asks usage {self.asks_usage}, {self.width} sequences>"
        )
