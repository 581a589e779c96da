"""Reads a request body: the few fields that routing needs, decoded once.

The body itself is forwarded as received. Knows no estimate, no table and no backend.
"""

from typing import Final

import msgspec

from gateway.errors import BadRequest
from gateway.routing.body_schema import BodyFields
from gateway.routing.llm_request import LlmRequest

USAGE: Final = b'"stream_options":{"include_usage":true},'
_DECODER: Final = msgspec.json.Decoder(BodyFields, strict=False)  # as lax as the engines: "7" is 7
_PROMPT: Final = {"chat": "messages", "completions": "prompt", "embeddings": "input"}


def read_body(body: bytes, route: str) -> LlmRequest:
    """Reads a body. Raises BadRequest when it is not a JSON object with fields of the right types.

    A missing prompt is left to the backend, whose message is better than ours could be.
    """
    try:
        fields = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        raise BadRequest(text, param=where.rstrip("`") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    prompt: msgspec.Raw = getattr(fields, _PROMPT[route])
    cap = fields.max_completion_tokens or fields.max_tokens
    return LlmRequest(
        route=route,
        model=fields.model,
        stream=bool(fields.stream),
        prompt_bytes=len(prompt),
        prompt_tokens=None if route == "chat" else _token_ids(bytes(prompt)),
        max_tokens=cap if cap is not None and cap > 0 else None,
        bare=fields.stream_options is None and route != "embeddings",
    )


def usage_asked(body: bytes) -> bytes | None:
    """A body that asks for the usage of its stream too; `None` if it is an empty object.

    Spliced in as the first key: should the client say it too after all, the last one counts.
    """
    start = body.find(b"{") + 1
    if body[start:].lstrip()[:1] in (b"}", b""):
        return None
    return body[:start] + USAGE + body[start:]


def _token_ids(prompt: bytes) -> int | None:
    """How many token ids a raw prompt holds, `[1, 2]` or `[[1, 2], [3]]`; `None` if it is text."""
    inner = prompt.lstrip(b"[ \t\r\n")
    if not prompt.startswith(b"[") or not inner[:1].isdigit():
        return None
    return prompt.count(b",") + 1
