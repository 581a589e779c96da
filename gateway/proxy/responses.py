"""The head of a streamed answer, and what becomes of an error: what an endpoint's clients read, and
the outcome. Knows no router and no backend."""

from typing import Final

import msgspec

from gateway.errors import (
    Draining,
    FailureKind,
    GatewayError,
    Saturated,
    Unavailable,
    UpstreamError,
)
from gateway.proxy.active import ActiveRequest
from gateway.proxy.engines import EngineRefusal
from gateway.proxy.http.headers import first_value, reply_head, status_line
from gateway.proxy.http.reply import Reply
from gateway.routing.endpoints import ANTHROPIC, Endpoint
from gateway.routing.observation import Outcome

# Anthropic's types of errors, by status.
KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
EVENT_STREAM: Final = b"content-type: text/event-stream; charset=utf-8\r\n"
UNCACHED: Final = b"cache-control: no-cache\r\n"
UNBUFFERED: Final = b"x-accel-buffering: no\r\n"  # tells an nginx in front not to hold events back


def stream_head(reply: Reply | None, active: ActiveRequest) -> bytes:
    """The head of a stream with its receipt. reply: `None` if no backend has answered yet."""
    if reply is None:
        return status_line(200) + EVENT_STREAM + UNCACHED + UNBUFFERED + active.receipt()
    head = reply_head(reply.status, reply.headers, reply.end_to_end)
    for name, line in ((b"cache-control", UNCACHED), (b"x-accel-buffering", UNBUFFERED)):
        if first_value(reply.headers, name) is None:
            head += line
    return head + active.receipt()


def error_body(error: GatewayError, endpoint: Endpoint) -> bytes:
    """An error as the object that an endpoint's clients read."""
    body = error.body()
    if endpoint.error != ANTHROPIC:
        return body
    said = msgspec.json.decode(body)["error"]
    kind = said.get("type")
    if not isinstance(error, EngineRefusal) or kind not in KINDS.values():
        kind = KINDS.get(error.status, KINDS[400] if error.status < 500 else KINDS[500])
    # The code tells more than Anthropic's few types do.
    told = {"type": kind, "message": str(said.get("message")), "code": said.get("code")}
    return msgspec.json.encode({"type": "error", "error": told})


def error_event(error: GatewayError, endpoint: Endpoint) -> bytes:
    """An error as the last event of an endpoint's stream."""
    body = error_body(error, endpoint)
    if not endpoint.typed:
        return b"data: %b\n\n" % body
    if endpoint.error != ANTHROPIC:  # Responses: OpenAI's SDK looks for `error`, others beside it
        said = msgspec.json.decode(body)["error"]
        fields = {key: said.get(key) for key in ("code", "message", "param")}
        body = msgspec.json.encode({"type": "error", **fields, "error": said})
    return b"event: error\ndata: %b\n\n" % body


def outcome_of(error: GatewayError) -> Outcome:
    """The outcome of a request that is answered with this error."""
    if isinstance(error, Draining):  # only one that was under way is observed
        return Outcome.FAILED
    if isinstance(error, Saturated | Unavailable):
        return Outcome.SHED
    if isinstance(error, UpstreamError) and error.kind is FailureKind.FULL:
        return Outcome.SHED
    return Outcome.REJECTED if error.status < 500 else Outcome.FAILED
