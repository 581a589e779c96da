"""Reads the fields of a request body that the gateway needs, in one pass.

The body itself is forwarded as received. Knows no estimate, no table and no backend.
"""

from math import isfinite
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from gateway.errors import BadRequest
from gateway.routing.body_schema import NOTHING, BodyFields, ChatFields, Message
from gateway.routing.endpoints import Endpoint
from gateway.routing.form import read_form
from gateway.routing.llm_request import LlmRequest
from gateway.routing.prompt_text import OTHER, PARTS, PromptText, PromptTexts, too_many

USAGE: Final = b'"stream_options":{"include_usage":true},'
MESSAGES: Final = "messages"
DOCUMENTS_KEY: Final = "documents"
MOST_CHOICES: Final = 16_384  # of one prompt: vLLM's limit; more are refused by every engine
MOST_SEQUENCES: Final = 1 << 20
# More of a prompt's bytes than this share are those of characters that take several: it is written
# in another script than Latin, where a token has other lengths.
WIDE: Final = 4
# The places of `CommonFields`.
MODEL: Final = 0
STREAM: Final = 1
OLD_CAP: Final = 2
NEW_CAP: Final = 3
OPTIONS: Final = 4
N: Final = 5
BEST_OF: Final = 6
TOOLS: Final = 7
SYSTEM: Final = 8
DOCUMENTS: Final = 9
FUNCTIONS: Final = 10
EMBEDS: Final = 11
# Not strict, because the engines are not: vLLM reads "max_tokens": "7" as 7.
_CHAT: Final = msgspec.json.Decoder(ChatFields, strict=False)
_DECODER: Final = msgspec.json.Decoder(BodyFields, strict=False)


def prompt_texts(body: bytes, endpoint: Endpoint) -> list[str]:
    """The texts of which a body's prompt is made, each by itself. Raises BadRequest as `read_body`
    does."""
    kept = PromptTexts()
    read_body(body, endpoint, kept)
    return kept.texts


def read_body(body: bytes, endpoint: Endpoint, text: PromptText | None = None) -> LlmRequest:
    """Read a body. Raises BadRequest when it is not a JSON object with fields of the right types.

    A missing prompt is no error here: the backend knows better what the endpoint needs. text: where
    the prompt goes.
    """
    if endpoint.form:
        return read_form(body, endpoint)
    units, prompts = 0, 1
    if text is None:
        text = PromptText()
    tokens: int | None = None
    cap: int | None = None
    previous: str | None = None
    chat = _chat(body) if endpoint.prompt == MESSAGES else None
    if chat is not None:
        # All at once: compiled code pays 110 instructions for each attribute of a class that is
        # not.
        values = astuple(chat)
        units = len(chat.messages) + 1
        _add_messages(text, chat.messages)
    else:
        fields = _decoded(body)
        values = astuple(fields)
        prompt = bytes(getattr(fields, endpoint.prompt))
        tokens = _token_ids(prompt) if endpoint.token_ids and prompt[:1] == b"[" else None
        if tokens is not None:
            prompts = max(1, prompt.count(b"[") - 1)
        elif prompt:
            units = text.add_content(prompt)
            prompts = max(1, units) if endpoint.token_ids else 1
        else:  # vLLM's embeddings take messages instead
            units = text.add_content(bytes(fields.messages))
        _add_around(text, fields, endpoint)
        cap, previous = fields.max_output_tokens, fields.previous_response_id
    _add_beside(text, values, endpoint)
    # OpenAI renamed max_tokens; engines take the new name first where a client sends both.
    cap = values[NEW_CAP] or values[OLD_CAP] or cap
    n, best_of = values[N], values[BEST_OF]
    answers, width = prompts, prompts
    if endpoint.generates and (n is not None or best_of is not None):
        answers = min(prompts * _choices(n), MOST_SEQUENCES)
        width = max(answers, min(prompts * _choices(best_of), MOST_SEQUENCES))
    return LlmRequest(
        endpoint=endpoint,
        model=values[MODEL],
        stream=bool(values[STREAM]) and endpoint.generates,
        prompt_bytes=text.text_bytes,
        prompt_tokens=tokens,
        max_tokens=cap if cap is not None and cap > 0 else None,
        one_choice=width == 1,
        asks_usage=values[OPTIONS] is not None or not endpoint.usage_option,
        units=units,
        wide=text.wide_bytes * WIDE > text.text_bytes,
        payload=() if text.payload is None else tuple(sorted(text.payload.items())),
        prompts=prompts,
        answers=answers,
        width=width,
        previous=previous,
    )


def with_usage(body: bytes) -> bytes | None:
    """The body with `stream_options` that ask for the usage; `None` if it is an empty object.

    The key is spliced in before the others, so that the body is not encoded again. If the body has
    the key too, it comes later, and JSON parsers of the engines take the last of two equal keys.
    """
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
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        raise BadRequest(text, param=where.rstrip("`") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error


def _add_messages(text: PromptText, messages: list[Message]) -> None:
    nothing = NOTHING
    for message in messages:
        values = astuple(message)
        content, tool_calls = values[0], values[1]
        if isinstance(content, str):
            text.add(content)
        else:
            for part in content or ():
                text.add_content(bytes(part), PARTS)
            text.add_json(bytes(values[2]))
        if tool_calls is not nothing:
            text.add_json(bytes(tool_calls))


def _add_beside(text: PromptText, values: tuple[Any, ...], endpoint: Endpoint) -> None:
    """Add what is part of any prompt and stands beside it."""
    nothing = NOTHING
    if values[TOOLS] is not nothing:
        text.add_json(bytes(values[TOOLS]))
    if values[SYSTEM] is not nothing:
        text.add_content(bytes(values[SYSTEM]))
    if values[DOCUMENTS] is not nothing and endpoint.prompt != DOCUMENTS_KEY:
        text.add_content(bytes(values[DOCUMENTS]))
    if values[FUNCTIONS] is not nothing:
        text.add_json(bytes(values[FUNCTIONS]))
    if values[EMBEDS] is not nothing and bytes(values[EMBEDS]) != b"null":
        text.count(OTHER)


def _add_around(text: PromptText, fields: BodyFields, endpoint: Endpoint) -> None:
    """Add what is part of a prompt that is no list of messages."""
    text.add_content(bytes(fields.instructions))
    text.add_content(bytes(fields.suffix))
    if not endpoint.generates:  # what documents and texts are compared with
        text.add_content(bytes(fields.query))
        text.add_content(bytes(fields.text_1))


def _token_ids(prompt: bytes) -> int | None:
    """The number of token ids in a raw list, `[1, 2]` or `[[1, 2], [3]]`; `None` for texts."""
    inner = prompt.lstrip(b"[ \t\r\n")
    if not inner[:1].isdigit():
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
