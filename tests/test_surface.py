"""What a client sees of a backend through the whole gateway, over real sockets, and of its own."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
import yarl
from aiohttp import ClientSession, FormData, web

from gateway.app import App
from gateway.config.load import load
from gateway.runtime import build

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
async def served(
    handler: Handler, *more: Handler, engines: tuple[str | None, ...] = (), **gateway: Any
) -> AsyncIterator[str]:
    """The base URL of a gateway before one backend for each handler: in one pool, or each in a pool
    of its own with this engine."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(backend(h)) for h in (handler, *more)]
        pool = {"model": MODEL, "profile": "llama-3-8b/h100", "usd_per_hour": 1.0}
        pools = {
            f"p{n}": pool | {"engine": engine, "backends": [url]}
            for n, (engine, url) in enumerate(zip(engines, urls, strict=False))
        } or {"p": pool | {"backends": urls}}
        config = {
            "models": {MODEL: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}}},
            "pools": pools,
            "gateway": {"admin_port": 0, "drain_s": 1.0, "drain_delay_s": 0} | gateway,
        }
        path = Path(stack.enter_context(TemporaryDirectory())) / "cuvee.yaml"
        path.write_text(yaml.safe_dump(config))
        app = await stack.enter_async_context(App(load(path), host="127.0.0.1", port=0))
        yield f"http://127.0.0.1:{app.port}"


async def counted(url: str) -> dict[str, float]:
    """The gateway's counters of requests and tokens."""
    async with ClientSession() as session, session.get(f"{url}/metrics") as reply:
        lines = [line for line in (await reply.text()).splitlines() if line[0] != "#"]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def tokens(counters: dict[str, float], direction: str) -> float:
    """Tokens of one direction, over all pools."""
    found = f'cuvee_tokens_total{{direction="{direction}"'
    return sum(value for name, value in counters.items() if name.startswith(found))


@asynccontextmanager
async def backend(handler: Handler) -> AsyncIterator[str]:
    """The URL of a backend that is healthy, does not say what it serves, and leaves requests to its
    handler."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.Response(status=200 if request.path == "/health" else 404)
        return await handler(request)

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


async def ask(url: str | yarl.URL, body: Any, **headers: str) -> tuple[int, bytes]:
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


async def test_a_stream_that_breaks_keeps_the_end_of_its_answer():
    """The last words, which wait for the usage, reach the client before the error does."""

    async def broken(request: web.Request) -> web.StreamResponse:
        response = await events(request, WORD)
        await read.wait()
        await response.write(FINISH)
        assert request.transport is not None
        request.transport.close()  # without the last chunk
        return response

    read = asyncio.Event()
    async with (
        served(broken) as url,
        ClientSession() as session,
        session.post(url + CHAT, json=STREAMED) as reply,
    ):
        assert await reply.content.readexactly(len(WORD)) == WORD
        read.set()
        rest = await reply.read()

    assert rest.startswith(FINISH + b'data: {"error":')


@pytest.mark.parametrize(
    ("path", "stream", "outcome"),
    [
        (CHAT, [WORD, FINISH, USAGE, DONE], "ok"),
        (CHAT, [WORD, FINISH], "abandoned"),
        (
            "/v1/messages",
            [
                b'event: message_start\ndata: {"type":"message_start","message":{"id":"m"}}\n\n',
                b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
                b'"delta":{"type":"text_delta","text":"hi"}}\n\n',
                b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":'
                b'"end_turn"},"usage":{"input_tokens":7,"output_tokens":2}}\n\n',
                b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
            ],
            "ok",
        ),
    ],
)
async def test_who_leaves_at_the_last_event_has_a_whole_answer(
    path: str, stream: list[bytes], outcome: str
):
    """As the official SDKs do, which do not wait for the end of the body: it counts as one that
    ended well, with its tokens, and one that was left before as one that was left."""

    async def open_ended(request: web.Request) -> web.StreamResponse:
        response = await events(request, *stream)
        await over.wait()
        return response

    over = asyncio.Event()
    shown = b"".join(piece for piece in stream if piece != USAGE)
    if outcome == "abandoned":
        shown = WORD  # what ends an answer waits for the usage behind it
    async with served(open_ended, operator_paths="both") as url:
        body = STREAMED | {"max_tokens": 9}
        async with ClientSession() as session, session.post(url + path, json=body) as reply:
            assert await reply.content.readexactly(len(shown)) == shown
            reply.close()
        found: dict[str, float] = {}
        async with asyncio.timeout(5):
            while not any("cuvee_requests_total{" in name for name in found):
                found = await counted(url)
        over.set()

    [ended] = [name for name in found if "cuvee_requests_total{" in name and found[name]]
    assert f'outcome="{outcome}"' in ended
    assert outcome == "abandoned" or (tokens(found, "input"), tokens(found, "output")) == (7, 2)


async def test_a_first_event_of_megabytes_passes():
    """A picture in one event, longer than what is held back."""
    picture = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"A" * (3 << 20))
    pieces = [picture[at : at + 16_384] for at in range(0, len(picture), 16_384)]

    async with served(lambda request: events(request, *pieces, FINISH, DONE)) as url:
        assert await ask(url + CHAT, STREAMED) == (200, picture + FINISH + DONE)


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


async def whole(request: web.Request) -> web.StreamResponse:
    """A backend that answers what it was asked, and says at which path."""
    body = await request.json()
    if body.get("stream"):
        return await events(request, WORD, FINISH, DONE)
    page = {"access-control-allow-origin": "http://evil.example"}
    return web.json_response(WHOLE | {"path": request.path, "body": body}, headers=page)


@pytest.mark.parametrize(
    "path",
    [
        CHAT, "/chat/completions", "/v1/chat/completions/", "//v1/chat/completions",
        "/v1//chat/completions//", "/v1/chat%2Fcompletions", "/chat/completions/?api-version=1",
    ],
)  # fmt: skip
async def test_a_path_may_be_bare_or_end_in_a_slash(path: str):
    """Clients' base URLs have `/v1` or not, and a slash too many; the backend gets the one path."""
    async with served(whole) as url:
        status, body = await ask(yarl.URL(url + path, encoded=True), ASKED)

    assert (status, json.loads(body)["path"]) == (200, CHAT)


@pytest.mark.parametrize(
    ("path", "status", "key", "value"),
    [
        ("/v1/models/org/m", 200, "id", MODEL),
        ("/v1/models/org%2Fm", 200, "id", MODEL),
        ("/models/org%2Fm/", 200, "id", MODEL),
        ("/models", 200, "object", "list"),
        ("/v1/models/nope", 404, "code", "model_not_found"),
        ("/v1/nope", 404, "code", "not_found"),
        ("/ping", 200, "status", "ready"),
        ("/version", 200, "version", build()["version"]),
    ],
)
async def test_what_the_gateway_answers_itself(path: str, status: int, key: str, value: str):
    """As the engines do: a model whose name has a slash, escaped or not; who is there at all."""
    async with (
        served(whole) as url,
        ClientSession() as session,
        session.get(yarl.URL(url + path, encoded=True)) as reply,
    ):
        body = await reply.json()

    assert reply.status == status
    assert body.get("error", body)[key] == value


PAGE = "https://app.example"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ([PAGE], PAGE, PAGE),
        (["*"], PAGE, "*"),
        ([PAGE], "https://evil.example", None),
        ([], PAGE, None),
    ],
)
async def test_a_page_of_another_origin_reads_what_the_operator_lets_it(
    origins: list[str], origin: str, allowed: str | None
):
    """Every answer says so, errors and streams too, and the backend's own word does not count."""
    bodies: list[dict[str, Any]] = [ASKED, STREAMED, {"model": "nope"}]
    async with served(whole, cors_origins=origins) as url, ClientSession() as session:
        for body in bodies:
            async with session.post(url + CHAT, json=body, headers={"origin": origin}) as reply:
                found = reply.headers.getall("access-control-allow-origin", [])
                assert found == ([] if allowed is None else [allowed])
        async with session.get(f"{url}/v1/nope", headers={"origin": origin}) as reply:
            assert reply.headers.get("access-control-allow-origin") == allowed


async def test_a_browser_asks_first():
    """OPTIONS is answered here, with the headers that the page wants to send."""
    asked = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    async with served(whole, cors_origins=[PAGE]) as url, ClientSession() as session:
        async with session.options(url + CHAT, headers=asked) as reply:
            assert (reply.status, await reply.read()) == (204, b"")
            assert reply.headers["allow"] == "POST, OPTIONS"
            assert reply.headers["access-control-allow-origin"] == PAGE
            assert reply.headers["access-control-allow-headers"] == "authorization,content-type"
            assert "POST" in reply.headers["access-control-allow-methods"]
            assert "Origin" in reply.headers["vary"]
        async with session.options(url + CHAT) as reply:
            assert reply.status == 204
            assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    ("coding", "encode"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body)[2:-4]),
        ("identity", bytes),
        ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
    ],
)
async def test_a_compressed_body_is_decoded(coding: str, encode: Callable[[bytes], bytes]):
    """The backend gets it plain, whatever it could decode; the next request is not confused."""
    seen: list[str | None] = []

    async def plain(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("content-encoding"))
        return await whole(request)

    async with served(plain) as url, ClientSession() as session:
        body, headers = encode(json.dumps(ASKED).encode()), {"content-encoding": coding}
        for _ in range(3):
            async with session.post(url + CHAT, data=body, headers=headers) as reply:
                assert (await reply.json())["body"] == ASKED
        assert (await ask(url + CHAT, ASKED))[0] == 200

    assert seen == [None] * 4


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("br", b"x", 415),
        ("gzip, gzip, gzip", b"x", 415),
        ("gzip", b"x", 400),
        ("gzip", gzip.compress(b"{}" * 99, mtime=0)[:-9], 400),
        ("deflate", b"\xff\xff", 400),
        ("gzip", gzip.compress(b" " * 70_000, mtime=0), 413),
        ("gzip", gzip.compress(b" " * 40_000, mtime=0) * 2, 413),
        ("deflate", zlib.compress(b" " * 70_000), 413),
    ],
)
async def test_a_body_is_decoded_within_bounds(coding: str, body: bytes, status: int):
    """What is not known here gets 415 with what is; too much, or not what it says, other errors."""
    async with served(whole, max_body_bytes=65_536) as url, ClientSession() as session:
        headers = {"content-encoding": coding}
        async with session.post(url + CHAT, data=body, headers=headers) as reply:
            assert reply.status == status
            error = (await reply.json())["error"]
            assert (status == 415) == ("accept-encoding" in reply.headers)
            assert status != 415 or coding in error["message"]


async def test_a_stream_for_a_client_of_http_1_0_ends_with_its_connection():
    """It knows no chunks."""
    async with served(whole) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", yarl.URL(url).port)
        body = json.dumps(STREAMED).encode()
        start = f"POST {CHAT} HTTP/1.0\r\ncontent-length: {len(body)}\r\nconnection: keep-alive\r\n"
        writer.write(start.encode() + b"\r\n" + body)
        answer = await reader.read()
        writer.close()

    head, _, rest = answer.partition(b"\r\n\r\n")
    assert rest == WORD + FINISH + DONE
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head


def typed(kind: str, **fields: Any) -> bytes:
    """An event that says its kind."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


OUTPUT = {"input_tokens": 7, "output_tokens": 2}
RESPONSE = [
    typed("response.created", response={"id": "resp_1", "usage": None}),
    typed("response.output_text.delta", delta="hi"),
    typed("response.completed", response={"id": "resp_1", "status": "completed", "usage": OUTPUT}),
]
MESSAGE = [
    typed("message_start", message={"id": "m", "usage": {"input_tokens": 7, "output_tokens": 1}}),
    typed("content_block_delta", index=0, delta={"type": "text_delta", "text": "hi"}),
    typed("ping"),
    typed("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
    typed("message_stop"),
]
# Bodies and answers of vLLM's documentation, made short.
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "/v1/responses": ({"input": "hi"}, {"id": "resp_1", "output": [{}], "usage": OUTPUT}),
    "/v1/messages": (
        {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
        {"type": "message", "content": [{"text": "hi"}], "usage": OUTPUT},
    ),
    "/v1/messages/count_tokens": ({"messages": []}, {"input_tokens": 7}),
    "/v1/rerank": (
        {"query": "q", "documents": ["a", "b"]},
        {"results": [{"index": 0}], "usage": {"prompt_tokens": 7, "total_tokens": 7}},
    ),
    "/v1/score": ({"text_1": "q", "text_2": ["a"]}, {"data": [{"score": 0.5}]}),
    "/pooling": ({"input": "a"}, {"data": [{"data": [0.5]}]}),
    "/classify": ({"input": "a"}, {"data": [{"label": "x"}]}),
    "/tokenize": ({"prompt": "a"}, {"count": 1, "tokens": [5]}),
    "/detokenize": ({"tokens": [5, 6]}, {"prompt": "ab"}),
}


async def test_embeddings_pass_through_whole():
    """Base64 of megabytes as it came, for a list of token ids; its usage is counted."""
    vectors = [{"index": n, "embedding": "AACAPw==" * 50_000} for n in range(10)]
    answer = json.dumps({"data": vectors, "usage": {"prompt_tokens": 3}}).encode()
    body = {"model": MODEL, "input": [[1, 2], [3]], "encoding_format": "base64", "dimensions": 9}
    seen: list[Any] = []

    async def engine(request: web.Request) -> web.StreamResponse:
        seen.append(await request.json())
        return web.Response(body=answer, content_type="application/json")

    async with served(engine, operator_paths="both") as url:
        assert await ask(f"{url}/v1/embeddings", body) == (200, answer)
        counters = await counted(url)

    assert seen == [body]
    assert (tokens(counters, "input"), tokens(counters, "output")) == (3, 0)


async def test_what_clients_invent_is_no_series_of_a_metric():
    """Names of models, paths, classes, keys and users are without end; metrics are not."""
    async with served(whole, operator_paths="both") as url:

        async def sizes() -> int:
            bodies = [(CHAT, ASKED | {"model": f"m{n}", "user": f"u{n}"}) for n in range(20)]
            bodies += [(f"/v1/path{n}", ASKED) for n in range(20)]
            for path, body in bodies:
                assert (await ask(url + path, body))[0] == 404
            for n in range(20):
                assert (await ask(url + CHAT, ASKED, **{"x-cuvee-slo-class": f"c{n}"}))[0] == 400
                assert (await ask(url + CHAT, ASKED, authorization=f"Bearer {n}"))[0] == 200
            # What a loop of the control plane shows appears with its first turn.
            return sum(not name.startswith("cuvee_loop") for name in await counted(url))

        assert await sizes() == await sizes()


async def test_two_models_on_two_machines_are_never_mixed():
    """Each answer is of the engine of the model that was asked for, however many are under way."""

    def engine(name: str) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.json_response(WHOLE | {"by": name, "of": (await request.json())["model"]})

        return answer

    async with AsyncExitStack() as stack:
        names = ("one", "two")
        urls = [await stack.enter_async_context(backend(engine(name))) for name in names]
        pool = {"profile": "llama-3-8b/h100", "usd_per_hour": 1.0}
        config = {
            "models": {name: {"slo": {"ttft_s": 2.0, "tpot_s": 0.12}} for name in names},
            "pools": {
                f"p-{name}": pool | {"model": name, "backends": [url]}
                for name, url in zip(names, urls, strict=True)
            },
            "gateway": {"admin_port": 0, "drain_s": 1.0, "drain_delay_s": 0},
        }
        path = Path(stack.enter_context(TemporaryDirectory())) / "cuvee.yaml"
        path.write_text(yaml.safe_dump(config))
        app = await stack.enter_async_context(App(load(path), host="127.0.0.1", port=0))
        url = f"http://127.0.0.1:{app.port}{CHAT}"
        asked = [names[n % 3 == 0] for n in range(60)]
        answers = await asyncio.gather(*[ask(url, ASKED | {"model": name}) for name in asked])

    told = [json.loads(body) for status, body in answers if status == 200]
    assert [(answer["by"], answer["of"]) for answer in told] == [(name, name) for name in asked]


@pytest.mark.parametrize("path", OTHERS)
async def test_other_endpoints_pass_through_and_are_observed(path: str):
    """The body as it came, to the engine's own path; one request, one observation."""
    body, answer = OTHERS[path]
    seen: list[tuple[str, Any]] = []

    async def engine(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, await request.json()))
        return web.json_response(answer)

    async with served(engine, operator_paths="both") as url:
        status, found = await ask(url + path, {"model": MODEL, **body})
        assert (status, json.loads(found)) == (200, answer)
        counters = await counted(url)

    assert seen == [(path, {"model": MODEL, **body})]
    ok = [v for k, v in counters.items() if k.startswith("cuvee_requests_total{") and '"ok"' in k]
    assert sum(ok) == 1
    if "usage" in answer:
        assert tokens(counters, "input") == 7


@pytest.mark.parametrize(
    ("path", "stream"), [("/v1/responses", RESPONSE), ("/v1/messages", MESSAGE)]
)
async def test_their_streams_pass_through_and_are_measured(path: str, stream: list[bytes]):
    """Event by event; the tokens are those that the engine reports; a cut ends in an error."""
    cut, read = False, asyncio.Event()

    async def engine(request: web.Request) -> web.StreamResponse:
        assert "stream_options" not in await request.json()
        if not cut:
            return await events(request, *stream)
        response = await events(request, *stream[:2])
        await read.wait()
        return response

    body = {"model": MODEL, **OTHERS[path][0], "stream": True}
    async with served(engine, operator_paths="both") as url:
        assert await ask(url + path, body) == (200, b"".join(stream))
        counters = await counted(url)
        cut = True
        async with ClientSession() as session, session.post(url + path, json=body) as reply:
            begun = await reply.content.readexactly(len(b"".join(stream[:2])))
            read.set()
            last = await reply.read()

    assert (tokens(counters, "input"), tokens(counters, "output")) == (7, 2)
    assert begun == b"".join(stream[:2])
    assert last.startswith(b"event: error\ndata: ")
    assert json.loads(last.partition(b"data: ")[2])["error"]["message"]


async def test_a_response_goes_on_at_the_backend_that_has_the_one_before():
    """However busy the others are; one whose answer is not known goes anywhere."""
    made: list[str] = []

    def engine(name: str) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            made.append(name)
            body = await request.json()
            response_id = f"resp_{len(made)}"
            if body.get("stream"):
                pieces = [piece.replace(b"resp_1", response_id.encode()) for piece in RESPONSE]
                return await events(request, *pieces)
            return web.json_response({"id": response_id, "output": [{}], "usage": OUTPUT})

        return answer

    asked = {"model": MODEL, "input": "hi"}
    path = "/v1/responses"
    async with served(engine("a"), engine("b")) as url:
        await ask(url + path, asked)
        await ask(url + path, asked | {"stream": True})
        homes = dict(zip(("resp_1", "resp_2"), made, strict=True))
        for previous in ("resp_1", "resp_2") * 3:
            for stream in (False, True):
                status, _ = await ask(
                    url + path, asked | {"previous_response_id": previous, "stream": stream}
                )
                assert (status, made[-1]) == (200, homes[previous])
        assert (await ask(url + path, asked | {"previous_response_id": "resp_x"}))[0] == 200


async def test_a_response_that_only_some_backend_has_is_found():
    """Also where the gateway has forgotten which: the others are asked first, and are not blamed;
    one that none has is the client's mistake."""
    asked: list[str] = []

    def engine(*known: str) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            previous = (await request.json())["previous_response_id"]
            asked.append(previous)
            if previous in known:
                return web.json_response({"id": "resp_9", "output": [{}], "usage": OUTPUT})
            missing = {"message": f"Response with id '{previous}' not found.", "code": 404}
            return web.json_response({"error": missing}, status=404)

        return answer

    path, body = "/v1/responses", {"model": MODEL, "input": "hi"}
    async with served(engine("resp_a"), engine("resp_b"), operator_paths="both") as url:
        for previous in ("resp_a", "resp_b") * 6:
            assert (await ask(url + path, body | {"previous_response_id": previous}))[0] == 200
        status, told = await ask(url + path, body | {"previous_response_id": "resp_x"})
        failures = [name for name in await counted(url) if "backend_failures_total{" in name]

    assert (status, json.loads(told)["error"]["code"]) == (404, 404)
    assert len(asked) > 14  # some were asked of both
    assert not failures


async def test_a_pool_gets_only_what_its_engine_has():
    """TGI ranks nothing; where no engine of the model has an endpoint, there is no such path."""

    async def never(request: web.Request) -> web.StreamResponse:
        raise AssertionError(request.path)

    async def engine(request: web.Request) -> web.StreamResponse:
        return web.json_response(OTHERS["/v1/rerank"][1])

    body = {"model": MODEL, **OTHERS["/v1/rerank"][0]}
    async with served(never, engine, engines=("tgi", "vllm")) as url:
        for _ in range(4):
            assert (await ask(f"{url}/v1/rerank", body))[0] == 200
    async with served(never, engines=("tgi",)) as url:
        status, found = await ask(f"{url}/v1/rerank", body)
        assert (status, json.loads(found)["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "body", "status", "kind"),
    [
        ("POST", {"model": "nope", "messages": []}, 404, "not_found_error"),
        ("POST", "x", 400, "invalid_request_error"),
        ("POST", {"model": MODEL, "messages": []}, 529, "overloaded_error"),
        ("GET", None, 405, "invalid_request_error"),
    ],
)
async def test_errors_of_messages_are_anthropics(method: str, body: Any, status: int, kind: str):
    """The gateway's own too, so that Anthropic's clients can read them."""

    async def engine(request: web.Request) -> web.StreamResponse:
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "full"}}
        return web.json_response(error, status=529)

    async with served(engine) as url, ClientSession() as session:
        data = None if body is None else body if isinstance(body, str) else json.dumps(body)
        async with session.request(method, f"{url}/v1/messages", data=data) as reply:
            found = await reply.json()

    assert (reply.status, found["type"], found["error"]["type"]) == (status, "error", kind)
    assert found["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
async def test_audio_passes_through(path: str):
    """The form byte for byte, streamed answers too."""
    seen: list[tuple[str, bytes]] = []

    async def engine(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, await request.read()))
        if b'name="stream"' in seen[-1][1]:
            return await events(request, WORD, FINISH, DONE)
        return web.json_response({"text": "hi"})

    def form(*streams: str) -> FormData:
        data = FormData([("model", MODEL), *[("stream", value) for value in streams]])
        data.add_field("file", bytes(range(256)) * 9, filename="a.wav")
        return data

    async with served(engine) as url, ClientSession() as session:
        async with session.post(url + path, data=form()) as reply:
            assert (reply.status, await reply.json()) == (200, {"text": "hi"})
        async with session.post(url + path, data=form("true")) as reply:
            assert (reply.status, await reply.read()) == (200, WORD + FINISH + DONE)

    assert [found for found, _ in seen] == [path, path]
    assert all(bytes(range(256)) in body for _, body in seen)
