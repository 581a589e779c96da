"""What a client sees of a backend through the whole gateway, over real sockets, and of its own."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, web

from gateway.app import App
from gateway.config.load import load

MODEL = "org/m"
CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
STREAMED = ASKED | {"stream": True}
WHOLE = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
WORD = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler, *more: Handler, **gateway: Any) -> AsyncIterator[str]:
    """The base URL of a gateway before one backend for each handler, in one pool."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(backend(h)) for h in (handler, *more)]
        pool = {
            "model": MODEL, "profile": "llama-3-8b/h100", "usd_per_hour": 1.0, "backends": urls
        }  # fmt: skip
        config = {
            "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
            "pools": {"p": pool},
            "gateway": {"admin_port": 0, "drain_s": 1.0, "drain_delay_s": 0} | gateway,
        }
        path = Path(stack.enter_context(TemporaryDirectory())) / "cuvee.yaml"
        path.write_text(yaml.safe_dump(config))
        app = await stack.enter_async_context(App(load(path), host="127.0.0.1", port=0))
        yield f"http://127.0.0.1:{app.port}"


@asynccontextmanager
async def backend(handler: Handler) -> AsyncIterator[str]:
    """The URL of a backend that is healthy and leaves all else to its handler."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response() if request.path == "/health" else await handler(request)

    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def events(
    request: web.Request, *pieces: bytes, kind: str = "text/event-stream"
) -> web.StreamResponse:
    """Answer with these pieces, each in a chunk of its own."""
    response = web.StreamResponse(headers={"content-type": kind})
    await response.prepare(request)
    for piece in pieces:
        await response.write(piece)
    return response


async def ask(url: str, body: Any, **headers: str) -> tuple[int, bytes]:
    async with ClientSession() as session, session.post(url, json=body, headers=headers) as reply:
        return reply.status, await reply.read()


async def test_a_backend_that_refuses_the_usage_is_asked_without():
    """The client never hears of a field that it did not send; the backend is asked for it once."""
    seen: list[Any] = []

    async def strict(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seen.append("stream_options" in body)
        if seen[-1]:
            refused = {"error": {"message": "extra fields not permitted", "code": 400}}
            return web.json_response(refused, status=400)
        return await events(request, WORD, FINISH, DONE)

    async with served(strict) as url:
        for _ in range(3):
            assert await ask(url + CHAT, STREAMED) == (200, WORD + FINISH + DONE)

    assert seen == [True, False, False, False]


async def test_a_mistake_of_the_client_is_told_as_the_engine_told_it():
    """Asked for the usage or not, it is the same."""

    async def refusing(request: web.Request) -> web.StreamResponse:
        refused = {"error": {"message": "too long", "type": "x", "param": None, "code": 400}}
        return web.json_response(refused, status=400)

    async with served(refusing) as url:
        status, body = await ask(url + CHAT, STREAMED)

    assert (status, json.loads(body)["error"]["message"]) == (400, "too long")


@pytest.mark.parametrize("kind", ["text/plain; charset=utf-8", "application/json"])
async def test_a_stream_is_one_whatever_its_type_says(kind: str):
    """A proxy before the engine may change the type; tokens go on as they come, usage is hidden."""

    async def typed(request: web.Request) -> web.StreamResponse:
        return await events(request, b"d", b"ata" + WORD[4:], FINISH, USAGE, DONE, kind=kind)

    async with served(typed) as url:
        assert await ask(url + CHAT, STREAMED) == (200, WORD + FINISH + DONE)


async def test_what_is_no_stream_is_no_answer():
    """A page, or a whole answer, where a stream was asked for."""

    async def paged(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html></html>", content_type="text/html")

    async with served(paged) as url:
        assert (await ask(url + CHAT, STREAMED))[0] == 502


@pytest.mark.parametrize("last", [(FINISH, b"data: [DONE]\n"), (FINISH[:-1],), (FINISH.strip(),)])
async def test_the_last_event_needs_no_empty_line(last: tuple[bytes, ...]):
    """The body ended as HTTP says it should: what is held then is passed on."""

    async def short(request: web.Request) -> web.StreamResponse:
        return await events(request, WORD, *last)

    async with served(short) as url:
        assert await ask(url + CHAT, STREAMED) == (200, WORD + b"".join(last))
        # All in one event that has no end, and nothing before it.
    async with served(lambda request: events(request, FINISH.strip())) as url:
        assert await ask(url + CHAT, STREAMED) == (200, FINISH.strip())
