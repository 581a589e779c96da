"""What a client asks for: the few fields of a request body that routing needs. Values."""

import msgspec

NOTHING = msgspec.Raw(b"")


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Fields(msgspec.Struct):
    """Unknown fields are skipped without being built; prompts stay raw bytes."""

    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: _StreamOptions | None = None
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING


class Ask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request, as far as routing cares.

    route: chat, completions or embeddings. prompt_bytes: the prompt's length in the body.
    prompt_tokens: exact where the prompt came as token ids, else `None`. max_tokens: the client's
    cap on output tokens, `None` without one. usage: whether a stream will end with its usage. bare:
    whether the client says nothing of stream options.
    """

    route: str
    model: str | None
    stream: bool
    prompt_bytes: int
    prompt_tokens: int | None
    max_tokens: int | None
    usage: bool
    bare: bool = False
