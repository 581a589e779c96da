"""The fields of a request body that the gateway reads, as msgspec decodes them.

They are not in `body` because mypyc cannot compile a `msgspec.Struct`. Unknown fields are skipped
without being decoded; whatever may be part of the prompt stays raw bytes.
"""

from typing import Any

import msgspec

NOTHING = msgspec.Raw(b"")


class StreamOptions(msgspec.Struct):
    """`stream_options`; declared so that a wrong type is refused."""

    include_usage: bool | None = None


class Message(msgspec.Struct, gc=False):
    """One message of a chat. content: text, or parts. function_call: what `tool_calls` was called
    before."""

    content: str | list[msgspec.Raw] | None = None
    tool_calls: msgspec.Raw = NOTHING
    function_call: msgspec.Raw = NOTHING


class RawMessage(msgspec.Struct, gc=False):
    """The same of a message in a long list, whose parts may be a long list too."""

    content: msgspec.Raw = NOTHING
    tool_calls: msgspec.Raw = NOTHING
    function_call: msgspec.Raw = NOTHING


class CommonFields(msgspec.Struct):
    """What all endpoints' bodies have, or may have."""

    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    stream_options: StreamOptions | None = None
    n: Any = None
    best_of: Any = None
    prompt: msgspec.Raw = NOTHING
    prompt_embeds: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
    query: msgspec.Raw = NOTHING
    text_1: msgspec.Raw = NOTHING
    text_2: msgspec.Raw = NOTHING
    tokens: msgspec.Raw = NOTHING
    previous_response_id: str | None = None
    instructions: msgspec.Raw = NOTHING
    system: msgspec.Raw = NOTHING
    suffix: msgspec.Raw = NOTHING
    documents: msgspec.Raw = NOTHING
    tools: msgspec.Raw = NOTHING
    functions: msgspec.Raw = NOTHING


class ChatFields(CommonFields):
    """A body whose prompt is a list of messages."""

    messages: list[Message] = []


class BodyFields(CommonFields):
    """Any body, also one with messages of a shape that is not known here."""

    messages: msgspec.Raw = NOTHING
