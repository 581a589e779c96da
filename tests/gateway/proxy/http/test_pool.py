"""Connections to backends and their pools, against small real servers on loopback."""

import asyncio
import os
import resource
import shutil
import socket
import ssl
import subprocess
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from gateway.errors import (
    ClientGone,
    ConnectFailed,
    Overloaded,
    ReplyTooLarge,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
from gateway.proxy import http
from gateway.proxy.http.backend import PENDING_BYTES
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.pool import REUSE_S
from gateway.proxy.http.pool import ConnectionPools as Pool
from gateway.proxy.http.reply import HELD_BYTES
from gateway.proxy.http.tls import TlsFiles

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
CHUNKED = STREAM + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE = object()  # in a script: the server closes the connection
SILENT = object()  # or waits until the gateway does


class Server:
    """Plays scripts: for each connection what it answers to each request, then it closes."""

    def __init__(self, *connections, tls=None):
        self.connections = list(connections)
        self.requests = []
        self.opened = 0
        # One entry for each connection that the gateway closed.
        self.closed: asyncio.Queue[int] = asyncio.Queue()
        self._tls = tls
        self._tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        scheme = "https" if self._tls else "http"
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"{scheme}://localhost:{self.port}/base"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self.opened += 1
        try:
            for answer in self.connections.pop(0):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                self.requests.append((head, await reader.readexactly(length)))
                if answer is SILENT:
                    assert await reader.read() == b""
                    return
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.closed.put_nowait(self.opened)
            writer.close()
            self._tasks.discard(task)


@asynccontextmanager
async def connection_pools(connect_timeout_s=5.0):
    async with Pool(connect_timeout_s=connect_timeout_s) as pool, asyncio.timeout(20):
        yield pool


async def driven(coroutine):
    """Runs on a strand what can be awaited only there; cancelling it is what a client does that
    leaves."""
    result = asyncio.get_running_loop().create_future()

    async def steps():
        try:
            value = await coroutine
        except BaseException as error:
            if not result.cancelled():
                result.set_exception(error)
        else:
            result.set_result(value)

    fiber = Fiber()
    fiber.start(steps())
    try:
        return await result
    except asyncio.CancelledError:
        fiber.cancel(ClientGone())
        raise


async def send(pool, server, body=b"{}"):
    """A request as the exchange sends one: the reply with its head."""
    connection_pool = pool.pool(server.url)
    head = connection_pool.request_start("POST", "/v1/x") + b"content-length: %d\r\n\r\n" % len(
        body
    )
    return await driven(connection_pool.send(head, body))


async def ask(pool, server, body=b"{}"):
    """The whole exchange: what came."""
    reply = await send(pool, server, body)
    try:
        return await driven(reply.read())
    finally:
        reply.close()


async def test_a_request_is_sent_as_it_was_made():
    """The backend gets the head and the bytes, nothing of a client library's own."""
    body = b'{"model": "m",  "x": "\xff"}' * 10_000  # more than goes in one write
    async with connection_pools() as pool, Server([OK]) as server:
        assert await ask(pool, server, body) == b"ok"

    head, got = server.requests[0]
    expected = f"POST /base/v1/x HTTP/1.1\r\nhost: localhost:{server.port}\r\ncontent-length: "
    assert head.decode() == f"{expected}{len(body)}\r\n\r\n"
    assert got == body


async def test_connections_are_used_again():
    """One connection for requests one after the other, as many as run at once, however they come:
    the backend's count of connections against its requests."""
    async with connection_pools() as pool, Server([OK] * 12, [OK] * 6, [OK] * 6) as server:
        for _ in range(6):
            await ask(pool, server)
        assert server.opened == 1
        for _ in range(6):
            await asyncio.gather(*(ask(pool, server) for _ in range(3)))
        counts = server.opened, len(server.requests)

    assert counts == (3, 24)


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        CHUNKED + b"2;a=b\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK,
    ],
    ids=["length", "chunks", "trailers", "100 first", "103 and 102 first"],
)
async def test_after_any_whole_reply_the_connection_is_used_again(answer):
    """Interim answers are none; trailers and extensions are nobody's."""
    async with connection_pools() as pool, Server([answer, answer]) as server:
        assert [await ask(pool, server) for _ in range(2)] == [b"ok", b"ok"]

    assert (server.opened, len(server.requests)) == (1, 2)


@pytest.mark.parametrize("status", [204, 304])
async def test_a_reply_without_a_body_ends_with_its_head(status):
    """Whatever length it tells."""
    answer = b"HTTP/1.1 %d X\r\nContent-Type: a\r\n\r\n" % status
    async with connection_pools() as pool, Server([answer, answer]) as server:
        assert [await ask(pool, server) for _ in range(2)] == [b"", b""]

    assert server.opened == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        CLOSING,
    ],
    ids=["until the end", "HTTP/1.0", "HTTP/1.0 until the end", "close"],
)
async def test_a_connection_that_ends_with_its_reply_is_not_used_again(answer):
    """A body without a length is whole when the connection ends."""
    async with connection_pools() as pool, Server([answer], [answer]) as server:
        assert [await ask(pool, server) for _ in range(2)] == [b"ok", b"ok"]

    assert server.opened == 2


@pytest.mark.parametrize("extra", [OK, b"junk", b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"\0"])
@pytest.mark.parametrize("cut", [False, True])
async def test_more_than_was_asked_for_poisons_nothing(extra, cut):
    """Bytes after a reply are no answer to the next request, in the same read or a later one."""
    async with connection_pools() as pool, Server([OK + (b"" if cut else extra)], [OK]) as server:
        assert await ask(pool, server, b"1") == b"ok"
        if cut:
            connection = pool.pool(server.url)._idle[-1]
            connection.data_received(extra)
            assert not connection.open
        else:
            assert not pool.pool(server.url)._idle
        assert await ask(pool, server, b"2") == b"ok"

    assert [body for _, body in server.requests] == [b"1", b"2"]


async def test_a_stale_connection_is_replaced_invisibly():
    """A backend that closed an idle connection costs the client nothing."""
    async with connection_pools() as pool, Server([OK], [OK]) as server:
        # Not waiting for the close to be noticed is the race that real traffic meets.
        assert [await ask(pool, server, body) for body in (b"1", b"2")] == [b"ok", b"ok"]

    assert [body for _, body in server.requests] == [b"1", b"2"]


async def test_a_connection_that_breaks_under_a_request_is_replaced_once():
    """It was idle, and closed when the request came: the new one's failure is told."""
    async with connection_pools() as pool, Server([OK, b""], [b""], [OK]) as server:
        await ask(pool, server, b"1")
        with pytest.raises(UpstreamError, match="without an answer"):
            await ask(pool, server, b"2")

    assert [body for _, body in server.requests] == [b"1", b"2", b"2"]


async def test_a_reply_that_began_is_never_asked_for_again():
    """One byte is enough to know that the backend took the request."""
    async with connection_pools() as pool, Server([OK, b"H"], [OK]) as server:
        await ask(pool, server, b"1")
        with pytest.raises(UpstreamError):
            await ask(pool, server, b"2")

    assert [body for _, body in server.requests] == [b"1", b"2"]


async def test_nobody_listening_is_connect_failed():
    """Nothing was sent, so another backend may try at no risk."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    async with connection_pools() as pool:
        with pytest.raises(ConnectFailed) as failed:
            await pool.pool(url).dial()

    assert (failed.value.status, failed.value.code) == (502, "connect_failed")


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 64 + ".invalid", "é..x"])
async def test_a_name_that_is_none_is_connect_failed(host):
    """Whether the resolver does not know it or it cannot even be asked."""
    async with connection_pools() as pool:
        with pytest.raises(ConnectFailed):
            await pool.pool(f"http://{host}:80").dial()


async def test_connecting_has_a_time_of_its_own():
    """A host that swallows packets is given up on long before a slow answer would be."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        with socket.socket() as one, socket.socket() as two:  # fill its backlog
            for filler in (one, two):
                filler.setblocking(False)
                filler.connect_ex(address)
            async with connection_pools(connect_timeout_s=0.05) as pool:
                with pytest.raises(ConnectFailed, match=r"accept within 0\.05 s"):
                    await pool.pool(f"http://127.0.0.1:{address[1]}").dial()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"SSH-2.0 hello\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["nothing", "half a head", "another protocol", "only an interim answer"],
)
async def test_a_break_before_the_head_is_an_upstream_error(answer):
    """Not a connect error: the backend may have begun to work, so nobody asks it again."""
    async with connection_pools() as pool, Server([answer], [OK]) as server:
        with pytest.raises(UpstreamError) as broken:
            await ask(pool, server)

    assert broken.value.code == "upstream_error"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"9\r\nhello",
        CHUNKED + b"5\r\nhello\r\nnone\r\n",
        STREAM + b"Content-Length: 9\r\n\r\nhello",
    ],
    ids=["between chunks", "inside a chunk", "no chunk", "short of its length"],
)
async def test_cut_bodies_are_told(answer):
    """A body that ends too early is an error after what came, never a clean end."""
    async with connection_pools() as pool, Server([answer], [answer]) as server:
        with pytest.raises(UpstreamError):
            await ask(pool, server)
        reply, came = await send(pool, server), []
        reply.stream_to(lambda piece, chunks: came.append(piece))
        while reply.error is None:
            await driven(reply.next_change())

    assert b"".join(came) == b"hello"
    assert not reply.complete


HEADLESS = {
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "no status": b"HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n",
    "length and chunks": CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n"),
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "a null": b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 2\r\n\r\nok",
    "a head without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 3 * PENDING_BYTES,
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * PENDING_BYTES,
}


@pytest.mark.parametrize("answer", HEADLESS.values(), ids=HEADLESS.keys())
async def test_what_is_no_reply_is_an_upstream_error(answer):
    """Nothing of it reaches a client, and its connection is closed."""
    async with connection_pools() as pool, Server([answer, SILENT]) as server:
        with pytest.raises(UpstreamError):
            await ask(pool, server)
        await server.closed.get()


async def test_a_stream_comes_without_its_framing():
    """In the pieces in which it came, first those that were here before anybody took them."""
    async with (
        connection_pools() as pool,
        Server([CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"]) as server,
    ):
        reply, came = await send(pool, server), []
        reply.stream_to(lambda piece, chunks: came.append(piece))
        while not reply.complete:
            await driven(reply.next_change())

    assert (reply.stream, reply.status) == (True, 200)
    assert b"".join(came) == b"abcde"


@pytest.mark.parametrize("begun", [CHUNKED + b"3\r\nabc\r\n", CHUNKED, b""])
async def test_closing_early_hangs_up(begun):
    """A reply given up in the middle closes the connection, so that the engine aborts."""
    async with connection_pools() as pool, Server([begun, SILENT]) as server:
        if begun:
            reply = await send(pool, server)
            reply.close()
            reply.close()
        else:
            asking = asyncio.create_task(send(pool, server))
            while not server.requests:  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0)
            asking.cancel()
        await server.closed.get()
        connection_pool = pool.pool(server.url)

        assert connection_pool.take(0.0) is None


async def test_a_time_limit_ends_the_wait_for_a_head():
    """Whoever waits decides how long: what it raises there hangs up, and nobody asks again."""
    fiber = Fiber()
    ended: list[str] = []

    async def exchange():
        connection_pool = pool.pool(server.url)
        try:
            head = connection_pool.request_start("POST", "/") + b"content-length: 1\r\n\r\n"
            await connection_pool.send(head, b"2")
        except UpstreamTimeout:
            ended.append("in time")

    async with connection_pools() as pool, Server([OK, SILENT], [OK]) as server:
        await ask(pool, server, b"1")
        fiber.start(exchange())
        while len(server.requests) < 2:  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0)
        fiber.cancel(UpstreamTimeout("The backend did not answer in time."))
        await server.closed.get()

    assert ended == ["in time"]
    assert len(server.requests) == 2


async def test_leaving_pools_ends_what_is_under_way():
    """Nobody is left to wait for ever."""
    async with Server([SILENT]) as server:
        async with connection_pools() as pool:
            asking = asyncio.create_task(ask(pool, server))
            while not server.requests:  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0)
        with pytest.raises(UpstreamError, match="shutting down"):
            await asking


@pytest.mark.parametrize("turns", range(12))
async def test_a_connection_that_nobody_waits_for_any_more_is_not_lost(turns):
    """Whoever dials may leave at any moment: a connection that stood just then is the next one's,
    any other is closed."""
    left, fiber = [], Fiber()

    async def dialling():
        try:
            left.append(await connection_pool.dial())
        except ClientGone:
            left.append(None)

    async with connection_pools() as pool, Server([OK], [OK]) as server:
        connection_pool = pool.pool(server.url)
        before = asyncio.all_tasks()
        fiber.start(dialling())
        dials = asyncio.all_tasks() - before
        for _ in range(turns):
            await asyncio.sleep(0)
        fiber.cancel(ClientGone())
        await asyncio.gather(*dials, return_exceptions=True)
        await asyncio.sleep(0)
        if left[0] is not None:
            connection_pool.put_back(left[0])
        idle = len(connection_pool._idle)
        assert (len(connection_pool._open), connection_pool._dialling) == (idle, 0)
        assert await ask(pool, server) == b"ok"

    assert len(left) == 1


async def test_idle_connections_expire():
    """Before the backend closes them; those in use do not."""
    async with connection_pools() as pool, Server([OK, OK], [SILENT]) as server:
        await ask(pool, server)
        connection_pool = pool.pool(server.url)
        connection = connection_pool._idle[0]
        connection_pool.sweep(connection.idle_since_s + REUSE_S / 2)
        assert connection.open
        connection_pool.sweep(connection.idle_since_s + REUSE_S)
        assert not connection.open
        await server.closed.get()

        assert "0 of 0 idle" in repr(connection_pool)


async def test_each_backend_has_a_limit_of_its_own_for_idle_connections():
    """Engines close idle connections at different ages."""
    async with connection_pools() as pool, Server([OK], [OK]) as server:
        connection_pool = pool.pool(server.url, reuse_s=60.0)
        await ask(pool, server)
        since_s = connection_pool._idle[0].idle_since_s
        connection_pool.sweep(since_s + 59)
        taken = connection_pool.take(since_s + 59)
        assert taken is not None
        connection_pool.put_back(taken)
        assert connection_pool.take(taken.idle_since_s + 60) is None


async def test_the_number_of_connections_is_bounded(monkeypatch):
    """One more is refused before it is dialled: another backend may have room."""
    monkeypatch.setattr(http.pool, "MOST", 2)
    async with connection_pools() as pool, Server([SILENT], [SILENT]) as server:
        asking = [asyncio.create_task(ask(pool, server)) for _ in range(2)]
        while len(server.requests) < 2:  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0)
        with pytest.raises(ConnectFailed, match="limit"):
            await ask(pool, server)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    assert server.opened == 2


async def test_a_backend_waits_for_whoever_takes_its_stream():
    """What nobody takes is held up to a bound, and then the network holds the rest."""
    total = 64 * HELD_BYTES
    answer = STREAM + b"Content-Length: %d\r\n\r\n" % total + b"x" * total
    async with connection_pools() as pool, Server([answer, OK]) as server:
        reply = await send(pool, server)
        while not reply._connection._reading_paused:  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0)
        assert reply._held_bytes < HELD_BYTES + (1 << 20)
        sizes: Counter[str] = Counter()
        reply.stream_to(lambda piece, chunks: sizes.update(bytes=len(piece)))
        reply.pause()
        reply.resume()
        while not reply.complete:
            await driven(reply.next_change())
        assert await ask(pool, server) == b"ok"

    assert sizes["bytes"] == total
    assert server.opened == 1


async def test_a_reply_without_end_is_an_error(monkeypatch):
    """Where nobody can say stop, it is not held for ever."""
    monkeypatch.setattr(http.reply, "WHOLE_BYTES", 100_000)
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000
    async with connection_pools() as pool, Server([answer, SILENT]) as server:
        with pytest.raises(ReplyTooLarge, match="does not end"):
            await ask(pool, server)
        await server.closed.get()


async def test_replies_that_are_collected_share_a_budget():
    """The one that goes beyond it ends with an error that blames no backend; small ones pass; and
    what was counted is given back."""
    budget = BodyBudget(2_500_000)
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 1500000\r\n\r\n" + b"x" * 1_500_000
    async with (
        Pool(connect_timeout_s=1, budget=budget) as pool,
        Server([large, large], [OK, large]) as server,
    ):
        first = await send(pool, server)
        await driven(first.read())
        with pytest.raises(Overloaded):
            await ask(pool, server)
        assert budget.used == 1_500_000
        assert await ask(pool, server) == b"ok"
        first.close()
        assert budget.used == 0
        assert len(await ask(pool, server)) == 1_500_000
    assert budget.used == 0


async def test_a_reply_that_is_over_has_no_hold_on_its_connection():
    """A client that stalls at the end of its answer must not pause another one's."""
    async with connection_pools() as pool, Server([OK, OK]) as server:
        reply = await send(pool, server)
        await driven(reply.read())
        reply.pause()
        assert await ask(pool, server) == b"ok"
        reply.close()
        assert await_open(pool.pool(server.url)) == 1

    assert server.opened == 1


def await_open(connection_pool):
    """How many connections are open and idle."""
    return sum(connection.open for connection in connection_pool._idle)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate for localhost, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
    subprocess.run(
        ["openssl", *made.split(), "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls(certificate, monkeypatch, trusted):
    """Spoken to https backends, on connections that are kept; who is not trusted is not reached."""
    cert, key = certificate
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", cert)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    async with connection_pools() as pool, Server([OK, OK], tls=context) as server:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's own alert
        if trusted:
            assert [await ask(pool, server) for _ in range(2)] == [b"ok", b"ok"]
            assert server.opened == 1
        else:
            with pytest.raises(ConnectFailed, match="certificate"):
                await ask(pool, server)


@pytest.mark.parametrize("name", ["localhost", "other.test"])
async def test_a_certificate_may_be_for_another_name_than_the_url_has(certificate, name):
    """What is found by its address is trusted by its name, and by no other."""
    cert, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    async with connection_pools() as pool, Server([OK], tls=context) as server:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's own alert
        url = server.url.replace("localhost", "127.0.0.1")
        found = pool.pool(url, tls=TlsFiles(ca=cert, server_name=name))
        head = found.request_start("POST", "/v1/x") + b"content-length: 0\r\n\r\n"
        if name == "localhost":
            assert (await driven(found.send(head, b""))).status == 200
        else:
            with pytest.raises(ConnectFailed, match="certificate"):
                await driven(found.send(head, b""))


async def test_a_request_that_dials_as_its_backend_leaves_is_answered():
    """The backend takes no new requests, and those it has are finished; nothing stays open."""
    async with connection_pools() as pool, Server([OK], [OK]) as server:
        connection_pool = pool.pool(server.url)
        await ask(pool, server)
        connection_pool._idle[0].abort()
        asked = asyncio.create_task(ask(pool, server))
        await asyncio.sleep(0)
        pool.forget(server.url)

        assert await asked == b"ok"
        assert not connection_pool._idle
        assert pool.pool(server.url) is not connection_pool


async def test_a_backend_that_leaves_finishes_what_it_has():
    """An idle connection is closed at once, a busy one after its exchange."""
    async with connection_pools() as pool, Server([OK, OK]) as server:
        connection_pool = pool.pool(server.url)
        await ask(pool, server)
        idle = connection_pool._idle[0]
        taken = connection_pool.take(idle.idle_since_s)
        assert taken is idle
        connection_pool.retire()
        still_open = idle.open
        connection_pool.put_back(idle)

        assert still_open
        assert not idle.open


async def test_a_backend_is_not_blamed_for_our_own_limit():
    """Without a free file descriptor no backend can be reached, and that is the gateway's error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with connection_pools() as pool, Server([OK]) as server:
        used = max(map(int, os.listdir("/proc/self/fd"))) + 1
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(used)]  # no gap is left below
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(files) + 1, hard))
            with pytest.raises(Unavailable, match="file descriptor"):
                await ask(pool, server)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for file in files:
                os.close(file)
        assert await ask(pool, server) == b"ok"
