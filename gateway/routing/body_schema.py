"""The few fields of a request body that routing needs, as they are decoded."""

import msgspec

NOTHING = msgspec.Raw(b"")


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None  # only its type counts here


class BodyFields(msgspec.Struct):
    """Unknown fields are skipped without being built; prompts stay raw bytes."""

    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: _StreamOptions | None = None
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
