"""The fields of a backend's JSON that the gateway reads, as msgspec decodes them.

They are not in `events` because mypyc cannot compile a `msgspec.Struct`. Unknown fields are
skipped.
"""

from typing import Any, ClassVar

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

    input_tokens, output_tokens: the names of Responses and Messages. prompt_tokens_details,
    input_tokens_details: objects with `cached_tokens`, of completions and of Responses;
    cache_read_input_tokens: the same of Anthropic's Messages. They may be anything: a shape that is
    not known must not hide the other numbers.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: Any = None
    input_tokens_details: Any = None
    cache_read_input_tokens: Any = None

    def settle(self) -> None:
        """Give the numbers of Responses and Messages the names of chats and completions."""
        if self.prompt_tokens is None:
            self.prompt_tokens = self.input_tokens
        if self.completion_tokens is None:
            self.completion_tokens = self.output_tokens

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


NULL = msgspec.Raw(b"null")
_USAGE: msgspec.json.Decoder[Usage] = msgspec.json.Decoder(Usage, strict=False)


def _usage(raw: msgspec.Raw) -> Usage | None:
    """A usage; `None` if there is none, or none of the expected shape."""
    if bytes(raw) == b"null":
        return None
    try:
        usage = _USAGE.decode(raw)
    except msgspec.DecodeError:
        return None
    usage.settle()
    return usage


ERROR = "error"
# How a response ends that the engine gave up.
FAILED = ("failed", "cancelled")


class Event(msgspec.Struct):
    """One event of a stream of a chat or a completion.

    object, message, code: of an error whose fields do not stand in an object of their own. last,
    answer_id: as in `TypedEvent`; nothing here says them.
    """

    choices: list[_Choice] | None = None
    reported: msgspec.Raw = msgspec.field(default=NULL, name="usage")
    error: msgspec.Raw = NULL
    system_fingerprint: Any = None
    object: Any = None
    message: Any = None
    code: Any = None

    last: ClassVar[bool] = False
    answer_id: ClassVar[str | None] = None

    @property
    def usage(self) -> Usage | None:
        """The usage, if it can be read."""
        return _usage(self.reported)

    @property
    def reports(self) -> bool:
        """Whether there is a usage, of whatever shape."""
        return bytes(self.reported) != b"null"

    @property
    def failure(self) -> bytes | None:
        """The error object as JSON if this is an error event, else `None`."""
        error = bytes(self.error)
        if error == b"null" and self.object == ERROR:
            return msgspec.json.encode({"message": str(self.message), "code": self.code})
        return None if error == b"null" else error

    @property
    def token(self) -> bool:
        """Whether the event carries output. A first event with only the role does not; one with a
        `finish_reason` does, because an empty answer has no other."""
        return any(c.delta or c.text or c.finish_reason for c in self.choices or ())

    @property
    def finished(self) -> bool:
        """Whether a choice has its finish reason here."""
        return any(c.finish_reason for c in self.choices or ())

    @property
    def stopped(self) -> bool:
        """Whether the engine gave a choice up."""
        return any(c.stopped for c in self.choices or ())


class _Inner(msgspec.Struct):
    """The answer inside an event: `response` of Responses, `message` of Messages."""

    id: str | None = None
    reported: msgspec.Raw = msgspec.field(default=NULL, name="usage")
    error: msgspec.Raw = NULL
    status: str | None = None


class _Stop(msgspec.Struct):
    """What a `message_delta` changes."""

    stop_reason: str | None = None


# The last events of Responses and Messages, the former with how the answer ended.
LAST = ("response.completed", "response.incomplete", "response.failed", "message_stop")
GAVE_UP = "response.failed"


class TypedEvent(msgspec.Struct):
    """One event of a stream of Responses or Messages, which says its kind in `type`.

    choices: true for every event that is a part of the answer, so that none is taken for a usage.
    """

    type: str = ""
    delta: msgspec.Raw = NULL
    response: _Inner | None = None
    message: Any = None
    reported: msgspec.Raw = msgspec.field(default=NULL, name="usage")
    error: msgspec.Raw = NULL
    code: Any = None

    @property
    def usage(self) -> Usage | None:
        """The usage, if it can be read."""
        if self.response is not None:
            return _usage(self.response.reported)
        if type(self.message) is dict:
            begun = _usage(msgspec.Raw(msgspec.json.encode(self.message.get("usage"))))
            if begun is not None:
                begun.completion_tokens = None  # of an answer that has just begun
            return begun
        return _usage(self.reported)

    @property
    def reports(self) -> bool:
        """Whether there is a usage that can be read."""
        return self.usage is not None

    @property
    def choices(self) -> bool:
        """Whether the event is output."""
        return self.token

    @property
    def failure(self) -> bytes | None:
        """The error object as JSON if the answer failed, else `None`."""
        error = bytes(self.error)
        if self.response is not None and self.type == GAVE_UP:
            error = bytes(self.response.error)
            return b'{"message":"The answer failed."}' if error == b"null" else error
        if error == b"null" and self.type == ERROR:  # of Responses: its fields stand beside it
            return msgspec.json.encode({"message": str(self.message), "code": self.code})
        return None if error == b"null" else error

    @property
    def token(self) -> bool:
        """Whether the event carries output, or ends an answer, as for choices."""
        output = self.type.endswith((".delta", "_block_delta")) and bytes(self.delta) != b"null"
        return output or self.finished

    @property
    def finished(self) -> bool:
        """Whether it says why the answer ends."""
        if self.type == "message_delta":
            return self._stop_reason is not None
        return self.type in LAST[:2]

    @property
    def stopped(self) -> bool:
        """Whether the engine gave the answer up."""
        if self.type == "message_delta":
            return self._stop_reason in STOPPED
        return self.last and self.response is not None and self.response.status in FAILED

    @property
    def last(self) -> bool:
        """Whether no other event follows."""
        return self.type in LAST

    @property
    def answer_id(self) -> str | None:
        """The id by which a later request may refer to the answer."""
        return None if self.response is None else self.response.id

    @property
    def _stop_reason(self) -> str | None:
        try:
            return _STOP.decode(self.delta).stop_reason
        except msgspec.DecodeError:
            return None


_STOP: msgspec.json.Decoder[_Stop] = msgspec.json.Decoder(_Stop)
StreamEvent = Event | TypedEvent


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

    id: str | None = None
    choices: list[_WholeChoice] = []
    data: list[Any] = []
    error: msgspec.Raw = NULL
    reported: msgspec.Raw = msgspec.field(default=NULL, name="usage")

    @property
    def usage(self) -> Usage | None:
        """The usage, if it can be read."""
        return _usage(self.reported)
