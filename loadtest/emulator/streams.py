"""Which events a streamed answer has, by its API. Owns nothing but the choice between them."""

from typing import Protocol

from loadtest.emulator.chunks import StreamChunks
from loadtest.emulator.messages import MessageEvents, message_body
from loadtest.emulator.refusals import JsonObject
from loadtest.emulator.replies import unary_body
from loadtest.emulator.requests import GenerationRequest
from loadtest.emulator.responses import ResponseEvents, response_body


class ChoiceEvents(Protocol):
    """The events of one choice of a stream, as bytes ready for the socket."""

    def begin(self) -> bytes:
        """Sent when the engine has the request."""
        ...

    def tokens(self, start: int, stop: int, step: int = 1) -> bytes:
        """Sent when output tokens start to stop − 1 exist; `step` of them in an event."""
        ...

    def aborted(self, sent: int) -> bytes:
        """Sent when the engine stops after `sent` tokens."""
        ...

    def end(self, output_tokens: int) -> bytes:
        """Sent at the end of the whole stream; output_tokens: of all choices together."""
        ...


def choice_events(
    generation: GenerationRequest, head: JsonObject, sequence: int, *, chunked: bool
) -> ChoiceEvents | None:
    """The events of a sequence; `None` for one that is not answered, or not streamed."""
    if not generation.stream or generation.choice(sequence) is None:
        return None
    if generation.api == "response":
        return ResponseEvents(generation, head, chunked=chunked)
    if generation.api == "message":
        return MessageEvents(generation, head, chunked=chunked)
    return StreamChunks(generation, head, sequence, chunked=chunked)


def whole_body(generation: GenerationRequest, head: JsonObject) -> bytes:
    """The body of an answer that does not stream."""
    if generation.api == "response":
        return response_body(generation, head)
    if generation.api == "message":
        return message_body(generation, head)
    return unary_body(generation, head)
