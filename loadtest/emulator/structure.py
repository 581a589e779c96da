"""Answers with a structure: JSON that fits a schema, and calls of tools. Knows no streams.

What a grammar forces from a real model is made here from the schema alone: the same schema always
gets the same answer.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from loadtest.emulator.refusals import REFUSED, JsonObject, RequestRefused
from loadtest.emulator.served import EmulatedModel

PIECES = re.compile(r"\w+|[^\w]")  # the tokens of a JSON text: words, and single other characters
DEPTH = 8  # of nested samples: a schema may refer to itself
MOST = 1000  # items or characters of a sample, whatever a schema asks for
SCALARS: dict[str, Any] = {
    "string": "sun", "integer": 7, "number": 1.5, "boolean": True, "null": None,
}  # fmt: skip
KINDS = (*SCALARS, "object", "array")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedText:
    """A text that the answer must be. pieces: its tokens. tool: the function that it is the
    arguments of, `None` for a JSON answer. named: whether the client named the function."""

    pieces: tuple[str, ...]
    tool: str | None = None
    named: bool = False

    def tokens(self, count: int) -> tuple[str, ...]:
        """The same text in so many tokens: white space after the first makes it longer, as models
        under a grammar do, and what is too much is one token."""
        missing = count - len(self.pieces)
        if missing >= 0:
            return (*self.pieces[:1], *[" "] * missing, *self.pieces[1:])
        return (*self.pieces[: count - 1], "".join(self.pieces[count - 1 :]))


def structure_of(body: JsonObject, served: EmulatedModel) -> ForcedText | None:
    """What a chat or a completion forces its answer to be; `None`: words. Raises RequestRefused."""
    function = called_function(body, served)
    if function is not None:
        arguments = json.dumps(sample(function.get("parameters") or {"type": "object"}))
        return ForcedText(
            pieces=("", *PIECES.findall(arguments)),  # the first token says which function
            tool=str(function.get("name")),
            named=isinstance(body.get("tool_choice"), dict),
        )
    schema = wanted_schema(body)
    if schema is None:
        return None
    return ForcedText(pieces=tuple(PIECES.findall(json.dumps(sample(schema)))))


def wanted_schema(body: JsonObject) -> JsonObject | None:
    """The schema of `response_format` or of vLLM's `structured_outputs`; `None` without one."""
    form = body.get("response_format")
    form = form if isinstance(form, dict) else {}
    any_object = {"type": "object", "properties": {"text": {"type": "string"}}}
    if form.get("type") == "json_object":
        return any_object
    if form.get("type") == "json_schema":
        wrapped = form.get("json_schema")
        schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
        return schema if isinstance(schema, dict) else any_object
    own = body.get("structured_outputs")
    schema = own.get("json") if isinstance(own, dict) else None
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError:
            raise refused("Invalid grammar specification.") from None
    return schema if isinstance(schema, dict) else None


def called_function(body: JsonObject, served: EmulatedModel) -> JsonObject | None:
    """The function that the answer calls. `auto` calls the first one, until a tool has answered."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    if not tools:
        if choice not in (None, "none", "auto"):
            raise of_choice("When using `tool_choice`, `tools` must be set.")
        return None
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)]
    known = {f.get("name"): f for f in functions if isinstance(f, dict)}
    if isinstance(choice, dict):
        asked = choice.get("function")
        name = asked.get("name") if isinstance(asked, dict) else None
        if name not in known:
            raise of_choice(
                "The tool specified in `tool_choice` does not match any of the specified `tools`"
            )
        return known[name]
    if choice == "none" or not known:
        return None
    if choice in (None, "auto"):
        if not served.tool_parser:
            raise refused(
                '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to '
                "be set"
            )
        if body["messages"][-1].get("role") == "tool":
            return None
    return next(iter(known.values()))


def sample(schema: object, depth: int = DEPTH) -> Any:
    """A value that fits a JSON schema: the first of what is allowed. Raises RequestRefused for a
    schema that no grammar can be made of."""
    if not isinstance(schema, dict) or depth == 0:
        return None
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    for several in ("enum", "anyOf", "oneOf", "allOf"):
        choices = schema.get(several)
        if isinstance(choices, list) and choices:
            return choices[0] if several == "enum" else sample(choices[0], depth - 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind not in KINDS:
        raise refused(f"Grammar error: Invalid type: {kind}")
    if kind == "object":
        parts = schema.get("properties")
        parts = parts if isinstance(parts, dict) else {}
        return {name: sample(part, depth - 1) for name, part in parts.items()}
    if kind == "array":
        return [sample(schema.get("items"), depth - 1)] * max(1, _count(schema, "minItems") or 1)
    if kind in ("integer", "number"):
        bounds = (schema.get("minimum"), schema.get("maximum"))
        return next((bound for bound in bounds if isinstance(bound, int | float)), SCALARS[kind])
    if kind == "string":
        word: str = SCALARS["string"]
        return (word * (1 + (_count(schema, "minLength") or 0) // 3))[: _count(schema, "maxLength")]
    return SCALARS[kind]


def _count(schema: JsonObject, name: str) -> int | None:
    """A number of items or characters, at most `MOST`; `None` if the schema has none."""
    value = schema.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return min(max(value, 0), MOST)


def of_choice(message: str) -> RequestRefused:
    """A refusal of `tool_choice`."""
    return RequestRefused(400, f"{message} (parameter=tool_choice)", REFUSED, "tool_choice")


def refused(message: str) -> RequestRefused:
    """A refusal of a structure that cannot be."""
    return RequestRefused(400, message, REFUSED)
