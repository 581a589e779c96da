"""The OpenAI endpoints that are served, one row each: path, prompt, whether tokens are generated.

To add an endpoint is to add a row here, and its prompt's field to `body_schema` if that is a new
one. Knows no request and no engine.
"""

from typing import Final


class Endpoint:
    """One endpoint. Never changed once it is made.

    name: as learned lengths and observations name it. path: exact, for POST. prompt: the field of
    the body that holds the prompt. token_ids: whether the prompt may be a list of token ids.
    generates: whether the answer is decoded token by token; it then may stream, has a length that
    can be learned, and takes `stream_options`. end: the data of the last event of a stream.

    A plain class instead of a frozen dataclass: compiled code reads its attributes at the price of
    a C field.
    """

    __slots__ = ("end", "generates", "name", "path", "prompt", "token_ids")

    def __init__(
        self,
        *,
        name: str,
        path: str,
        prompt: str,
        token_ids: bool,
        generates: bool,
        end: bytes = b"[DONE]",
    ) -> None:
        self.name = name
        self.path = path
        self.prompt = prompt
        self.token_ids = token_ids
        self.generates = generates
        self.end = end

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.path}>"


CHAT: Final = Endpoint(
    name="chat", path="/v1/chat/completions", prompt="messages", token_ids=False, generates=True
)
COMPLETIONS: Final = Endpoint(
    name="completions", path="/v1/completions", prompt="prompt", token_ids=True, generates=True
)
EMBEDDINGS: Final = Endpoint(
    name="embeddings", path="/v1/embeddings", prompt="input", token_ids=True, generates=False
)
ENDPOINTS: Final = {e.name: e for e in (CHAT, COMPLETIONS, EMBEDDINGS)}
BY_PATH: Final = {e.path: e for e in ENDPOINTS.values()}
