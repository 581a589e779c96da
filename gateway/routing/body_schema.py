"""The fields of a request body that the gateway reads, as msgspec decodes them.

They are not in `body` because mypyc cannot compile a `msgspec.Struct`. Unknown fields are skipped
without being decoded; whatever may be part of the prompt stays raw bytes.
"""

from typing import Any

import msgspec

NOTHING = msgspec.Raw(b"")
UNSET = msgspec.UNSET  # of a field that is absent, where null is another case


class StreamOptions(msgspec.Struct):
    """`stream_options`; declared so that a wrong type is refused."""

    include_usage: bool | None = None


class Message(msgspec.Struct, gc=False):
    """One message of a chat. content: text, or parts. function_call: what `tool_calls` was called
    before. reasoning, reasoning_content: what was thought before a call, as engines name it."""

    content: str | list[msgspec.Raw] | None = None
    tool_calls: msgspec.Raw = NOTHING
    function_call: msgspec.Raw = NOTHING
    reasoning: msgspec.Raw = NOTHING
    reasoning_content: msgspec.Raw = NOTHING


class RawMessage(msgspec.Struct, gc=False):
    """The same of a message in a long list, whose parts may be a long list too."""

    content: msgspec.Raw = NOTHING
    tool_calls: msgspec.Raw = NOTHING
    function_call: msgspec.Raw = NOTHING
    reasoning: msgspec.Raw = NOTHING
    reasoning_content: msgspec.Raw = NOTHING


class CommonFields(msgspec.Struct, gc=False):
    """What bodies with messages have, or may have. `body.read_body` takes them by their places."""

    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: StreamOptions | msgspec.UnsetType | None = UNSET
    n: Any = None
    best_of: Any = None
    # What stands beside the prompt and is part of it.
    tools: msgspec.Raw = NOTHING
    system: msgspec.Raw = NOTHING
    documents: msgspec.Raw = NOTHING
    functions: msgspec.Raw = NOTHING
    prompt_embeds: msgspec.Raw = NOTHING
    # What says which prompts have a beginning in common: vLLM's, and OpenAI's.
    cache_salt: msgspec.Raw = NOTHING
    prompt_cache_key: Any = None


class ChatFields(CommonFields, gc=False):
    """A body whose prompt is a list of messages."""

    messages: list[Message] = []


class BodyFields(CommonFields, gc=False):
    """Any body, also one with messages of a shape that is not known here. queries, data_1, data_2,
    items: other names of what is compared."""

    max_output_tokens: int | None = None
    previous_response_id: str | None = None
    prompt: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
    instructions: msgspec.Raw = NOTHING
    suffix: msgspec.Raw = NOTHING
    query: msgspec.Raw = NOTHING
    text_1: msgspec.Raw = NOTHING
    text_2: msgspec.Raw = NOTHING
    tokens: msgspec.Raw = NOTHING
    messages: msgspec.Raw = NOTHING
    queries: msgspec.Raw = NOTHING
    data_1: msgspec.Raw = NOTHING
    data_2: msgspec.Raw = NOTHING
    items: msgspec.Raw = NOTHING


class LaxFields(BodyFields, gc=False):
    """A body that says in words whether it is to be streamed."""

    stream: Any = None
