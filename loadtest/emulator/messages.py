"""Anthropic's Messages as vLLM answers them: the whole body, and the events of a stream.

vLLM makes both from its chats. No sockets, no pace.
"""

import json

import msgspec

from loadtest.emulator.refusals import JsonObject, RequestRefused
from loadtest.emulator.replies import tool_id
from loadtest.emulator.requests import GenerationRequest
from loadtest.emulator.sse import http_chunk, named_event
from loadtest.emulator.text import output_text, unary_text

STOP_REASONS = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "by": "stop_sequence",
}  # fmt: skip


def message_usage(generation: GenerationRequest, output_tokens: int) -> JsonObject:
    """Anthropic's `usage`; tokens from the prefix cache are told beside the input."""
    usage = {"input_tokens": generation.prompt_total, "output_tokens": output_tokens}
    cached = generation.cached_total
    if cached is None:
        return usage
    return {**usage, "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached}


def stop_reason(generation: GenerationRequest) -> str | None:
    """Why the message ends; `None` where the engine gave up."""
    reason = generation.finish_reasons[0]
    if generation.tool is not None and reason == "stop":
        reason = "tool_calls"
    if generation.stop_reason(0) is not None:
        reason = "by"
    return STOP_REASONS.get(reason)


def message_body(generation: GenerationRequest, head: JsonObject) -> bytes:
    """The body of an unary answer. head: id and model."""
    text = unary_text(generation, 0)
    content: JsonObject = {"type": "text", "text": text}
    if generation.called:
        content = _tool_block(generation, _arguments(text))
    value = {
        "id": head["id"],
        "type": "message",
        "role": "assistant",
        "content": [content],
        "model": head["model"],
        "stop_reason": stop_reason(generation),
        "stop_sequence": generation.stop_reason(0),
        "usage": message_usage(generation, generation.output_total),
    }
    if value["stop_sequence"] is None:
        del value["stop_sequence"]
    if value["stop_reason"] is None:
        del value["stop_reason"]  # vLLM leaves out what it does not know
    return msgspec.json.encode(value)


def message_error(refused: RequestRefused) -> JsonObject:
    """A refusal in Anthropic's shape. What the schema rejects keeps OpenAI's."""
    error = refused.body.get("error")
    if not isinstance(error, dict) or error["type"] == "Bad Request":
        return refused.body
    return {"type": "error", "error": {"type": error["type"], "message": error["message"]}}


def _tool_block(generation: GenerationRequest, arguments: object) -> JsonObject:
    call = {"type": "tool_use", "id": tool_id(generation, 0), "name": generation.tool}
    return {**call, "input": arguments}


def _arguments(text: str) -> object:
    """Arguments as an object; empty where the answer was cut."""
    try:
        return json.loads(text)
    except ValueError:
        return {}


class MessageEvents:
    """The events of one streamed message, as bytes ready for the socket."""

    __slots__ = ("_begun", "_chunked", "_generation", "_head")

    def __init__(self, generation: GenerationRequest, head: JsonObject, *, chunked: bool) -> None:
        self._generation = generation
        self._head = head
        self._chunked = chunked
        self._begun = False

    def begin(self) -> bytes:
        """What is sent before the first token: nothing."""
        return b""

    def tokens(self, start: int, stop: int, step: int = 1) -> bytes:
        """The events of output tokens start to stop − 1, `step` of them in each; before the first
        one the message and its block begin. A token without text has no event."""
        events = []
        if start == 0:
            self._begun = True
            block: JsonObject = {"type": "text", "text": ""}
            if self._generation.tool is not None:
                block = _tool_block(self._generation, {})
            begin = {"type": "content_block_start", "content_block": block, "index": 0}
            events += [self._started(), self._framed(begin)]
        for first in range(start, stop, step):
            text = output_text(self._generation, 0, first, min(first + step, stop))
            if not text:
                continue
            delta = {"type": "text_delta", "text": text}
            if self._generation.tool is not None:
                delta = {"type": "input_json_delta", "partial_json": text}
            value = {"type": "content_block_delta", "delta": delta, "index": 0}
            events.append(self._framed(value))
        return b"".join(events)

    def aborted(self, sent: int) -> bytes:
        """What an engine that stops after `sent` tokens says beside the end."""
        return b"" if sent else self._started()

    def end(self, output_tokens: int) -> bytes:
        """The end of the block and of the message, with the usage."""
        events: list[JsonObject] = [{"type": "message_stop"}]
        if self._begun:
            usage = message_usage(self._generation, output_tokens)
            whole = output_tokens == self._generation.output_total
            reason = {
                "stop_reason": stop_reason(self._generation) if whole else None,
                "stop_sequence": self._generation.stop_reason(0) if whole else None,
            }
            delta = {"type": "message_delta", "delta": reason, "usage": usage}
            events = [{"type": "content_block_stop", "index": 0}, delta, *events]
        return b"".join(map(self._framed, events))

    def _started(self) -> bytes:
        message = {
            "id": self._head["id"], "type": "message", "role": "assistant", "content": [],
            "model": self._head["model"], "stop_reason": None, "stop_sequence": None,
            "usage": {"input_tokens": self._generation.prompt_total, "output_tokens": 0},
        }  # fmt: skip
        return self._framed({"type": "message_start", "message": message})

    def _framed(self, value: JsonObject) -> bytes:
        event = named_event(value)
        return http_chunk(event) if self._chunked else event
