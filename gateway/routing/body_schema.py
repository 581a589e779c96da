"""The fields of a request body that the gateway reads, as msgspec decodes them.

They are not in `body` because mypyc cannot compile a `msgspec.Struct`.
"""

from typing import Any

import msgspec

NOTHING = msgspec.Raw(b"")


class StreamOptions(msgspec.Struct):
    """`stream_options`; declared so that a wrong type is refused."""

    include_usage: bool | None = None


class BodyFields(msgspec.Struct):
    """A request body. Unknown fields are skipped without being decoded; prompts stay raw bytes."""

    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    stream_options: StreamOptions | None = None
    n: Any = None
    messages: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
    documents: msgspec.Raw = NOTHING
    text_2: msgspec.Raw = NOTHING
    tokens: msgspec.Raw = NOTHING
    previous_response_id: str | None = None
