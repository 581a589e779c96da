"""What the web framework under vLLM adds: headers, its own refusals, and the shape of errors.

Knows no engine.
"""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from loadtest.emulator import messages, refusals, replies, sse
from loadtest.emulator.refusals import RequestRefused
from loadtest.emulator.requests import Api

HEADERS = {"Server": "uvicorn", "Vary": "Origin"}
JSON_HEADERS = {**HEADERS, "Content-Type": "application/json"}
SSE_HEADERS = {**HEADERS, "Content-Type": "text/event-stream; charset=utf-8"}

Route = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json_response(status: int, value: object, **headers: str) -> web.Response:
    """A JSON answer with vLLM's headers."""
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, headers=JSON_HEADERS | headers)


def error_response(refused: RequestRefused, api: Api) -> web.Response:
    """A refusal as an HTTP answer."""
    body = messages.message_error(refused) if api == "message" else refused.body
    return json_response(refused.status, body)


def error_events(refused: RequestRefused, api: Api) -> tuple[bytes, ...]:
    """A refusal inside a stream, and what ends the stream."""
    if api == "message":
        return (sse.named_event(messages.message_error(refused)),)
    if api == "response":
        return (sse.error_event(refused),)
    return sse.error_event(refused), sse.DONE


async def read_json_body(request: web.Request) -> bytes:
    """The body. Raises RequestRefused unless it is declared as JSON."""
    if request.content_type != "application/json":  # absent: aiohttp says application/octet-stream
        raise refusals.not_json()
    return await request.read()


async def version(_: web.Request) -> web.Response:
    return json_response(200, {"version": replies.VERSION})


def unauthorized() -> web.Response:
    """The answer without the key, which vLLM asks for before its CORS."""
    answer = json_response(401, {"error": "Unauthorized"})
    del answer.headers["Vary"]
    return answer


async def not_found(_: web.Request) -> web.Response:
    return json_response(404, {"detail": "Not Found"})


def method_not_allowed(allowed: str) -> Route:
    """The answer to every method of a path but the allowed one."""

    async def refuse(_: web.Request) -> web.Response:
        return json_response(405, {"detail": "Method Not Allowed"}, Allow=allowed)

    return refuse
