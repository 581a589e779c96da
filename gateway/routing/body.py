"""Reads the fields of a request body that the gateway needs, in one pass.

The body itself is forwarded as received. Knows no estimate, no table and no backend.
"""

from typing import Final

import msgspec

from gateway.errors import BadRequest
from gateway.routing.body_schema import BodyFields
from gateway.routing.endpoints import Endpoint
from gateway.routing.form import read_form
from gateway.routing.llm_request import LlmRequest

USAGE: Final = b'"stream_options":{"include_usage":true},'
# Not strict, because the engines are not: vLLM reads "max_tokens": "7" as 7.
_DECODER: Final = msgspec.json.Decoder(BodyFields, strict=False)


def read_body(body: bytes, endpoint: Endpoint) -> LlmRequest:
    """Read a body. Raises BadRequest when it is not a JSON object with fields of the right types.

    A missing prompt is no error here: the backend knows better what the endpoint needs.
    """
    if endpoint.form:
        return read_form(body, endpoint)
    try:
        fields = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        raise BadRequest(text, param=where.rstrip("`") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    prompt: msgspec.Raw = getattr(fields, endpoint.prompt)
    # OpenAI renamed max_tokens; engines take the new name first where a client sends both.
    cap = fields.max_completion_tokens or fields.max_tokens or fields.max_output_tokens
    listed = endpoint.token_ids and bytes(prompt).startswith(b"[")
    return LlmRequest(
        endpoint=endpoint,
        model=fields.model,
        stream=bool(fields.stream) and endpoint.generates,
        prompt_bytes=len(prompt),
        prompt_tokens=_token_ids(bytes(prompt)) if listed else None,
        max_tokens=cap if cap is not None and cap > 0 else None,
        one_choice=(fields.n is None or fields.n == 1) and not listed,
        asks_usage=fields.stream_options is not None or not endpoint.usage_option,
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


def _token_ids(prompt: bytes) -> int | None:
    """The number of token ids in a raw list, `[1, 2]` or `[[1, 2], [3]]`; `None` for texts."""
    inner = prompt.lstrip(b"[ \t\r\n")
    if not inner[:1].isdigit():
        return None
    # One comma between two ids, and one between two lists of ids.
    return prompt.count(b",") + 1
