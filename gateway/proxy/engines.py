"""Backends' error replies, turned into the OpenAI shape whatever the engine. No I/O."""

from typing import Any

import msgspec

from gateway.errors import UpstreamError

NOT_OURS = {422: 400, 424: 502}  # TGI: failed validation; failed generation
LONGEST_MESSAGE = 500


class EngineRefusal(UpstreamError):
    """A backend answered with an error; `status` and the error object are the backend's."""

    def __init__(self, status: int, error: dict[str, Any], *, inside_stream: bool = False) -> None:
        super().__init__(
            str(error.get("message")), retry_after_s=1.0 if status in (429, 503) else None
        )
        self.status = status
        self.error = error
        self.inside_stream = inside_stream

    @property
    def admission(self) -> bool:
        """Whether the engine only said that it is full: it did no work and is not at fault."""
        return self.status in (429, 503)

    @property
    def retriable(self) -> bool:
        """Whether another backend may do better: never after the client's own mistake."""
        return self.status >= 500 or self.status == 429

    def body(self) -> bytes:
        return msgspec.json.encode({"error": self.error})


def refusal(status: int, body: bytes) -> EngineRefusal:
    """What a non-2xx reply says. vLLM: an OpenAI object; TGI: a string; FastAPI: `detail`."""
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        reply = None
    said = reply if isinstance(reply, dict) else {}
    error = said.get("error")
    status = NOT_OURS.get(status, status)
    if isinstance(error, dict) and "message" in error:
        return EngineRefusal(status, error)
    text = error or said.get("detail") or said.get("message") or body.decode(errors="replace")
    kind = said.get("error_type") or (
        "upstream_error" if status >= 500 else "invalid_request_error"
    )
    message = str(text)[:LONGEST_MESSAGE] or f"The backend answered {status}."
    return EngineRefusal(status, {"message": message, "type": kind, "param": None, "code": status})


def stream_refusal(error: bytes) -> EngineRefusal:
    """What an error event says: vLLM and TGI report overload inside a 200 stream."""
    refused = refusal(502, b'{"error":' + error + b"}")
    code = refused.error.get("code", refused.error.get("http_status_code"))
    known = isinstance(code, int) and 400 <= code < 600
    status = NOT_OURS.get(code, code) if known and isinstance(code, int) else 502
    if "overloaded" in str(refused.error.get("message")):
        status = 503  # TGI's code for it inside a stream is 422, as for the client's mistakes
    return EngineRefusal(status, refused.error, inside_stream=True)
