"""The fields of a request body that routing reads, as msgspec decodes them.

Apart from `body` because mypyc cannot compile a `msgspec.Struct`.
"""

import msgspec

NOTHING = msgspec.Raw(b"")


class StreamOptions(msgspec.Struct):
    """`stream_options`: only that it is there, and that its type is right, counts here."""

    include_usage: bool | None = None


class BodyFields(msgspec.Struct):
    """One body. Unknown fields are skipped without being built; prompts stay raw bytes."""

    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: StreamOptions | None = None
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
