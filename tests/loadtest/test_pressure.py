import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import mock, overhead, pressure
from loadtest.measure import Scenario
from loadtest.pressure import Job, Reply, Window

UNARY = Scenario(name="unary", connections=3, body_bytes=2048)
STREAMS = Scenario(name="streams", connections=3, body_bytes=1024, interval_s=0.001)
CHUNKS = 5
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def backend() -> AsyncIterator[int]:
    server = await mock.listen(0, chunks=CHUNKS, interval_s=0.001)
    async with server:
        yield server.sockets[0].getsockname()[1]


def job(port: int, scenario: Scenario, **fields: object) -> Job:
    given = {
        "port": port,
        "request": overhead.request(scenario),
        "connections": scenario.connections,
    }
    return Job(**(given | fields))  # type: ignore[arg-type]


def soon() -> Window:
    now_s = time.monotonic()
    return Window(begin_s=now_s + 0.05, end_s=now_s + 0.25)


async def test_unary_replies_are_counted_and_right():
    """A closed loop against the mock completes requests, every reply as long as it must be."""
    async with backend() as port:
        outcome = await pressure.press(job(port, UNARY, body_bytes=mock.UNARY_BYTES), soon)

    assert outcome.errors == {}
    assert outcome.requests > UNARY.connections
    assert min(outcome.total_s) > 0


async def test_streams_are_counted_and_right():
    """Every stream has all its events and ends in [DONE]."""
    async with backend() as port:
        outcome = await pressure.press(job(port, STREAMS, events=mock.events(CHUNKS)), soon)

    assert outcome.errors == {}
    assert outcome.requests > STREAMS.connections
    assert outcome.events >= outcome.requests
    assert min(outcome.first_s) <= min(outcome.total_s)


@pytest.mark.parametrize(
    ("scenario", "expected", "error"),
    [
        (UNARY, {"body_bytes": mock.UNARY_BYTES + 1}, "body length"),
        (STREAMS, {"events": mock.events(CHUNKS) + 1}, "number of events"),
        (UNARY, {"request": b"GET /nowhere HTTP/1.1\r\n\r\n"}, "status 404"),
    ],
)
async def test_wrong_replies_are_errors(
    scenario: Scenario, expected: dict[str, object], error: str
):
    """A proxy that answers fast and wrong does not look cheap."""
    async with backend() as port:
        outcome = await pressure.press(job(port, scenario, **expected), soon)

    assert outcome.errors[error] >= outcome.requests > 0


async def test_a_server_that_hangs_up_or_is_not_there_is_an_error():
    """Lost and refused connections are counted, one each."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        lost = await pressure.press(job(port, UNARY), soon)
    refused = await pressure.press(job(port, UNARY), soon)

    assert lost.errors == {"connection lost": 3}
    assert refused.errors == {"not connected": 3}


async def test_the_mock_speaks_http_to_anybody():
    """An ordinary client finds health, models, a reply and a stream, on one connection."""
    body = {"model": "mock", "messages": [], "stream": True}
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

    assert text.count("data:") == mock.events(CHUNKS)
    assert text.endswith("data: [DONE]\n\n")
    assert 220 <= len(mock.CHUNK) <= 240


@given(
    payloads=st.lists(
        st.sampled_from([b"data: {}\n\n", b"data:", b"da", b"ta: [DONE]\n\n", b"\r\n", b"x"])
    ),
    cut=st.integers(1, 50),
)
def test_a_chunked_reply_reads_the_same_however_it_is_cut(payloads: list[bytes], cut: int):
    """Body bytes, events and [DONE] do not depend on the reads or on the chunks."""
    frames = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in payloads)
    whole, body = HEAD + frames + b"0\r\n\r\n", b"".join(payloads)
    reply = Reply()

    for at in range(0, len(whole), cut):
        assert not reply.done
        reply.feed(whole[at : at + cut])

    assert (reply.status, reply.done) == (200, True)
    assert reply.body_bytes == len(body)
    assert reply.events == body.count(b"data:")
    assert reply.ended == (b"data: [DONE]" in body[-pressure.TAIL :])


def test_a_reply_with_a_length_ends_when_it_is_complete():
    """The head's case and the cut between head and body do not matter."""
    reply = Reply()

    for part in (b"HTTP/1.1 503 No\r\nContent-Le", b"ngth: 4\r\n\r", b"\nab", b"cd"):
        assert not reply.done
        reply.feed(part)

    assert (reply.status, reply.body_bytes, reply.done) == (503, 4, True)


def test_thinning_keeps_the_shape_of_the_latencies():
    """The ends and the middle survive, in few enough figures for one pipe buffer."""
    thinned = pressure.thin([float(value) for value in range(100_001)][::-1])

    assert len(thinned) == pressure.SAMPLES
    assert (thinned[0], thinned[250], thinned[-1]) == (0.0, 50_000.0, 100_000.0)
    assert pressure.thin([2.0, 1.0]) == [1.0, 2.0]
    assert pressure.thin([]) == []
