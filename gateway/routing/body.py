"""Reads the fields of a request body that the gateway needs, in one pass.

The body itself is forwarded as received. Knows no estimate, no table and no backend.
"""

import re
from math import isfinite
from typing import Any, Final
from zlib import crc32

import msgspec
from msgspec.structs import astuple

from gateway.errors import BadRequest
from gateway.routing.body_schema import (
    NOTHING,
    UNSET,
    BodyFields,
    ChatFields,
    LaxFields,
    Message,
)
from gateway.routing.elements import too_many
from gateway.routing.endpoints import RESPONSES, Endpoint
from gateway.routing.form import read_form
from gateway.routing.llm_request import LlmRequest
from gateway.routing.pairs import add_queries, documents_of
from gateway.routing.prompt_text import OTHER, PARTS, PromptText, PromptTexts

USAGE: Final = b'"stream_options":{"include_usage":true},'
NULL_OPTIONS: Final = re.compile(rb'"stream_options"\s*:\s*null\b')
MESSAGES: Final = "messages"
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
CACHE_SALT: Final = 12
CACHE_KEY: Final = 13
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
OF_STREAM: Final = " - at `$.stream`"


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
    fields: BodyFields | None = None
    chat = _chat(body) if endpoint.prompt == MESSAGES else None
    if chat is not None:
        # All at once: compiled code pays 110 instructions for each attribute of a class that is
        # not.
        values = astuple(chat)
        units = len(chat.messages) + 1
        for message in chat.messages:
            _add_message(text, message)
    else:
        fields = decoded(body)
        values = astuple(fields)
        prompt = prompt_of(fields, endpoint)
        tokens = token_ids(prompt) if endpoint.token_ids and prompt[:1] == b"[" else None
        if tokens is not None:
            prompts = max(1, prompt.count(b"[") - 1)
        else:
            units = text.add_content(prompt)
            if lists_prompts(fields, endpoint):
                prompts = max(1, units)
        if endpoint.pairs:
            add_queries(text, fields, prompts)
    add_beside(text, values, fields, endpoint)
    return request_of(values, fields, text, endpoint, tokens, units=units, prompts=prompts)


def prompt_of(fields: BodyFields, endpoint: Endpoint) -> bytes:
    """The prompt of a body as JSON; empty if there is none."""
    if endpoint.pairs:
        return documents_of(fields)
    # vLLM's embeddings take messages instead.
    return bytes(getattr(fields, endpoint.prompt)) or bytes(fields.messages)


def lists_prompts(fields: BodyFields, endpoint: Endpoint) -> bool:
    """Whether a list in the prompt's place is a list of prompts."""
    return endpoint.pairs or (endpoint.token_ids and bool(bytes(getattr(fields, endpoint.prompt))))


def request_of(
    values: tuple[Any, ...],
    fields: BodyFields | None,
    text: PromptText,
    endpoint: Endpoint,
    tokens: int | None,
    *,
    units: int,
    prompts: int,
) -> LlmRequest:
    """The request of a body that was read. values: of its `CommonFields`. fields: all of it, unless
    it is a chat of the usual shape. tokens: of a prompt of token ids."""
    # OpenAI renamed max_tokens; engines take the new name first where a client sends both. Of any
    # other name than an endpoint's own they take no notice.
    cap: int | None = values[NEW_CAP] or values[OLD_CAP]
    previous: str | None = None
    if endpoint is RESPONSES and fields is not None:
        cap, previous = fields.max_output_tokens, fields.previous_response_id
    n, best_of, options = values[N], values[BEST_OF], values[OPTIONS]
    answers, width = prompts, prompts
    if endpoint.generates and (n is not None or best_of is not None):
        answers = min(prompts * _choices(n), MOST_SEQUENCES)
        width = max(answers, min(prompts * _choices(best_of), MOST_SEQUENCES))
    session = values[CACHE_KEY]
    before = _before(values, fields)
    return LlmRequest(
        endpoint=endpoint,
        model=values[MODEL],
        stream=bool(values[STREAM]) and endpoint.generates,
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
        previous=previous,
        beside=crc32(before) if before else 0,
        beside_bytes=len(before),
        session=session if isinstance(session, str) else None,
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


def decoded(body: bytes) -> BodyFields:
    """The fields of any body. Raises BadRequest."""
    if body.startswith(BOM):
        body = body[len(BOM) :]
    try:
        return _DECODER.decode(body)
    except msgspec.ValidationError as error:
        fields = _lax(body) if str(error).endswith(OF_STREAM) else None
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


def _add_message(text: PromptText, message: Message) -> None:
    """Add a message of the usual shape."""
    values = astuple(message)
    content, calls = values[0], values[1]
    if isinstance(content, str):
        text.add(content)
    else:
        for part in content or ():
            text.add_content(bytes(part), PARTS)
        text.add_json(bytes(values[2]))
    if calls is not NOTHING:
        add_calls(text, calls, values[3], values[4])


def add_calls(text: PromptText, calls: Any, *thoughts: Any) -> None:
    """Add the calls of tools in a message. Templates write what was thought before a call, and
    leave out other thoughts."""
    text.add_json(bytes(calls))
    for thought in thoughts:
        text.add_content(bytes(thought))


def add_beside(
    text: PromptText, values: tuple[Any, ...], fields: BodyFields | None, endpoint: Endpoint
) -> None:
    """Add what is part of the prompt and stands beside it."""
    nothing = NOTHING
    if values[TOOLS] is not nothing:
        text.add_json(bytes(values[TOOLS]))
    if values[SYSTEM] is not nothing:
        text.add_content(bytes(values[SYSTEM]))
    if values[DOCUMENTS] is not nothing and not endpoint.pairs:
        text.add_content(bytes(values[DOCUMENTS]))
    if values[FUNCTIONS] is not nothing:
        text.add_json(bytes(values[FUNCTIONS]))
    if values[EMBEDS] is not nothing and bytes(values[EMBEDS]) != b"null":
        text.count(OTHER)
    if fields is not None:
        text.add_content(bytes(fields.instructions))
        text.add_content(bytes(fields.suffix))


def _before(values: tuple[Any, ...], fields: BodyFields | None) -> bytes:
    """What an engine puts before the prompt; two prompts begin alike only where it is the same."""
    before, nothing = b"", NOTHING
    for place in (TOOLS, SYSTEM, DOCUMENTS, FUNCTIONS, CACHE_SALT):
        if values[place] is not nothing:
            before += bytes(values[place])
    if fields is not None and fields.instructions is not nothing:
        before += bytes(fields.instructions)
    return before


def token_ids(prompt: bytes) -> int | None:
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
