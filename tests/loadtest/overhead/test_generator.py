"""The load generator against the mock, over real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import aiohttp
import msgspec
import pytest

from loadtest.overhead import generator, mock, scenarios
from loadtest.overhead.generator import ExpectedReply, Job, Window
from loadtest.overhead.scenarios import Scenario

UNARY = Scenario(name="unary", connections=3, body_bytes=2048)
OPEN = Scenario(name="open", connections=8, body_bytes=1024, rate=400)
STREAMS = Scenario(name="streams", connections=3, body_bytes=1024, interval_s=0.001, chunks=5)
CHUNKS = STREAMS.chunks
RIGHT_UNARY = ExpectedReply(body_bytes=mock.UNARY_BYTES)
RIGHT_STREAM = ExpectedReply(min_events=CHUNKS, events=mock.stream_events(CHUNKS))


@asynccontextmanager
async def backend() -> AsyncIterator[int]:
    server = await mock.listen(0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def job(port: int, scenario: Scenario, **fields: Any) -> Job:
    defaults: dict[str, Any] = {
        "port": port,
        "request": scenarios.request(scenario),
        "connections": scenario.connections,
    }
    return Job(**(defaults | fields))


def soon() -> Window:
    now_s = time.monotonic()
    return Window(ramp_end_s=now_s + 0.02, start_s=now_s + 0.05, end_s=now_s + 0.25)


async def test_unary_replies_are_counted_and_right():
    """A closed loop against the mock completes requests, every reply as long as it must be."""
    async with backend() as port:
        result = await generator.run_load(job(port, UNARY, expected=RIGHT_UNARY), soon)

    assert result.errors == {}
    assert result.requests > UNARY.connections
    assert min(result.total_s) > 0


async def test_streams_are_counted_and_right():
    """Every stream has all its events and ends in [DONE]."""
    async with backend() as port:
        result = await generator.run_load(job(port, STREAMS, expected=RIGHT_STREAM), soon)

    assert result.errors == {}
    assert result.requests > STREAMS.connections
    assert result.events >= result.requests
    assert min(result.first_s) <= min(result.total_s)


@pytest.mark.parametrize(
    ("scenario", "fields", "error"),
    [
        (UNARY, {"expected": ExpectedReply(body_bytes=mock.UNARY_BYTES + 1)}, "body length"),
        (UNARY, {"expected": ExpectedReply(text=b"another text")}, "body"),
        (
            STREAMS,
            {"expected": ExpectedReply(min_events=CHUNKS, events=mock.stream_events(CHUNKS) + 1)},
            "number of events",
        ),
        (
            STREAMS,
            {"expected": ExpectedReply(min_events=mock.stream_events(CHUNKS) + 1)},
            "number of events",
        ),
        (UNARY, {"request": b"GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n"}, "status 404"),
    ],
)
async def test_wrong_replies_are_errors(scenario: Scenario, fields: dict[str, object], error: str):
    """A proxy that answers fast and wrong does not look cheap."""
    async with backend() as port:
        result = await generator.run_load(job(port, scenario, **fields), soon)

    assert result.errors[error] >= result.requests > 0


async def test_an_open_loop_sends_what_is_due_whatever_is_answered():
    """As many requests as fall due by the Poisson process, which is the same for every set-up."""
    right = ExpectedReply(text=mock.TEXT.encode())
    async with backend() as port:
        result = await generator.run_load(job(port, OPEN, rate=400, expected=right), soon)

    assert result.errors == {}
    assert 0 < result.requests < 400


async def test_a_request_that_waits_for_a_connection_counts_from_its_due_time():
    """With one connection held by slow replies, latencies add up instead of arrivals thinning."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError), closing(writer):
            while await reader.readuntil(b"}]}"):
                await asyncio.sleep(0.02)  # of work
                writer.write(mock.UNARY)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        result = await generator.run_load(job(port, OPEN, connections=1, rate=400), soon)

    assert result.errors == {}
    assert result.total_s[-1] > 2 * 0.02


async def test_a_stream_that_falls_silent_is_an_error():
    """A proxy that loses streams under load does not look cheap."""

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError), closing(writer):
            await reader.read(1)
            writer.write(mock.STREAM_HEAD + mock.ROLE)
            await reader.read(-1)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        window = Window(ramp_end_s=0.0, start_s=0.0, end_s=0.0)

        def ready() -> Window:
            now_s = time.monotonic()
            return msgspec.structs.replace(window, ramp_end_s=now_s + 0.1, end_s=now_s + 0.2)

        silent = job(port, STREAMS, connections=1, expected=RIGHT_STREAM)
        result = await generator.run_load(silent, ready)

    assert result.errors == {"silent stream": 1}


async def test_a_server_that_hangs_up_or_is_not_there_is_an_error():
    """Lost and refused connections are counted, one each."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        lost = await generator.run_load(job(port, UNARY), soon)
    refused = await generator.run_load(job(port, UNARY), soon)

    assert lost.errors == {"connection lost": 3}
    assert refused.errors == {"not connected": 3}


async def test_the_mock_speaks_http_to_any_client():
    """An ordinary client finds health, models, a reply and a stream, on one connection."""
    body = {"messages": [], "stream": True, "max_tokens": CHUNKS, "seed": 1}
    async with backend() as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        async with client.get("/health") as reply:
            assert reply.status == 200
        async with client.get("/v1/models") as reply:
            assert (await reply.json())["data"][0]["id"] == mock.MODEL
        async with client.post("/v1/chat/completions", json=body | {"stream": False}) as reply:
            assert (await reply.json())["choices"][0]["message"]["content"] == mock.TEXT
        async with client.post("/v1/chat/completions", json=body) as reply:
            text = await reply.text()
        async with client.get("/other") as reply:
            assert reply.status == 404

    assert text.count("data:") == mock.stream_events(CHUNKS)
    assert text.endswith("data: [DONE]\n\n")
    assert 220 <= len(mock.CHUNK) <= 240


async def test_a_client_that_speaks_something_else_is_cut_off():
    """Routers try HTTP/2 first: the mock ends such a connection and goes on."""
    async with backend() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        try:
            answered = await reader.read()
        except ConnectionResetError:
            answered = b""
        writer.close()
        result = await generator.run_load(job(port, UNARY, expected=RIGHT_UNARY), soon)

    assert answered == b""
    assert result.requests > 0


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_stream_is_as_long_as_asked_wherever_a_router_puts_the_fields(field: str):
    """Chunks and pace come from the request, before or after long messages."""
    messages = [{"role": "user", "content": "long " * 4000}]
    spec = {field: 3, "seed": 1, "stream": True}
    async with backend() as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        for body in ({"messages": messages, **spec}, {**spec, "messages": messages}):
            async with client.post("/v1/chat/completions", json=body) as reply:
                assert (await reply.text()).count("data:") == mock.stream_events(3)


def test_thinning_keeps_the_shape_of_the_latencies():
    """The ends and the middle survive, in few enough figures for one pipe buffer."""
    thinned = generator.thin([float(value) for value in range(100_001)][::-1])

    assert len(thinned) == generator.SAMPLES
    assert (thinned[0], thinned[250], thinned[-1]) == (0.0, 50_000.0, 100_000.0)
    assert generator.thin([2.0, 1.0]) == [1.0, 2.0]
    assert generator.thin([]) == []
