"""What goes back to a client: whole replies, headers and error objects; and the body that came.

Owns the small pieces at both ends of an exchange. Knows no router and no backend's state.
"""

from aiohttp import web

from gateway.errors import GatewayError, Saturated, TooLarge, Unavailable
from gateway.proxy.sse import decode
from gateway.proxy.upstream import Reply
from gateway.proxy.watch import Watch
from gateway.routing.observation import Outcome


async def whole(
    request: web.BaseRequest, watch: Watch, reply: Reply, body: bytes
) -> web.StreamResponse:
    """A reply that does not stream: passed on as it came, its usage noted."""
    event = decode(body)
    watch.usage(None if event is None else event.usage)
    watch.ended(Outcome.OK, reply.status)
    response = web.Response(status=reply.status, body=body)
    set_headers(response, reply.headers + watch.receipt())
    await response.prepare(request)
    await response.write_eof()
    return response


async def body_of(request: web.BaseRequest) -> bytes:
    """The whole request body; says 100 Continue to who waits for it. Raises TooLarge."""
    try:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # it is no part of the response
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise TooLarge(error.text or "The body is too large.") from error


def outcome_of(error: GatewayError) -> Outcome:
    """How a request ended that is answered with this error."""
    if isinstance(error, Saturated | Unavailable):
        return Outcome.SHED
    if error.status < 500 and error.status != 429:
        return Outcome.REJECTED
    return Outcome.SHED if error.status == 429 else Outcome.FAILED


def set_headers(response: web.StreamResponse, headers: list[tuple[str, str]]) -> None:
    """Adds headers in order; of several request ids the first stays, which is the backend's."""
    for name, value in headers:
        if name.lower() != "x-request-id" or "x-request-id" not in response.headers:
            response.headers.add(name, value)


def error_response(error: GatewayError, headers: list[tuple[str, str]]) -> web.Response:
    """An error as OpenAI clients expect it."""
    response = web.Response(status=error.status, body=error.body(), content_type="application/json")
    set_headers(response, headers)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return response
