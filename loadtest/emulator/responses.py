"""OpenAI's Responses as vLLM answers them: the whole body, and the events of a stream.

The order of the events is that of vLLM without a reasoning parser. No sockets, no pace.
"""

from dataclasses import replace

import msgspec

from loadtest.emulator.refusals import JsonObject
from loadtest.emulator.replies import tool_id
from loadtest.emulator.requests import GenerationRequest
from loadtest.emulator.sse import http_chunk, named_event
from loadtest.emulator.text import output_text, unary_text, whole_text

# What an answer has of a tool and of a format, said or not.
TOOL = (
    "name", "parameters", "strict", "type", "allowed_callers", "async", "defer_loading",
    "description", "output_schema",
)  # fmt: skip
FORMAT = ("name", "schema", "type", "description", "strict")


def response_object(
    generation: GenerationRequest, head: JsonObject, item: JsonObject
) -> JsonObject:
    """The finished response. head: id, created and model. item: its output."""
    cut = generation.finish_reasons[0] not in ("stop", "tool_calls")
    value = _begun(generation, head, "incomplete" if cut else "completed")
    details = {"reason": "max_output_tokens"} if cut else None
    return value | {"incomplete_details": details, "output": [item], "usage": _usage(generation)}


def response_body(generation: GenerationRequest, head: JsonObject) -> bytes:
    """The body of an unary answer."""
    text = unary_text(generation, 0)
    done = "completed"
    item = _item(generation, text, done) if generation.called else _message(generation, text, done)
    return msgspec.json.encode(response_object(generation, head, item))


def _whole(given: JsonObject, names: tuple[str, ...]) -> JsonObject:
    """An object with these fields first; `None` for those that it lacks."""
    return {**dict.fromkeys(names), **given}


def _text(given: object) -> object:
    """`text` of a request as an answer has it, with what was not said."""
    if not isinstance(given, dict):
        return given
    form = given.get("format")
    if isinstance(form, dict) and form.get("type") == "json_schema":
        form = _whole(form, FORMAT)
    return {**given, "format": form, "verbosity": given.get("verbosity")}


def _begun(generation: GenerationRequest, head: JsonObject, status: str) -> JsonObject:
    """A response without output, in vLLM's order of fields."""
    body = generation.body
    tools = body.get("tools") or []
    return {
        "id": head["id"],
        "created_at": head["created"],
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata"),
        "model": head["model"],
        "object": "response",
        "output": [],
        "parallel_tool_calls": True,
        "temperature": body.get("temperature", 1.0),
        "tool_choice": body.get("tool_choice", "auto" if tools else "none"),
        "tools": [_whole(tool, TOOL) for tool in tools],
        "top_p": body.get("top_p", 1.0),
        "background": False,
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": None,
        "previous_response_id": None,
        "prompt": None,
        "reasoning": None,
        "service_tier": "auto",
        "status": status,
        "text": _text(body.get("text")),
        "top_logprobs": None,
        "truncation": "disabled",
        "usage": None,
        "user": body.get("user"),
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "input_messages": None,
        "output_messages": None,
    }


def _usage(generation: GenerationRequest) -> JsonObject:
    turns: list[int] = []
    return {
        "input_tokens": generation.prompt_total,
        "input_tokens_details": {
            "cached_tokens": generation.cached_total or 0, "cache_write_tokens": 0,
            "input_tokens_per_turn": turns, "cached_tokens_per_turn": turns,
        },
        "output_tokens": generation.output_total,
        "output_tokens_details": {
            "reasoning_tokens": 0, "tool_output_tokens": 0,
            "output_tokens_per_turn": turns, "tool_output_tokens_per_turn": turns,
        },
        "total_tokens": generation.prompt_total + generation.output_total,
    }  # fmt: skip


def _item(generation: GenerationRequest, text: str, status: str) -> JsonObject:
    """The one item of the output: a message, or the call of a function."""
    if generation.tool is not None:
        return {
            "arguments": text, "call_id": tool_id(generation, 0), "name": generation.tool,
            "type": "function_call", "id": f"fc_{generation.seed:016x}", "async": None,
            "caller": None, "namespace": None, "status": status,
        }  # fmt: skip
    return _message(generation, text, status)


def _message(generation: GenerationRequest, text: str, status: str) -> JsonObject:
    done = status == "completed"
    return {
        "id": f"msg_{generation.seed:016x}", "content": [_text_part(text)] if done else [],
        "role": "assistant", "status": status, "type": "message", "phase": None,
    }  # fmt: skip


def _text_part(text: str) -> JsonObject:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": None}


class ResponseEvents:
    """The events of one streamed response, as bytes ready for the socket. They are numbered."""

    __slots__ = ("_chunked", "_generation", "_head", "_number", "_sent")

    def __init__(self, generation: GenerationRequest, head: JsonObject, *, chunked: bool) -> None:
        self._generation = generation
        self._head = head
        self._chunked = chunked
        self._number = 0
        self._sent = 0

    def begin(self) -> bytes:
        """The two events that come at once, long before the first token."""
        response = _begun(self._generation, self._head, "in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def tokens(self, start: int, stop: int, step: int = 1) -> bytes:
        """The events of output tokens start to stop − 1, `step` of them in each; before the first
        one the item begins. A token without text has no event."""
        events = [self._item_begins()] if start == 0 else []
        self._sent = stop
        for first in range(start, stop, step):
            text = output_text(self._generation, 0, first, min(first + step, stop))
            if text:
                events.append(self._delta(text))
        return b"".join(events)

    def aborted(self, _: int) -> bytes:
        """What an engine that stops says beside the end: nothing."""
        return b""

    def end(self, output_tokens: int) -> bytes:
        """The end of the item, and the whole response with its usage."""
        if output_tokens < self._generation.output_total:  # the engine gave up
            self._generation = replace(
                self._generation, output_tokens=(self._sent,), finish_reasons=("abort",)
            )
        item = _item(self._generation, whole_text(self._generation, 0), "completed")
        response = response_object(self._generation, self._head, item)
        if not self._sent:
            return self._event("response.completed", response=response | {"output": []})
        done = b""
        if self._generation.tool is None:
            part, place = item["content"][0], self._place()
            done = self._event(
                "response.output_text.done", **place, text=part["text"], logprobs=[]
            ) + self._event("response.content_part.done", **place, part=part)
        else:
            place = {"item_id": item["id"], "output_index": 0, "name": item["name"]}
            kind = "response.function_call_arguments.done"
            done = self._event(kind, **place, arguments=item["arguments"])
        done += self._event("response.output_item.done", output_index=0, item=item)
        return done + self._event("response.completed", response=response)

    def _item_begins(self) -> bytes:
        item = _item(self._generation, "", "in_progress")
        begins = self._event("response.output_item.added", output_index=0, item=item)
        if self._generation.tool is None:
            part = _text_part("") | {"logprobs": []}
            begins += self._event("response.content_part.added", **self._place(), part=part)
        return begins

    def _delta(self, text: str) -> bytes:
        if self._generation.tool is None:
            return self._event(
                "response.output_text.delta", **self._place(), delta=text, logprobs=[]
            )
        place = {"item_id": _item(self._generation, "", "")["id"], "output_index": 0}
        return self._event("response.function_call_arguments.delta", **place, delta=text)

    def _place(self) -> JsonObject:
        item_id = f"msg_{self._generation.seed:016x}"
        return {"content_index": 0, "item_id": item_id, "output_index": 0}

    def _event(self, kind: str, /, **fields: object) -> bytes:
        # vLLM writes the fields in the order of their names, and one that is not OpenAI's behind.
        named = {"name": fields.pop("name")} if "name" in fields else {}
        told = {**fields, "sequence_number": self._number, "type": kind}
        event = named_event({**dict(sorted(told.items())), **named})
        self._number += 1
        return http_chunk(event) if self._chunked else event
