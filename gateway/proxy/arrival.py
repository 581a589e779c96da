"""How a large request arrives: its body is read with turns of others in between, or passed on while
it comes."""

import asyncio
from typing import Final

from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.content_coding import CODING, decode
from gateway.proxy.http.fiber import Fiber, Promise
from gateway.proxy.http.request import Request
from gateway.routing import large_body
from gateway.routing.endpoints import Endpoint
from gateway.routing.form import form_fields
from gateway.routing.large_body import read_large
from gateway.routing.llm_request import LlmRequest

LARGE: Final = large_body.LARGE


async def read_in_turns(
    client: ClientConnection, request: Request, endpoint: Endpoint, fiber: Fiber
) -> LlmRequest:
    """Read a large body, with turns of other connections in between. Raises BadRequest."""
    read = read_large(request.body, endpoint)
    if isinstance(read, LlmRequest):
        return read
    client.on_disconnect = fiber.abandon
    call_soon = asyncio.get_running_loop().call_soon
    while read.step():
        turn: Promise[None] = Promise()
        call_soon(turn.resolve, None)
        await turn
    return read.request()


async def collect(client: ClientConnection, request: Request, fiber: Fiber) -> None:
    """Have a form that is still to come passed on as it comes, if what has come of it names the
    model; else wait for all of it. Raises BadRequest, and what ends the upload."""
    upload = request.upload
    assert upload is not None
    client.on_disconnect = fiber.abandon
    upload.on_error = fiber.cancel
    if CODING in request.fields or b"model" not in form_fields(request.body):
        request.body += await upload.whole()
        request.upload = None


def decode_whole(client: ClientConnection, request: Request, limit_bytes: int) -> None:
    """Decode a compressed body, which the engines could not read. Raises BadRequest."""
    size = len(request.body)
    decode(request, limit_bytes)
    client.count(len(request.body) - size)
