"""What a probe says of a backend."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from gateway.config.upstream import Upstream
from gateway.proxy.probe import Probe
from gateway.routing.backend import Backend

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy"
MOVED = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /else\r\ncontent-length: 0\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"
OLD = b"HTTP/1.0 200 OK\r\n\r\na"
LONG_S, SHORT_S = 20.0, 0.01


class Engine:
    """Answers everything alike, and remembers what it was asked and on how many connections."""

    def __init__(self, answer):
        self.answer = answer
        self.asked: asyncio.Queue[bytes] = asyncio.Queue()
        self.connections = 0
        self.writers = []

    async def serve(self, reader, writer):
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                self.asked.put_nowait(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def engine(answer):
    """An engine and its URL."""
    found = Engine(answer)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    async with server:
        yield found, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/base/health"
        for writer in found.writers:
            writer.close()


@pytest.mark.parametrize(
    ("answer", "well", "reason"),
    [
        (OK, True, " answered 200"),
        (BUSY, False, " answered 503"),
        (MOVED, False, " answered 307"),
        (b"what?\r\n", False, ": The backend"),
    ],
)
async def test_only_a_200_is_well(answer, well, reason):
    """The URL is asked as it is given, its path too, and the reason names the path."""
    async with engine(answer) as (asked, url), Probe(timeout_s=LONG_S, upstreams={}) as probe:
        found, why = await probe.answers(url)

    assert found is well
    assert why.startswith(f"/base/health{reason}")
    assert asked.asked.get_nowait().startswith(b"GET /base/health HTTP/1.1\r\n")


async def test_a_connection_serves_many_probes():
    """An engine is not made to accept one for every look."""
    async with engine(OK) as (asked, url), Probe(timeout_s=LONG_S, upstreams={}) as probe:
        for _ in range(3):
            assert await probe.answers(url) == (True, "/base/health answered 200")

    assert (asked.asked.qsize(), asked.connections) == (3, 1)


async def test_a_silent_engine_is_not_well():
    """Or the gateway itself was too late to know, on a busy machine."""
    async with engine(b"") as (_, url), Probe(timeout_s=SHORT_S, upstreams={}) as probe:
        well, why = await probe.answers(url)

    assert well in (False, None)
    assert why == "/base/health did not answer within 0.01 s"


@pytest.mark.parametrize("answer", [ENDLESS, CHUNKS, OLD], ids=["length", "chunks", "until close"])
async def test_the_head_of_an_answer_is_enough(answer):
    """However long the body is, it is not read, and its connection ends."""
    async with engine(answer) as (asked, url), Probe(timeout_s=LONG_S, upstreams={}) as probe:
        assert [(await probe.answers(url))[0] for _ in range(2)] == [True, True]

    assert asked.connections == 2


async def test_nobody_is_not_well():
    """A port that nobody listens on."""
    async with engine(OK) as (_, url):
        pass
    async with Probe(timeout_s=LONG_S, upstreams={}) as probe:
        well, why = await probe.answers(url)

    assert well is False
    assert why.startswith("/base/health: The backend cannot be reached: ")


async def test_a_probe_can_be_given_up():
    """Who no longer waits gets no answer, and nothing is left of the question."""
    async with engine(b"") as (asked, url), Probe(timeout_s=LONG_S, upstreams={}) as probe:
        waiting = asyncio.create_task(probe.answers(url))
        await asked.asked.get()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_each_engine_is_asked_at_its_own_path():
    """The path is the pool's own; without one, that which all engines have."""
    async with (
        engine(OK) as (asked, url),
        Probe(timeout_s=LONG_S, upstreams={"a": Upstream(health="/is/well")}) as probe,
    ):
        base = url.removesuffix("/health")
        for pool in ("a", "b"):
            assert (await probe.well(Backend(name=f"{pool}-0", pool=pool, url=base)))[0]

    heads = [asked.asked.get_nowait().partition(b" HTTP")[0] for _ in range(2)]
    assert heads == [b"GET /base/is/well", b"GET /base/health"]


async def test_a_backend_that_left_is_forgotten():
    """Its connections are closed, and nothing of it is kept."""
    async with engine(OK) as (_, url), Probe(timeout_s=LONG_S, upstreams={}) as probe:
        base = url.removesuffix("/health")
        assert (await probe.well(Backend(name="a-0", pool="a", url=base)))[0]
        probe.forget("a", base)

        assert not probe._connection_pools._by_url


PAGE = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nup 1"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nup\r\n2\r\n 1\r\n0\r\n\r\n"
HUGE = b"HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\n" + b"x" * 10_485_760
CUT = b"HTTP/1.0 200 OK\r\ncontent-length: 9\r\n\r\nup 1"


def at(url):
    return Backend(name="a-0", pool="a", url=url.removesuffix("/health"))


@pytest.mark.parametrize("answer", [PAGE, CHUNKED], ids=["length", "chunks"])
async def test_a_page_of_metrics_is_read_whole(answer):
    """With the headers of its pool, below its base path, on a connection that is kept."""
    upstreams = {"a": Upstream(headers=(("authorization", "Bearer k"),))}
    async with (
        engine(answer) as (found, url),
        Probe(timeout_s=LONG_S, upstreams=upstreams) as probe,
    ):
        pages = [await probe.page(at(url)) for _ in range(2)]

    assert pages == [(b"up 1", 200, "/metrics answered 200")] * 2
    head = found.asked.get_nowait()
    assert head.startswith(b"GET /base/metrics HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer k\r\n" in head
    assert found.connections == 1


async def test_a_page_without_end_is_not_kept():
    """Ten MiB are no metrics; the connection is closed."""
    async with engine(HUGE) as (_, url), Probe(timeout_s=LONG_S, upstreams={}) as probe:
        page, status, why = await probe.page(at(url))

    assert (page, status) == (None, 0)
    assert why == "/metrics: is longer than 4 MiB"


@pytest.mark.parametrize(
    ("answer", "status"), [(BUSY, 503), (MOVED, 307), (b"what?\r\n", 0), (ENDLESS + b"up", 0)]
)
async def test_what_is_no_page_says_why(answer, status):
    """The status decides whether it is worth asking again soon; one that does not end is late, or
    this process was."""
    limit_s = SHORT_S if answer.startswith(ENDLESS) else LONG_S
    async with engine(answer) as (_, url), Probe(timeout_s=limit_s, upstreams={}) as probe:
        page, found, why = await probe.page(at(url))

    assert page is None
    assert found == status or (limit_s == SHORT_S and found is None)
    assert why.startswith("/metrics")


async def test_a_page_that_breaks_off_is_none():
    """Half a page would be half an engine."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CUT)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Probe(timeout_s=LONG_S, upstreams={}) as probe:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        page, status, why = await probe.page(at(url))

    assert (page, status) == (None, 0)
    assert why.startswith("/metrics: ")


async def test_a_page_that_is_not_wanted_any_more_is_left():
    """The gateway ends while an engine is slow."""
    async with engine(b"") as (found, url), Probe(timeout_s=LONG_S, upstreams={}) as probe:
        waiting = asyncio.create_task(probe.page(at(url)))
        await found.asked.get()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
