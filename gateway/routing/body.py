"""Reads the fields of a request body that the gateway needs, in one pass.

The body itself is forwarded as received. Knows no estimate, no table and no backend.
"""

from math import isfinite
from typing import Any, Final

import msgspec

from gateway.errors import BadRequest
from gateway.routing.body_schema import NOTHING, BodyFields, ChatFields, CommonFields, Message
from gateway.routing.elements import too_many
from gateway.routing.endpoints import Endpoint
from gateway.routing.form import read_form
from gateway.routing.llm_request import LlmRequest
from gateway.routing.prompt_text import OTHER, PARTS, PromptText

USAGE: Final = b'"stream_options":{"include_usage":true},'
MESSAGES: Final = "messages"
DOCUMENTS: Final = "documents"
MOST_CHOICES: Final = 16_384  # of one prompt: vLLM's limit; more are refused by every engine
MOST_SEQUENCES: Final = 1 << 20
# More of a prompt's bytes than this share are those of characters that take several: it is written
# in another script than Latin, where a token has other lengths.
WIDE: Final = 4
# Not strict, because the engines are not: vLLM reads "max_tokens": "7" as 7.
_CHAT: Final = msgspec.json.Decoder(ChatFields, strict=False)
_DECODER: Final = msgspec.json.Decoder(BodyFields, strict=False)


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
        for message in messages:
            add_message(text, message)
    else:
        loose = decoded(body)
        prompt = bytes(getattr(loose, endpoint.prompt))
        tokens = token_ids(prompt) if endpoint.token_ids and prompt[:1] == b"[" else None
        if tokens is not None:
            prompts = max(1, prompt.count(b"[") - 1)
        elif prompt:
            units = text.add_content(prompt)
            prompts = max(1, units) if endpoint.token_ids else 1
        else:  # vLLM's embeddings take messages instead
            units = text.add_content(bytes(loose.messages))
        fields = loose
    add_beside(text, fields, endpoint)
    return request_of(fields, text, endpoint, tokens, units=units, prompts=prompts)


def request_of(
    fields: CommonFields,
    text: PromptText,
    endpoint: Endpoint,
    tokens: int | None,
    *,
    units: int,
    prompts: int,
) -> LlmRequest:
    """The request of a body that was read. tokens: of a prompt of token ids."""
    # OpenAI renamed max_tokens; engines take the new name first where a client sends both.
    cap = fields.max_completion_tokens or fields.max_tokens or fields.max_output_tokens
    answers, width = prompts, prompts
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
        asks_usage=fields.stream_options is not None or not endpoint.usage_option,
        units=units,
        wide=text.wide_bytes * WIDE > text.text_bytes,
        payload=() if text.payload is None else tuple(sorted(text.payload.items())),
        prompts=prompts,
        answers=answers,
        width=width,
        previous=fields.previous_response_id,
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


def decoded(body: bytes) -> BodyFields:
    """The fields of any body. Raises BadRequest."""
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        raise BadRequest(text, param=where.rstrip("`") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error


def add_message(text: PromptText, message: Message) -> None:
    """Add a message of the usual shape."""
    content = message.content
    if isinstance(content, str):
        text.add(content)
    else:
        for part in content or ():
            text.add_content(bytes(part), PARTS)
        text.add_json(bytes(message.function_call))
    if message.tool_calls is not NOTHING:
        text.add_json(bytes(message.tool_calls))


def add_beside(text: PromptText, fields: CommonFields, endpoint: Endpoint) -> None:
    """Add what is part of the prompt and stands beside it."""
    nothing = NOTHING
    if fields.tools is not nothing:
        text.add_json(bytes(fields.tools))
    if fields.system is not nothing:
        text.add_content(bytes(fields.system))
    if fields.documents is not nothing and endpoint.prompt != DOCUMENTS:
        text.add_content(bytes(fields.documents))
    if fields.functions is not nothing:
        text.add_json(bytes(fields.functions))
    if fields.instructions is not nothing:
        text.add_content(bytes(fields.instructions))
    if fields.suffix is not nothing:
        text.add_content(bytes(fields.suffix))
    if not endpoint.generates:  # what documents and texts are compared with
        text.add_content(bytes(fields.query))
        text.add_content(bytes(fields.text_1))
    if fields.prompt_embeds is not nothing and bytes(fields.prompt_embeds) != b"null":
        text.count(OTHER)


def token_ids(prompt: bytes) -> int | None:
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
