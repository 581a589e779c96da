"""Reads the fields of a request body that the gateway needs, in one pass.

The body itself is forwarded as received. Knows no estimate, no table and no backend.
"""

import re
from math import isfinite
from typing import Any, Final

import msgspec

from gateway.errors import BadRequest
from gateway.routing.body_schema import (
    NOTHING,
    UNSET,
    BodyFields,
    ChatFields,
    CommonFields,
    LaxFields,
    Message,
)
from gateway.routing.endpoints import RESPONSES, Endpoint
from gateway.routing.form import read_form
from gateway.routing.llm_request import LlmRequest
from gateway.routing.pairs import add_pairs
from gateway.routing.prompt_text import OTHER, PARTS, PromptText, too_many

USAGE: Final = b'"stream_options":{"include_usage":true},'
NULL_OPTIONS: Final = re.compile(rb'"stream_options"\s*:\s*null\b')
MESSAGES: Final = "messages"
MOST_CHOICES: Final = 16_384  # of one prompt: vLLM's limit; more are refused by every engine
MOST_SEQUENCES: Final = 1 << 20
# More of a prompt's bytes than this share are those of characters that take several: it is written
# in another script than Latin, where a token has other lengths.
WIDE: Final = 4
# Not strict, because the engines are not: vLLM reads "max_tokens": "7" as 7.
_CHAT: Final = msgspec.json.Decoder(ChatFields, strict=False)
_DECODER: Final = msgspec.json.Decoder(BodyFields, strict=False)
_LAX: Final = msgspec.json.Decoder(LaxFields, strict=False)
# Words of Pydantic for true and false, beside those that msgspec knows.
YES: Final = ("yes", "y", "on", "t")
NO: Final = ("no", "n", "off", "f")
BOM: Final = b"\xef\xbb\xbf"  # no part of JSON; a reader may skip it (RFC 8259 §8.1)
# What msgspec says of a wrong type, and its names of types in words.
WRONG: Final = re.compile(r"Expected `(.+?)(?: \| null)?`, got `(.+?)`")
TYPES: Final = {
    "int": "an integer", "bool": "true or false", "str": "a text", "object": "an object",
    "array": "a list",
}  # fmt: skip
FOUND: Final = TYPES | {"float": "a fraction", "bool": "a truth value"}
STREAM: Final = " - at `$.stream`"


def read_body(body: bytes, endpoint: Endpoint) -> LlmRequest:
    """Read a body. Raises BadRequest when it is not a JSON object with fields of the right types.

    A missing prompt is no error here: the backend knows better what the endpoint needs.
    """
    if endpoint.form:
        return read_form(body, endpoint)
    text, units, prompts = PromptText(), 0, 1
    tokens: int | None = None
    chat = _chat(body) if endpoint.prompt == MESSAGES else None
    fields: CommonFields
    if chat is not None:
        fields, messages = chat, chat.messages
        units = len(messages) + 1
        _add_messages(text, messages)
    else:
        loose = _decoded(body)
        prompt = b"" if endpoint.pairs else bytes(getattr(loose, endpoint.prompt))
        tokens = _token_ids(prompt) if endpoint.token_ids and prompt[:1] == b"[" else None
        if tokens is not None:
            prompts = max(1, prompt.count(b"[") - 1)
        elif endpoint.pairs:
            units = prompts = add_pairs(text, loose)
        elif prompt:
            units = text.add_content(prompt)
            prompts = max(1, units) if endpoint.token_ids else 1
        else:  # vLLM's embeddings take messages instead
            units = text.add_content(bytes(loose.messages))
        fields = loose
    _add_beside(text, fields, endpoint)
    # OpenAI renamed max_tokens; engines take the new name first where a client sends both. Of any
    # other name than an endpoint's own they take no notice.
    cap = fields.max_output_tokens
    if endpoint is not RESPONSES:
        cap = fields.max_completion_tokens or fields.max_tokens
    answers, width, options = prompts, prompts, fields.stream_options
    if endpoint.generates and (fields.n is not None or fields.best_of is not None):
        answers = min(prompts * _choices(fields.n), MOST_SEQUENCES)
        width = max(answers, min(prompts * _choices(fields.best_of), MOST_SEQUENCES))
    return LlmRequest(
        endpoint=endpoint,
        model=fields.model,
        stream=bool(fields.stream) and endpoint.generates,
        prompt_bytes=text.text_bytes,
        prompt_tokens=tokens,
        max_tokens=cap if cap is not None and cap > 0 else None,
        one_choice=width == 1,
        asks_usage=(options is not UNSET and options is not None) or not endpoint.usage_option,
        nulls_options=options is None,
        units=units,
        wide=text.wide_bytes * WIDE > text.text_bytes,
        payload=() if text.payload is None else tuple(sorted(text.payload.items())),
        prompts=prompts,
        answers=answers,
        width=width,
        previous=fields.previous_response_id if endpoint is RESPONSES else None,
    )


def with_usage(body: bytes, *, nulls_options: bool = False) -> bytes | None:
    """The body with `stream_options` that ask for the usage; `None` if it is an empty object.

    The key is spliced in before the others, so that the body is not encoded again. nulls_options:
    whether the body has the key too and says null. Then its value is replaced: of two equal keys
    Python takes the last, and engines in Rust take none. `None` where it cannot be found.
    """
    if nulls_options:
        found = list(NULL_OPTIONS.finditer(body))
        if len(found) != 1:
            return None
        return body[: found[0].start()] + USAGE[:-1] + body[found[0].end() :]
    start = body.find(b"{") + 1
    if body[start:].lstrip()[:1] in (b"}", b""):
        return None
    return body[:start] + USAGE + body[start:]


def _chat(body: bytes) -> ChatFields | None:
    """The fields of a body with messages; `None` if they are not as they usually are."""
    if too_many(body):
        return None
    try:
        return _CHAT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _decoded(body: bytes) -> BodyFields:
    if body.startswith(BOM):
        body = body[len(BOM) :]
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError as error:
        fields = _lax(body) if str(error).endswith(STREAM) else None
        if fields is None:
            raise _refusal(error) from error
        return fields
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        why = f"is not valid JSON: {error}" if body.strip() else "is empty"
        raise BadRequest(f"the body {why}") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error


def _lax(body: bytes) -> BodyFields | None:
    """The fields of a body whose `stream` is a word for a truth; `None` if it is something else."""
    try:
        fields = _LAX.decode(body)
    except msgspec.ValidationError as error:
        raise _refusal(error) from error
    except msgspec.DecodeError:
        return None
    word = fields.stream.lower() if isinstance(fields.stream, str) else ""
    fields.stream = word in YES
    return fields if word in YES or word in NO else None


def _refusal(error: msgspec.ValidationError) -> BadRequest:
    """What is wrong with the type of a field, in words for people."""
    text, _, where = str(error).partition(" - at `$.")
    name = where.rstrip("`") or None
    wrong = WRONG.fullmatch(text)
    if wrong is not None:
        expected, found = TYPES.get(wrong[1], wrong[1]), FOUND.get(wrong[2], wrong[2])
        text = f"{'the body' if name is None else name} must be {expected}, not {found}"
    return BadRequest(text, param=name)


def _add_messages(text: PromptText, messages: list[Message]) -> None:
    nothing = NOTHING
    for message in messages:
        content = message.content
        if isinstance(content, str):
            text.add(content)
        else:
            for part in content or ():
                text.add_content(bytes(part), PARTS)
            text.add_json(bytes(message.function_call))
        if message.tool_calls is not nothing:
            # Templates write what was thought before a call, and leave out other thoughts.
            text.add_json(bytes(message.tool_calls))
            text.add_content(bytes(message.reasoning))
            text.add_content(bytes(message.reasoning_content))


def _add_beside(text: PromptText, fields: CommonFields, endpoint: Endpoint) -> None:
    """Add what is part of the prompt and stands beside it."""
    nothing = NOTHING
    if fields.tools is not nothing:
        text.add_json(bytes(fields.tools))
    if fields.system is not nothing:
        text.add_content(bytes(fields.system))
    if fields.documents is not nothing and not endpoint.pairs:
        text.add_content(bytes(fields.documents))
    if fields.functions is not nothing:
        text.add_json(bytes(fields.functions))
    if fields.instructions is not nothing:
        text.add_content(bytes(fields.instructions))
    if fields.suffix is not nothing:
        text.add_content(bytes(fields.suffix))
    if fields.prompt_embeds is not nothing and bytes(fields.prompt_embeds) != b"null":
        text.count(OTHER)


def _token_ids(prompt: bytes) -> int | None:
    """The number of token ids in a raw list, `[1, 2]` or `[[1, 2], [3]]`; `None` for texts."""
    inner = prompt.lstrip(b"[ \t\r\n")
    if not inner[:1].isdigit() or b'"' in prompt:  # some engines take both in one list
        return None
    # One comma between two ids, and one between two lists of ids.
    return prompt.count(b",") + 1


def _choices(value: Any) -> int:
    """The choices that `n` or `best_of` asks for; 1 where an engine will refuse it."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return 1
    if isinstance(value, float) and not isfinite(value):
        return 1
    if not isinstance(value, int | float):
        return 1
    return max(1, min(int(value), MOST_CHOICES))
