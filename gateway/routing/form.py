"""Reads the few fields that the gateway needs of a multipart form (RFC 7578): of uploads of audio.

The form itself is forwarded as received. Knows no estimate, no table and no backend.
"""

import re
from typing import Final

from gateway.errors import BadRequest
from gateway.routing.endpoints import Endpoint
from gateway.routing.llm_request import LlmRequest

PARTS: Final = 64  # looked at; a form has a dozen
FIELD_BYTES: Final = 1024  # of a field that is read; a file is longer
HEAD_BYTES: Final = 4096  # in which the header of a part must end
NAME: Final = re.compile(rb'content-disposition:[^\r\n]*[; ]name="?([^";\r\n]*)', re.IGNORECASE)
# Engines cut audio into windows and say no tokens of it; this only ranks it beside texts.
AUDIO_TOKENS: Final = 100
TRUE: Final = (b"true", b"1")


def read_form(body: bytes, endpoint: Endpoint) -> LlmRequest:
    """Read a form. Raises BadRequest when the body is none."""
    fields = form_fields(body)
    try:
        model = fields[b"model"].decode() if b"model" in fields else None
    except UnicodeDecodeError as error:
        raise BadRequest("the model is no UTF-8", param="model") from error
    return LlmRequest(
        endpoint=endpoint,
        model=model,
        stream=fields.get(b"stream", b"").strip().lower() in TRUE,
        prompt_bytes=0,
        prompt_tokens=AUDIO_TOKENS,
        max_tokens=None,
        one_choice=True,
    )


def form_fields(body: bytes) -> dict[bytes, bytes]:
    """The short fields of a form by name, without the files. Raises BadRequest."""
    return {name: body[start:end] for name, (start, end) in _places(body).items()}


def with_model(body: bytes, model: bytes) -> bytes:
    """The form with another value of its field `model`; unchanged if it has none."""
    start, end = _places(body).get(b"model", (0, 0))
    return body[:start] + model + body[end:] if end else body


def _places(body: bytes) -> dict[bytes, tuple[int, int]]:
    """Where the values of the short fields stand. Raises BadRequest."""
    # The first line has the boundary too, so that Content-Type need not be read (RFC 2046 §5.1.1).
    delimiter = body[: body.find(b"\r\n")]
    if delimiter[:2] != b"--" or len(delimiter) > 74:
        raise BadRequest("the body is no multipart form")
    fields: dict[bytes, tuple[int, int]] = {}
    at = len(delimiter)
    for _ in range(PARTS):
        end = body.find(b"\r\n" + delimiter, at)
        head_end = body.find(b"\r\n\r\n", at, at + HEAD_BYTES)
        if end < 0 or head_end < 0:
            break
        name = NAME.search(body, at, head_end)
        if name is not None and end - head_end <= FIELD_BYTES:
            fields[name[1]] = (head_end + 4, end)
        at = end + 2 + len(delimiter)
    return fields
