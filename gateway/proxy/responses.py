"""Response heads that the gateway writes: of streams and of errors. Knows no router and no
backend."""

from typing import Final

from gateway.errors import GatewayError, MethodNotAllowed, Saturated, Unavailable
from gateway.proxy.active import ActiveRequest
from gateway.proxy.http.headers import field, returned, status_line
from gateway.proxy.http.reply import Reply
from gateway.routing.observation import Outcome

EVENT_STREAM: Final = b"content-type: text/event-stream; charset=utf-8\r\n"
UNCACHED: Final = b"cache-control: no-cache\r\n"
UNBUFFERED: Final = b"x-accel-buffering: no\r\n"  # tells an nginx in front not to hold events back


def stream_head(reply: Reply | None, active: ActiveRequest) -> bytes:
    """The head of a stream with its receipt. reply: `None` if no backend has answered yet."""
    if reply is None:
        return status_line(200) + EVENT_STREAM + UNCACHED + UNBUFFERED + active.receipt()
    head = returned(reply.status, reply.headers, reply.passing)
    for name, line in ((b"cache-control", UNCACHED), (b"x-accel-buffering", UNBUFFERED)):
        if field(reply.headers, name) is None:
            head += line
    return head + active.receipt()


def error_head(error: GatewayError) -> bytes:
    """Status line and headers of an error response, without its receipt."""
    head = status_line(error.status) + b"content-type: application/json\r\n"
    if error.retry_after_s is not None:
        head += b"retry-after: %d\r\n" % max(1, round(error.retry_after_s))
    if isinstance(error, MethodNotAllowed):
        head += f"allow: {error.allowed}\r\n".encode()
    return head


def outcome_of(error: GatewayError) -> Outcome:
    """The outcome of a request that is answered with this error."""
    if isinstance(error, Saturated | Unavailable):
        return Outcome.SHED
    if error.status < 500 and error.status != 429:
        return Outcome.REJECTED
    return Outcome.SHED if error.status == 429 else Outcome.FAILED
