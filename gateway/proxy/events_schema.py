"""The fields of a backend's JSON that the gateway reads, as msgspec decodes them.

They are not in `events` because mypyc cannot compile a `msgspec.Struct`. Unknown fields are
skipped.
"""

from typing import Any

import msgspec

# Finish reasons of an engine that ends the answers it is working on before it stops: vLLM at
# SIGTERM, and engines that failed.
STOPPED = ("abort", "error")


class _Delta(msgspec.Struct):
    """A chat delta; true if it carries output of any kind."""

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
    """One choice: `delta` in a chat, `text` in a completion."""

    delta: _Delta | None = None
    text: str | None = None
    finish_reason: Any = None

    @property
    def stopped(self) -> bool:
        """Whether the engine gave the answer up."""
        return self.finish_reason in STOPPED


class Usage(msgspec.Struct):
    """The numbers of tokens that a backend reports for one request.

    prompt_tokens_details, input_tokens_details: objects with `cached_tokens`, of completions and of
    Responses; cache_read_input_tokens: the same of Anthropic's Messages. They may be anything:
    a shape that is not known must not hide the other numbers.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Any = None
    input_tokens_details: Any = None
    cache_read_input_tokens: Any = None

    @property
    def cached_tokens(self) -> int | None:
        """Tokens of the prompt that the engine had computed for an earlier request, at most all;
        `None` if it does not say."""
        details = self.prompt_tokens_details or self.input_tokens_details
        cached = self.cache_read_input_tokens
        if type(details) is dict:
            cached = details.get("cached_tokens")
        if type(cached) is not int:
            return None
        return max(0, cached if self.prompt_tokens is None else min(cached, self.prompt_tokens))


class Event(msgspec.Struct):
    """One event of a stream."""

    choices: list[_Choice] = []
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def failure(self) -> bytes | None:
        """The error object as JSON if this is an error event, else `None`."""
        error = bytes(self.error)
        return None if error == b"null" else error

    @property
    def token(self) -> bool:
        """Whether the event carries output. A first event with only the role does not; one with a
        `finish_reason` does, because an empty answer has no other."""
        return any(c.delta or c.text or c.finish_reason for c in self.choices)

    @property
    def finished(self) -> bool:
        """Whether a choice has its finish reason here."""
        return any(c.finish_reason for c in self.choices)

    @property
    def stopped(self) -> bool:
        """Whether the engine gave a choice up."""
        return any(c.stopped for c in self.choices)


class _WholeChoice(msgspec.Struct):
    """One choice of a reply that does not stream: `message` in a chat, `text` in a completion."""

    message: _Delta | None = None
    text: str | None = None
    finish_reason: Any = None

    @property
    def stopped(self) -> bool:
        """Whether the engine gave the answer up."""
        return self.finish_reason in STOPPED

    @property
    def ended(self) -> bool:
        """Whether it has a finish reason, or at least some output."""
        return bool(self.finish_reason or self.message or self.text)


class WholeReply(msgspec.Struct):
    """A reply that does not stream."""

    choices: list[_WholeChoice] = []
    data: list[Any] = []
    error: msgspec.Raw = msgspec.Raw(b"null")
    usage: Usage | None = None
