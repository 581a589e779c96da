"""The head of a streamed answer, and the outcome of a request that is answered with an error. Knows
no router and no backend."""

from typing import Final

from gateway.errors import (
    Draining,
    FailureKind,
    GatewayError,
    Saturated,
    Unavailable,
    UpstreamError,
)
from gateway.proxy.active import ActiveRequest
from gateway.proxy.http.headers import first_value, reply_head, status_line
from gateway.proxy.http.reply import Reply
from gateway.routing.observation import Outcome

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


def outcome_of(error: GatewayError) -> Outcome:
    """The outcome of a request that is answered with this error."""
    if isinstance(error, Draining):  # only one that was under way is observed
        return Outcome.FAILED
    if isinstance(error, Saturated | Unavailable):
        return Outcome.SHED
    if isinstance(error, UpstreamError) and error.kind is FailureKind.FULL:
        return Outcome.SHED
    return Outcome.REJECTED if error.status < 500 else Outcome.FAILED
