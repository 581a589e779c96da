"""The table of the endpoints that are served by backends.

A new endpoint is a new row here, and its prompt's field in `body_schema` if that is new. Knows no
request and no engine.
"""

from typing import Final

OPENAI, ANTHROPIC = "openai", "anthropic"  # whose error objects clients of an endpoint read


class Endpoint:
    """One endpoint; never changed.

    name: used by learned lengths and observations. path: of POST requests. prompt: the field of the
    body that holds the prompt. token_ids: whether the prompt may be a list of token ids. generates:
    whether the answer is generated token by token; if so it may stream, and its length can be
    learned. pairs: whether each text of the prompt is compared with a query, and is so a prompt of
    its own. typed: whether each event of a stream says its kind, and the last one ends it; else
    `[DONE]` does, and the body may have `stream_options`. answer: the keys of which a whole answer
    has one; empty for choices. error: whose error objects its clients read. form: whether the body
    is a multipart form instead of JSON, and the answer perhaps plain text. unit_tokens: that a
    message, or a prompt of a list, takes beside its text, until it is learned: the marks of a chat
    template, or of the beginning.

    A plain class instead of a frozen dataclass, so that compiled code reads its attributes as C
    fields.
    """

    __slots__ = (
        "answer", "error", "form", "generates", "name", "pairs", "path", "prompt", "token_ids",
        "typed", "unit_tokens",
    )  # fmt: skip

    def __init__(
        self,
        *,
        name: str,
        path: str,
        prompt: str,
        token_ids: bool = False,
        generates: bool = False,
        typed: bool = False,
        answer: tuple[str, ...] = (),
        error: str = OPENAI,
        unit_tokens: float = 1.0,
        form: bool = False,
        pairs: bool = False,
    ) -> None:
        self.name = name
        self.path = path
        self.prompt = prompt
        self.token_ids = token_ids
        self.generates = generates
        self.typed = typed
        self.answer = answer
        self.error = error
        self.unit_tokens = unit_tokens
        self.form = form
        self.pairs = pairs

    @property
    def usage_option(self) -> bool:
        """Whether a body may have `stream_options`; other streams say their usage anyway."""
        return self.generates and not (self.typed or self.form)

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.path}>"


CHAT: Final = Endpoint(
    name="chat", path="/v1/chat/completions", prompt="messages", generates=True, unit_tokens=4.0
)
COMPLETIONS: Final = Endpoint(
    name="completions", path="/v1/completions", prompt="prompt", token_ids=True, generates=True
)
EMBEDDINGS: Final = Endpoint(
    name="embeddings", path="/v1/embeddings", prompt="input", token_ids=True, answer=("data",)
)
RESPONSES: Final = Endpoint(
    name="responses", path="/v1/responses", prompt="input", generates=True, typed=True,
    answer=("output",), unit_tokens=4.0,
)  # fmt: skip
MESSAGES: Final = Endpoint(
    name="messages", path="/v1/messages", prompt="messages", generates=True, typed=True,
    answer=("content",), error=ANTHROPIC, unit_tokens=4.0,
)  # fmt: skip
COUNT_TOKENS: Final = Endpoint(
    name="count_tokens", path="/v1/messages/count_tokens", prompt="messages",
    answer=("input_tokens",), error=ANTHROPIC, unit_tokens=4.0,
)  # fmt: skip
RERANK: Final = Endpoint(
    name="rerank", path="/v1/rerank", prompt="documents", answer=("results", "data"), pairs=True
)
SCORE: Final = Endpoint(
    name="score", path="/v1/score", prompt="text_2", answer=("data", "scores", "results"),
    pairs=True,
)  # fmt: skip
POOLING: Final = Endpoint(
    name="pooling", path="/pooling", prompt="input", token_ids=True, answer=("data",)
)
CLASSIFY: Final = Endpoint(
    name="classify", path="/classify", prompt="input", token_ids=True, answer=("data",)
)
TOKENIZE: Final = Endpoint(
    name="tokenize", path="/tokenize", prompt="prompt", answer=("tokens", "count")
)
DETOKENIZE: Final = Endpoint(
    name="detokenize", path="/detokenize", prompt="tokens", token_ids=True,
    answer=("prompt", "text", "content"),
)  # fmt: skip
TRANSCRIPTIONS: Final = Endpoint(
    name="transcriptions", path="/v1/audio/transcriptions", prompt="input", generates=True,
    answer=("text",), form=True,
)  # fmt: skip
TRANSLATIONS: Final = Endpoint(
    name="translations", path="/v1/audio/translations", prompt="input", generates=True,
    answer=("text",), form=True,
)  # fmt: skip
ALL: Final = (
    CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES, COUNT_TOKENS, RERANK, SCORE, POOLING,
    CLASSIFY, TOKENIZE, DETOKENIZE, TRANSCRIPTIONS, TRANSLATIONS,
)  # fmt: skip
ENDPOINTS: Final = {e.name: e for e in ALL}
VERSION: Final = "/v1"


def _paths(endpoint: Endpoint) -> tuple[str, str]:
    """The path with the version and without: clients' base URLs have it, or forget it."""
    bare = endpoint.path.removeprefix(VERSION)
    return bare, VERSION + bare


BY_PATH: Final = {path: e for e in ALL for path in _paths(e)} | {"/v2/rerank": RERANK}
