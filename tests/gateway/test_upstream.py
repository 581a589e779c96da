"""Connections to backends, against small real servers on loopback."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.errors import ConnectFailed, UpstreamError
from gateway.proxy.upstream import Upstream, request_headers

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers every request on a connection with the next of its scripts, then closes it."""

    def __init__(self, *connections):
        """connections: for each connection, the raw answers it gives before it is closed."""
        self.connections = list(connections)
        self.requests = []
        self.closed = asyncio.Event()
        self.url = ""

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()

    async def _serve(self, reader, writer):
        answers = self.connections.pop(0)
        for answer in answers:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            )
            self.requests.append((head, await reader.readexactly(length)))
            writer.write(answer)
            await writer.drain()
        writer.close()
        self.closed.set()


@asynccontextmanager
async def upstream():
    async with Upstream(connect_timeout_s=5) as up, asyncio.timeout(10):
        yield up


async def drain(reply):
    parts = []
    try:
        while chunk := await reply.chunk():
            parts.append(chunk)
    finally:
        reply.close()
    return b"".join(parts)


async def test_bodies_arrive_as_they_were_sent():
    """The backend gets the received bytes and headers, nothing of a client library's own."""
    body = b'{"model": "m",  "x": "\xff"}'
    async with upstream() as up, Server([OK]) as server:
        reply = await up.send(server.url, {"Content-Type": "application/json", "X-A": "1"}, body)
        assert (reply.status, reply.stream, await reply.read()) == (200, False, b"ok")
        reply.close()

    head, got = server.requests[0]
    names = [line.split(b":")[0].lower() for line in head.strip().split(b"\r\n")[1:]]
    assert got == body
    assert sorted(names) == [b"content-length", b"content-type", b"host", b"x-a"]


async def test_a_connection_is_used_again():
    """Keep-alive: a reply read whole frees its connection for the next request."""
    async with upstream() as up, Server([OK, OK, OK]) as server:
        for _ in range(3):
            reply = await up.send(server.url, {}, b"{}")
            await reply.read()
            reply.close()

    assert len(server.requests) == 3


async def test_a_stale_connection_is_replaced_invisibly():
    """A backend that closed an idle connection costs the client nothing."""
    async with upstream() as up, Server([OK], [OK]) as server:
        first = await up.send(server.url, {}, b"1")
        await first.read()
        first.close()
        # Not waiting for the close to be noticed is the race that real traffic meets.
        second = await up.send(server.url, {}, b"2")
        assert await second.read() == b"ok"
        second.close()

    assert [body for _, body in server.requests] == [b"1", b"2"]


async def test_nobody_listening_is_connect_failed():
    """Nothing was sent, so another backend may try at no risk."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with upstream() as up:
        with pytest.raises(ConnectFailed) as failed:
            await up.send(f"http://127.0.0.1:{port}/", {}, b"{}")

    assert (failed.value.status, failed.value.code) == (502, "connect_failed")


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-", b"SSH-2.0 hello\r\n\r\n"],
    ids=["nothing", "half a head", "another protocol"],
)
async def test_a_break_before_the_head_is_an_upstream_error(answer):
    """Not a connect error: the backend may have begun to work, so nobody asks it again."""
    async with upstream() as up, Server([answer], [answer]) as server:
        with pytest.raises(UpstreamError) as broken:
            await up.send(server.url, {}, b"{}")

    assert broken.value.code == "upstream_error"
    assert len(server.requests) == 1


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        STREAM + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        STREAM + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhello",
        STREAM + b"Content-Length: 9\r\n\r\nhello",
    ],
    ids=["between chunks", "inside a chunk", "short of its length"],
)
async def test_cut_bodies_are_told(answer):
    """A body that ends too early is an error after what came, never a clean end."""
    async with upstream() as up, Server([answer], [answer]) as server:
        reply = await up.send(server.url, {}, b"{}")
        assert reply.stream
        with pytest.raises(UpstreamError, match="cut"):
            await drain(reply)
        whole = await up.send(server.url, {}, b"{}")
        with pytest.raises(UpstreamError, match="cut"):
            await whole.read()
        whole.close()


async def test_chunks_come_as_they_are():
    """A chunked stream is passed without its framing and ends with empty bytes."""
    answer = STREAM + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with upstream() as up, Server([answer]) as server:
        assert await drain(await up.send(server.url, {}, b"{}")) == b"abcde"


async def test_closing_early_hangs_up():
    """A reply given up in the middle closes the connection, so that the engine aborts."""
    answer = STREAM + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with upstream() as up, Server([answer, OK]) as server:
        reply = await up.send(server.url, {}, b"{}")
        assert await reply.chunk() == b"abc"
        reply.close()
        await server.closed.wait()

    assert len(server.requests) == 1


async def test_reply_headers_are_end_to_end():
    """Framing and hop-by-hop headers stay behind, the ones that Connection names too."""
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nServer: uvicorn\r\n"
        b"X-Request-Id: r\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n{}"
    )
    async with upstream() as up, Server([answer]) as server:
        reply = await up.send(server.url, {}, b"{}")
        headers = reply.headers
        await reply.read()
        reply.close()

    assert [(name.lower(), value) for name, value in headers] == [
        ("content-type", "application/json"),
        ("x-request-id", "r"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ]


async def test_a_redirect_is_passed_on():
    """The gateway never posts a prompt to an address that a backend made up."""
    answer = b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    async with upstream() as up, Server([answer]) as server:
        reply = await up.send(server.url, {}, b"{}")
        await reply.read()
        reply.close()

    assert reply.status == 307


async def test_probes():
    """Only a 200 in time is up."""

    async def health(request):
        return web.Response(status=int(request.match_info["status"]))

    async def silent(request):
        await asyncio.Event().wait()

    app = web.Application()
    app.add_routes([web.get("/silent", silent), web.get("/{status}", health)])
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with upstream() as up:
            found = [await up.probe(f"{url}/{path}", 5) for path in ("200", "503", "404")]
            found.append(await up.probe(f"{url}/silent", 0.05))
            found.append(await up.probe("http://127.0.0.1:1/health", 5))
            found.append(await up.probe("http://:x", 5))
    finally:
        await runner.cleanup()

    assert found == [True, False, False, False, False, False]


def headers(*pairs, connection=""):
    return request_headers(pairs, connection=connection, request_id="r1")


def test_request_headers_are_end_to_end():
    """Hop-by-hop headers, the ones named by Connection, and what is made anew stay behind."""
    kept = headers(
        ("Host", "gateway"),
        ("Authorization", "Bearer k"),
        ("Content-Type", "application/json"),
        ("Content-Length", "5"),
        ("Connection", "keep-alive, x-hop"),
        ("X-Hop", "1"),
        ("Transfer-Encoding", "chunked"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("Expect", "100-continue"),
        ("Accept-Encoding", "gzip"),
        ("Proxy-Authorization", "secret"),
        ("traceparent", "00-1"),
        connection="keep-alive, x-hop",
    )

    assert kept == {
        "Authorization": "Bearer k",
        "Content-Type": "application/json",
        "traceparent": "00-1",
        "x-request-id": "r1",
    }


def test_the_request_id_is_ours():
    """One id, whatever case the client wrote it in."""
    assert headers(("X-Request-ID", "theirs")) == {"x-request-id": "r1"}


def test_an_undone_encoding_is_not_announced():
    """The server decompresses bodies; the backend must not be told that they still are."""
    assert "Content-Encoding" not in headers(("Content-Encoding", "gzip"))


def test_repeated_headers_are_joined():
    """No value is lost: a repeated field is a list."""
    kept = headers(("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "2.2.2.2"))

    assert kept["X-Forwarded-For"] == "1.1.1.1, 2.2.2.2"
