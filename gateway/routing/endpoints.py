"""The table of the OpenAI endpoints that are served.

A new endpoint is a new row here, and its prompt's field in `body_schema` if that is new. Knows no
request and no engine.
"""

from typing import Final


class Endpoint:
    """One endpoint; never changed.

    name: used by learned lengths and observations. path: of POST requests. prompt: the field of the
    body that holds the prompt. token_ids: whether the prompt may be a list of token ids. generates:
    whether the answer is generated token by token; if so it may stream, its length can be learned,
    and the body may have `stream_options`. end: the data of the last event of a stream.
    unit_tokens: that a message, or a prompt of a list, takes beside its text, until it is learned:
    the marks of a chat template, or of the beginning.

    A plain class instead of a frozen dataclass, so that compiled code reads its attributes as C
    fields.
    """

    __slots__ = ("end", "generates", "name", "path", "prompt", "token_ids", "unit_tokens")

    def __init__(
        self,
        *,
        name: str,
        path: str,
        prompt: str,
        token_ids: bool,
        generates: bool,
        end: bytes = b"[DONE]",
        unit_tokens: float = 1.0,
    ) -> None:
        self.name = name
        self.path = path
        self.prompt = prompt
        self.token_ids = token_ids
        self.generates = generates
        self.end = end
        self.unit_tokens = unit_tokens

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.path}>"


CHAT: Final = Endpoint(
    name="chat",
    path="/v1/chat/completions",
    prompt="messages",
    token_ids=False,
    generates=True,
    unit_tokens=4.0,
)
COMPLETIONS: Final = Endpoint(
    name="completions", path="/v1/completions", prompt="prompt", token_ids=True, generates=True
)
EMBEDDINGS: Final = Endpoint(
    name="embeddings", path="/v1/embeddings", prompt="input", token_ids=True, generates=False
)
ENDPOINTS: Final = {e.name: e for e in (CHAT, COMPLETIONS, EMBEDDINGS)}
BY_PATH: Final = {e.path: e for e in ENDPOINTS.values()}
