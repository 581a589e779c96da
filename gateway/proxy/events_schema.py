"""What the gateway reads of a backend's JSON: of one event of a stream, or of a whole reply.

Values; `decode` makes them.
"""

from typing import Any

import msgspec


class _Delta(msgspec.Struct):
    content: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None

    def __bool__(self) -> bool:
        return bool(
            self.content
            or self.reasoning
            or self.reasoning_content
            or self.refusal
            or self.tool_calls
            or self.function_call
        )


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    """What a backend reports of one request, in tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Event(msgspec.Struct):
    """The part of a chunk or reply that the gateway reads."""

    choices: list[_Choice] = []
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def failure(self) -> bytes | None:
        """The error object of an error event."""
        error = bytes(self.error)
        return None if error == b"null" else error

    @property
    def token(self) -> bool:
        """Whether it carries output: a role chunk does not, a forced end of text does."""
        return any(c.delta or c.text or c.finish_reason for c in self.choices)


class WholeReply(msgspec.Struct):
    """The part of a reply that does not stream."""

    usage: Usage | None = None
