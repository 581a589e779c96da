"""Bodies of `/v1/responses` and `/v1/messages` as the chats that they mean: vLLM serves both so.

Knows no tokens and no answers.
"""

import json
from typing import Any

from loadtest.emulator.prompts import PICTURES
from loadtest.emulator.refusals import (
    JsonObject,
    SchemaError,
    validation_error,
    validation_errors,
)

ROLES = ("user", "assistant", "system")
SHARED = ("model", "stream", "temperature", "top_p", "top_k", "vllm_xargs", "ignore_eos")


def chat_of_message(body: JsonObject) -> JsonObject:
    """Anthropic's request as a chat. Raises RequestRefused for what its schema lacks."""
    for name in ("messages", "max_tokens"):
        if name not in body:
            raise validation_error("missing", f"body.{name}", "Field required", body)
    most = body["max_tokens"]
    if isinstance(most, int) and most < 1:
        message = "max_tokens must be positive"
        context = f", 'ctx': {{'error': ValueError('{message}')}}"
        where = "body.max_tokens"
        raise validation_error("value_error", where, f"Value error, {message}", most, context)
    chat = counted_chat(body)
    chat["max_tokens"] = body["max_tokens"]
    if isinstance(body.get("stop_sequences"), list):
        chat["stop"] = body["stop_sequences"]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        named = {"type": "function", "function": {"name": choice.get("name")}}
        choices = {"auto": "auto", "any": "required", "none": "none", "tool": named}
        chat["tool_choice"] = choices.get(str(choice.get("type")), "auto")
    return chat


def counted_chat(body: JsonObject) -> JsonObject:
    """The part of Anthropic's request that makes the prompt; `count_tokens` has no more."""
    if "messages" not in body:
        raise validation_error("missing", "body.messages", "Field required", body)
    chat = {name: body[name] for name in SHARED if name in body}
    chat["messages"] = body["messages"]
    if isinstance(body["messages"], list) and body["messages"]:
        for place, item in enumerate(body["messages"]):
            _check_role(place, item)
        turns = [_turn(item) if isinstance(item, dict) else item for item in body["messages"]]
        system = body.get("system")
        first = [{"role": "system", "content": _parts(system)}] if system else []
        chat["messages"] = first + turns
    if body.get("tools"):
        chat["tools"] = [
            _function(tool, "input_schema") for tool in body["tools"] if isinstance(tool, dict)
        ]
    return chat


def _check_role(place: int, item: object) -> None:
    role = item.get("role") if isinstance(item, dict) else None
    if isinstance(role, str) and role not in ROLES:
        allowed = "'user', 'assistant' or 'system'"
        context = f", 'ctx': {{'expected': {allowed!r}}}"
        where = f"body.messages.{place}.role"
        message = f"Input should be {allowed}"
        raise validation_error("literal_error", where, message, role, context)


def chat_of_response(body: JsonObject) -> JsonObject:
    """OpenAI's Responses request as a chat. Raises RequestRefused for what its schema lacks, and
    for an earlier response: this engine keeps none."""
    if "input" not in body:
        raise validation_error("missing", "body.input", "Field required", body)
    if not isinstance(body["input"], str | list):
        kinds = ("string", "list")
        words = [
            (f"{kind}_type", "body.input", f"Input should be a valid {kind}") for kind in kinds
        ]
        raise validation_errors([SchemaError(*each, body["input"]) for each in words])
    chat = {name: body[name] for name in SHARED if name in body}
    given = body["input"]
    turns = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if isinstance(turns, list):
        turns = [_turn(item) if isinstance(item, dict) else item for item in turns]
    if body.get("instructions"):
        first = [{"role": "system", "content": body["instructions"]}]
        turns = first + turns if isinstance(turns, list) else turns
    chat["messages"] = turns
    if body.get("max_output_tokens") is not None:
        chat["max_tokens"] = body["max_output_tokens"]
    if body.get("tools"):
        chat["tools"] = [
            _function(tool, "parameters")
            for tool in body["tools"]
            if isinstance(tool, dict) and tool.get("type") == "function"
        ]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    if choice is not None:
        chat["tool_choice"] = choice
    text = body.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    if isinstance(form, dict):
        chat["response_format"] = {"type": form.get("type"), "json_schema": form}
    return chat


def _function(tool: JsonObject, schema: str) -> JsonObject:
    """A tool of either dialect as a chat has it."""
    function = {name: tool[name] for name in ("name", "description") if name in tool}
    return {"type": "function", "function": {**function, "parameters": tool.get(schema)}}


def _turn(item: JsonObject) -> JsonObject:
    """A message of either dialect; results of tools make it one of the role `tool`."""
    if item.get("type") == "function_call":
        return {"role": "assistant", "content": item.get("arguments")}
    if item.get("type") == "function_call_output":
        return {"role": "tool", "content": _parts(item.get("output"))}
    content = item.get("content")
    blocks = content if isinstance(content, list) else []
    results = any(isinstance(b, dict) and b.get("type") == "tool_result" for b in blocks)
    return {"role": "tool" if results else item.get("role"), "content": _parts(content)}


def _parts(content: Any) -> Any:
    """Content as texts and pictures; every other block counts as its JSON."""
    if not isinstance(content, list):
        return content
    parts = []
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(block, dict) or "text" in block or kind in PICTURES:
            parts.append(block)
        else:
            inside = block.get("content") or block.get("input") or ""
            text = inside if isinstance(inside, str) else json.dumps(inside)
            parts.append({"type": "text", "text": text})
    return parts
