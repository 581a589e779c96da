"""Client connections, over real sockets; and by hand where the network must not choose."""

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from itertools import pairwise
from math import inf

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import ClientGone
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.client import BURST, ClientConnection
from gateway.proxy.http.headers import HEAD_BYTES
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.request import ClientLimits, Request
from gateway.proxy.http.request_parser import AHEAD_BYTES, DROPPED_BYTES

OK = b"HTTP/1.1 200 OK\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def post(body=b"", *headers, version=b"1.1", target=b"/"):
    """A request with a body and its length; it names a host unless a header does."""
    if not any(header.startswith(b"Host:") for header in headers):
        headers = (b"Host: a", *headers)
    lines = b"".join(header + b"\r\n" for header in headers)
    head = b"POST %b HTTP/%b\r\n%bContent-Length: %d\r\n\r\n" % (target, version, lines, len(body))
    return head + body


def chunked(*pieces, headers=b"", trailers=b""):
    """A request with its body in chunks."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    head = b"POST / HTTP/1.1\r\nHost: a\r\n%bTransfer-Encoding: chunked\r\n\r\n" % headers
    return head + chunks + b"0\r\n" + trailers + b"\r\n"


def answered(body, head=b""):
    """What a client gets of `client.respond(OK, body)`."""
    return OK + b"content-length: %d\r\n%b\r\n" % (len(body), head) + body


def echo(client, request):
    """Answers at once with what came."""
    client.respond(OK, request.body)
    client.finish()


class HeldRequests:
    """Lets a test answer: requests wait in `came` with their client, who leaves into `gone`."""

    def __init__(self):
        self.came: asyncio.Queue[tuple[ClientConnection, Request]] = asyncio.Queue()
        self.gone: asyncio.Queue[Request] = asyncio.Queue()

    def __call__(self, client, request):
        client.on_disconnect = lambda: self.gone.put_nowait(request)
        self.came.put_nowait((client, request))

    async def next(self):
        return await self.came.get()


class Client:
    """A raw connection; leaving it in order checks nothing."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, *pieces):
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def got(self, expected):
        """Asserts what comes next, byte for byte."""
        assert await self.reader.readexactly(len(expected)) == expected

    async def ended(self):
        """Asserts that the gateway has closed its side and sent no more."""
        assert await self.reader.read() == b""

    async def refusal(self):
        """Reads an error to the end of the connection: its status and its object."""
        head, _, body = (await self.reader.read()).partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        assert b"content-length: %d" % len(body) in lines
        assert b"connection: close" in lines
        assert any(line.startswith(b"x-request-id: ") for line in lines)
        return int(head.split()[1]), json.loads(body)["error"]


@asynccontextmanager
async def serving(serve=echo, **limits):
    """A listener, and a function that opens connections to it."""
    listener = Listener(ClientLimits(**{"body_bytes": 1 << 20} | limits), serve)
    port = await listener.listen("127.0.0.1", 0)
    clients = []

    async def connect(**options):
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", port, **options)))
        return clients[-1]

    try:
        async with asyncio.timeout(20):
            yield connect
    finally:
        for client in clients:
            client.writer.close()
        await listener.close(0)


async def test_a_request_arrives_whole():
    """Method, target, headers in lower case and in order, and the body as it was sent."""
    held = HeldRequests()
    async with serving(held) as connect:
        client = await connect()
        await client.send(post(b'{"a": 1}', b"Host: x", b"X-A: 1", b"x-a:  2", target=b"/v1/a?b=c"))
        connection, request = await held.next()

    assert (request.method, request.target, request.path) == (b"POST", b"/v1/a?b=c", "/v1/a")
    assert request.headers == [
        (b"host", b"x"), (b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"8")
    ]  # fmt: skip
    assert request.body == b'{"a": 1}'
    assert connection.busy


@pytest.mark.parametrize(
    ("target", "meant"),
    [(b"http://x:80/v1/a?b", b"/v1/a?b"), (b"http://x", b"/"), (b"/http://x/y", b"/http://x/y")],
)
async def test_a_target_may_name_the_host_too(target, meant):
    """Servers have to take the absolute form (RFC 9112 §3.2.2)."""
    held = HeldRequests()
    async with serving(held) as connect:
        client = await connect()
        await client.send(post(b"", b"Host: x", target=target))
        _, request = await held.next()

    assert request.target == meant


async def test_connections_are_kept():
    """HTTP/1.1 unless told otherwise, HTTP/1.0 where it asks."""
    async with serving() as connect:
        client = await connect()
        for body in (b"1", b"", b"3" * 100_000):
            await client.send(post(body))
            await client.got(answered(body))
        old = await connect()
        for body in (b"1", b"2"):
            await old.send(post(body, b"Connection: keep-alive", version=b"1.0"))
            await old.got(answered(body, b"connection: keep-alive\r\n"))


@pytest.mark.parametrize(
    "request_",
    [post(b"a", b"Connection: close"), post(b"a", version=b"1.0")],
    ids=["close", "HTTP/1.0"],
)
async def test_connections_are_closed_as_the_client_asked(request_):
    """And the answer says so."""
    async with serving() as connect:
        client = await connect()
        await client.send(request_)
        await client.got(answered(b"a", b"connection: close\r\n"))
        await client.ended()


def stream(client, request):
    """Answers in three pieces and none."""
    client.start(OK, b"one")
    client.write(b"")
    client.write(b"three")
    client.end()
    client.finish()


async def test_a_stream_comes_in_chunks():
    """No piece is joined to another; one without bytes does not end it; the connection is kept."""
    async with serving(stream) as connect:
        client = await connect()
        for _ in range(2):
            await client.send(post())
            await client.got(OK + b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n5\r\nthree\r\n")
            await client.got(b"0\r\n\r\n")


@pytest.mark.parametrize("headers", [(), (b"Connection: keep-alive",)])
async def test_a_stream_to_an_old_client_ends_with_the_connection(headers):
    """HTTP/1.0 knows no chunks, whatever it wants kept."""
    async with serving(stream) as connect:
        client = await connect()
        await client.send(post(b"", *headers, version=b"1.0"))
        await client.got(OK + b"connection: close\r\n\r\nonethree")
        await client.ended()


async def test_a_head_has_no_body():
    """Its length is told."""

    def serve(client, _):
        client.respond(OK, b"abc")
        client.finish()

    async with serving(serve) as connect:
        client = await connect()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", post())
        await client.got(OK + b"content-length: 3\r\n\r\n" + answered(b"abc"))


async def test_pipelined_requests_are_answered_in_order():
    """The second is not begun before the first is over, however slow that is."""
    held = HeldRequests()
    async with serving(held) as connect:
        client = await connect()
        await client.send(post(b"1") + post(b"2") + post(b"3")[:-1])
        for body in (b"1", b"2"):
            connection, request = await held.next()
            assert (request.body, held.came.empty()) == (body, True)
            connection.respond(OK, body)
            connection.finish()
            await client.got(answered(body))
        await client.send(b"3")
        assert (await held.next())[1].body == b"3"


async def test_a_long_pipeline_is_served_in_turns():
    """Many requests in one read are all answered, in order."""
    count = 5 * BURST
    async with serving() as connect:
        client = await connect()
        await client.send(b"".join(post(b"%d" % n) for n in range(count)))
        await client.got(b"".join(answered(b"%d" % n) for n in range(count)))


async def test_a_client_that_waits_for_the_word_gets_it():
    """100-continue, and none where the body comes without it or the client is too old."""
    async with serving() as connect:
        client = await connect()
        request = post(b"body", b"Expect: 100-Continue")
        await client.send(request[:-4])
        await client.got(CONTINUE)
        await client.send(request[-4:])
        await client.got(answered(b"body"))
        old = await connect()
        await old.send(post(b"a", b"Expect: 100-continue", version=b"1.0"))
        await old.got(answered(b"a", b"connection: close\r\n"))


async def test_the_word_waits_for_its_turn():
    """Behind requests that are not answered yet it would look like an answer to the first."""
    held = HeldRequests()
    async with serving(held) as connect:
        client = await connect()
        await client.send(post(b"1") + post(b"2") + post(b"3", b"Expect: 100-continue")[:-1])
        for body in (b"1", b"2"):
            connection, _ = await held.next()
            connection.respond(OK, body)
            connection.finish()
        await client.got(answered(b"1") + answered(b"2") + CONTINUE)
        await client.send(b"3")
        assert (await held.next())[1].body == b"3"


async def test_chunked_bodies_are_joined_and_trailers_dropped():
    """A trailer must not become a header (RFC 9110 §6.5.1)."""
    held = HeldRequests()
    async with serving(held) as connect:
        client = await connect()
        await client.send(chunked(b"a", b"bc" * 5000, b"d", trailers=b"Authorization: other\r\n"))
        _, request = await held.next()

    assert request.body == b"a" + b"bc" * 5000 + b"d"
    assert request.headers == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]


async def test_bodies_in_tiny_chunks_arrive():
    """However many pieces."""
    async with serving() as connect:
        client = await connect()
        body = bytes(range(256)) * 8
        await client.send(chunked(*(body[at : at + 2] for at in range(0, len(body), 2))))
        await client.got(answered(body))


@pytest.mark.parametrize("expecting", [True, False])
async def test_a_body_with_too_great_a_length_is_413(expecting):
    """Told before it is sent, and no word to send it."""
    async with serving(body_bytes=1000) as connect:
        client = await connect()
        headers = [b"Expect: 100-continue"] if expecting else []
        await client.send(post(b"x" * 1001, *headers)[:-1001])
        status, error = await client.refusal()

    assert (status, error["code"]) == (413, "request_too_large")
    assert "1000 bytes" in error["message"]


async def test_a_chunked_body_that_grows_too_large_is_413():
    """Where no length is told, the bytes are counted."""
    async with serving(body_bytes=1000) as connect:
        client = await connect()
        await client.send(chunked(b"x" * 600, b"x" * 600)[:-5])
        assert (await client.refusal())[0] == 413
        other = await connect()
        await other.send(chunked(b"x" * 600, b"x" * 400))
        await other.got(answered(b"x" * 1000))


@pytest.mark.parametrize("before", [b"", b"400\r\n" + b"x" * 1024 + b"\r\n"])
@pytest.mark.parametrize("size", [b"7FFFFFFFFFFFFFFF", b"7fffffff;a=b", b"00800"])
async def test_a_chunk_with_too_great_a_size_is_413(before, size):
    """At once, like a length; with what came before it."""
    async with serving(body_bytes=2047) as connect:
        client = await connect()
        await client.send(POST + CHUNKED + b"\r\n" + before + size + b"\r\n" + b"y")
        assert (await client.refusal())[0] == 413


async def test_a_chunk_may_be_as_large_as_the_limit(wire):
    """Wherever it is cut, and whatever its extensions and its trailers look like."""
    body = b"a" * 5 + b"\r\nfff\r\n" + b"b" * 36
    data = POST + CHUNKED + b"\r\n5;ffff\r\naaaaa\r\n2B;fff\r\n" + body[5:]
    data += b"\r\n0\r\nfff: fff\r\nffffff: 1\r\n\r\n"
    for cut in range(1, len(data)):
        connection, transport = joined(wire, body_bytes=len(body))
        connection.data_received(data[:cut])
        connection.data_received(data[cut:])
        assert transport.written == answered(body)


async def test_the_413_reaches_who_sends_everything_first():
    """Most clients read only after the whole body: it is taken and dropped, not reset."""
    async with serving(body_bytes=1000) as connect:
        client = await connect()
        await client.send(post(b"x" * (8 << 20)))
        assert (await client.refusal())[0] == 413


@pytest.mark.parametrize("cut", [HEAD_BYTES + 300, 1000])
async def test_a_head_that_is_too_large_is_431(cut):
    """In one read or in many, ended or not."""
    async with serving() as connect:
        client = await connect()
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"x" * HEAD_BYTES + b"\r\n\r\n"
        await client.send(*(head[at : at + cut] for at in range(0, len(head), cut)))
        status, error = await client.refusal()

    assert (status, error["code"]) == (431, "head_too_large")


async def test_trailers_without_end_are_431():
    """They are dropped, but what drops them has to hold them first."""
    async with serving() as connect:
        client = await connect()
        await client.send(chunked(b"a", trailers=b"X: " + b"x" * (1 << 20))[:-2])
        assert (await client.refusal())[0] == 431


async def test_a_large_body_is_no_large_head():
    """What belongs to the body before it does not count for the next head, nor the reverse."""
    async with serving() as connect:
        client = await connect()
        body = b"x" * 3 * HEAD_BYTES
        await client.send(post(b"1") + post(body) + post(b"3")[:10], post(b"3")[10:])
        await client.got(answered(b"1") + answered(body) + answered(b"3"))


@pytest.mark.parametrize(
    ("part", "limits"),
    [
        (b"GE", {"head_s": 0.01}),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n", {"head_s": 0.01}),
        (post(b"1") + b"GET /", {"head_s": 0.01, "idle_s": 30}),
        (post(b"body")[:-1], {"body_s": 0.01}),
        (chunked(b"body")[:-5], {"body_s": 0.01}),
        (post(b"b", b"Expect: 100-continue")[:-1], {"body_s": 0.01}),
    ],
)
async def test_a_request_that_does_not_arrive_is_408(part, limits):
    """Its head and each part of its body have their time."""
    async with serving(**limits) as connect:
        client = await connect()
        await client.send(part)
        for begun in (answered(b"1"), CONTINUE):
            if (begun == CONTINUE and b"Expect" in part) or part.startswith(post(b"1")):
                await client.got(begun)
                break
        status, error = await client.refusal()

    assert (status, error["code"]) == (408, "request_timeout")


@pytest.mark.parametrize(
    ("sent", "got", "limits"),
    [
        (b"", b"", {"idle_s": 0.01}),
        (post(b"1"), answered(b"1"), {"idle_s": 0.01}),
        (post(b"1") + b"\r\n\r\n", answered(b"1"), {"idle_s": 0.01, "head_s": 0.01}),
    ],
    ids=["never used", "used", "blank lines"],
)
async def test_an_idle_connection_is_closed_without_a_word(sent, got, limits):
    """A 408 that nobody asked for would be taken for the answer to the next request."""
    async with serving(**limits) as connect:
        client = await connect()
        await client.send(sent)
        await client.got(got)
        await client.ended()


@pytest.mark.parametrize("headers", [(), (b"Expect: 100-continue",)])
@pytest.mark.parametrize("framing", ["length", "chunks", "none"])
async def test_an_upgrade_is_not_made_and_loses_nothing(framing, headers):
    """Java's HttpClient offers h2c with every first request, its body too; more may follow."""
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAM")
    offer = (*offer, *headers)
    lines = b"".join(line + b"\r\n" for line in offer)
    request = {
        "length": post(b"GET /smuggled HTTP/1.1\r\n\r\n", *offer),
        "chunks": chunked(b"GET /smuggled HTTP/1.1\r\n\r\n", headers=lines),
        "none": b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % lines,
    }[framing]
    body = b"" if framing == "none" else b"GET /smuggled HTTP/1.1\r\n\r\n"
    async with serving() as connect:
        client = await connect()
        await client.send(request + post(b"next"))
        if headers:
            await client.got(CONTINUE)
        await client.got(answered(body) + answered(b"next"))


GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ILLEGAL = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "proxying": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "the same length twice": POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "a list of lengths": POST + b"Content-Length: 1, 1\r\n\r\na",
    "no number": POST + b"Content-Length: +1\r\n\r\na",
    "a huge number": POST + b"Content-Length: %d\r\n\r\na" % 2**64,
    "length, then chunks": POST + b"Content-Length: 1\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks, then length": POST + CHUNKED + b"Content-Length: 1\r\n\r\n0\r\n\r\n",
    "a coding unknown": POST + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a coding spelt wrong": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks before their time": b"POST / HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "a chunk's size": POST + CHUNKED + b"\r\nx\r\n",
    "a chunk's end": POST + CHUNKED + b"\r\n1\r\nabc\r\n",
    "a chunk's line": POST + CHUNKED + b"\r\n1\na\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "a bare carriage return": GET + b"X: a\rY: b\r\n\r\n",
    "a folded line": GET + b"X: a\r\n b\r\n\r\n",
    "a space before the colon": GET + b"X : a\r\n\r\n",
    "a null": GET + b"X: a\0b\r\n\r\n",
    "a version": b"GET / HTTP/1.7\r\n\r\n",
    "no version": b"GET /\r\nHost: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: a\r\n\r\n",
    "two hosts before they were needed": b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "no possible host": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "no host in a target": b"GET http://a/ HTTP/1.1\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("sent", ILLEGAL.values(), ids=ILLEGAL.keys())
@pytest.mark.parametrize("behind", [False, True], ids=["first", "behind another"])
async def test_what_is_no_request_is_400_and_the_end(sent, behind):
    """An error object, after the answers to what came before it; nothing is guessed about what
    follows, which is how requests are smuggled."""
    async with serving() as connect:
        client = await connect()
        await client.send((post(b"1") if behind else b"") + sent + post(b"smuggled"))
        if behind:
            await client.got(answered(b"1"))
        status, error = await client.refusal()

    assert (status, error["type"]) == (400, "invalid_request_error")


async def test_another_major_version_is_505():
    """A request line is no way to HTTP/2."""
    async with serving() as connect:
        client = await connect()
        await client.send(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n")
        status, error = await client.refusal()

    assert (status, error["code"]) == (505, "http_version_not_supported")


async def test_a_refusal_waits_for_what_is_under_way():
    """A slow answer is given before it."""
    held = HeldRequests()
    async with serving(held) as connect:
        client = await connect()
        await client.send(post(b"1") + b"garbage\r\n\r\n" * 1000)
        connection, _ = await held.next()
        connection.respond(OK, b"1")
        connection.finish()
        await client.got(answered(b"1"))
        assert (await client.refusal())[0] == 400


async def test_what_follows_a_last_request_is_not_served():
    """After `Connection: close` nobody waits for an answer."""
    async with serving() as connect:
        client = await connect()
        await client.send(post(b"1", b"Connection: close") + post(b"2"))
        await client.got(answered(b"1", b"connection: close\r\n"))
        await client.ended()


async def test_a_client_that_leaves_is_told_once():
    """Its request can end where it is; a later answer goes nowhere."""
    held = HeldRequests()
    async with serving(held) as connect:
        client = await connect()
        await client.send(post(b"1"))
        connection, request = await held.next()
        client.writer.close()
        assert await held.gone.get() is request
        connection.respond(OK, b"late")
        connection.start(OK, b"late")
        connection.write(b"late")
        connection.end()
        connection.finish()

    assert held.gone.empty()


@pytest.mark.parametrize("how", ["FIN", "RST", "half-close"])
@pytest.mark.parametrize("behind", [post(b"2"), post(b"2") * 300, post(b"2")[:-1], b"junk\r\n\r\n"])
async def test_a_client_that_leaves_with_requests_waiting_is_noticed(how, behind):
    """However it leaves: its requests hold no backend, and none that waits is begun."""
    held = HeldRequests()
    async with serving(held) as connect:
        client = await connect()
        await client.send(post(b"1") + behind)
        _, request = await held.next()
        if how == "half-close":
            client.writer.write_eof()
        else:
            (client.writer.close if how == "FIN" else client.writer.transport.abort)()
        assert await held.gone.get() is request

    assert held.came.empty()


class Source:
    """Where a stream comes from: whether it has to wait."""

    def __init__(self):
        self.paused, self.resumed = asyncio.Event(), asyncio.Event()

    def pause(self):
        self.paused.set()

    def resume(self):
        self.resumed.set()


async def test_a_slow_reader_pauses_its_own_source_only():
    """Its neighbour streams on; once it reads again its source does too."""
    held = HeldRequests()
    async with serving(held) as connect:
        sources = []
        for _ in range(2):
            await (client := await connect(limit=1024)).send(post())
            connection, _ = await held.next()
            connection.source = Source()
            connection.start(OK, b"first")
            sources.append((client, connection, connection.source))
        (slow, filled, source), (_, other, neighbour) = sources
        while not filled.stalled:
            filled.write(b"x" * 65536)
        other.write(b"x")
        await source.paused.wait()
        assert not neighbour.paused.is_set()
        assert not source.resumed.is_set()
        while not source.resumed.is_set():
            assert await slow.reader.read(65536)


async def test_a_reader_that_stalls_is_cut_off():
    """After `stalled_s` without reading any: the request ends as if the client had left."""
    held = HeldRequests()
    async with serving(held, stalled_s=0.01) as connect:
        client = await connect(limit=1024)
        await client.send(post())
        connection, request = await held.next()
        connection.source = Source()
        connection.start(OK, b"first")
        while not connection.stalled:
            connection.write(b"x" * 65536)
        assert await held.gone.get() is request
        with contextlib.suppress(ConnectionError):
            assert not (await client.reader.read()).endswith(b"0\r\n\r\n")


# From here on by hand: no socket chooses what comes when.


class Server:
    """What an Inbound belongs to, without a port."""

    def __init__(self, serve=echo, **limits):
        self.limits = ClientLimits(**{"body_bytes": 10_000} | limits)
        self.closing = False
        self.connections = set()
        self.budget = BodyBudget()
        self._serve = serve

    def make_room(self, newest):
        raise AssertionError

    def refused(self, error):
        pass

    def serve(self, client, request):
        self._serve(client, request)


def joined(wire, serve=echo, **limits):
    """A client connection on a transport that does nothing."""
    connection = ClientConnection(Server(serve, **limits))
    connection.connection_made(transport := wire())
    return connection, transport


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_reads_slowly_is_not_cut_off(wire):
    """As long as some of the answer is taken within `stalled_s`, patience begins anew."""
    connection, transport = joined(wire, lambda client, _: client.start(OK, b"x"))
    connection.data_received(post())
    transport.unsent = 70_000
    connection.pause_writing()
    for transport.unsent in (69_999, 69_000, 1000):
        connection.expire()
        assert not transport.aborted
    connection.expire()

    assert transport.aborted


async def test_who_does_not_read_gets_no_further_answers(wire):
    """Pipelined requests wait until there is room."""
    connection, transport = joined(wire)
    connection.pause_writing()
    connection.data_received(post(b"1") + post(b"2"))
    before = transport.written
    connection.resume_writing()

    assert before == b""
    assert transport.written == answered(b"1") + answered(b"2")


async def test_what_is_sent_ahead_of_its_turn_is_bounded(wire):
    """Beyond the limit no more is kept, and the refusal comes after the answers that are due."""
    answers = []
    connection, transport = joined(wire, lambda client, _: answers.append(client))
    requests = AHEAD_BYTES // 1000
    for _ in range(2 * requests):
        connection.data_received(post(b"x" * 1000))
    while answers:
        answers.pop().respond(OK, b"a")
        connection.finish()
    answered_, _, refusal = transport.written.partition(b"HTTP/1.1 429 ")

    assert answered_ == answered(b"a") * answered_.count(b"200 OK")
    assert requests / 3 < answered_.count(b"200 OK") < requests
    assert b"retry-after: 1" in refusal
    assert transport.ended


async def test_after_an_error_not_everything_is_read(wire):
    """A client that goes on sending is cut off in the end."""
    connection, transport = joined(wire)
    connection.data_received(b"junk\r\n\r\n")
    sent = 0
    while not transport.aborted:
        connection.data_received(b"x" * (1 << 20))
        sent += 1 << 20

    assert DROPPED_BYTES < sent <= DROPPED_BYTES + (1 << 20)


async def test_a_long_line_of_requests_may_wait_if_it_is_served_in_between(wire):
    """Only what waits at one time counts."""
    answers = []
    connection, transport = joined(wire, lambda client, _: answers.append(client))
    count = 3 * AHEAD_BYTES // 1000
    for _ in range(count):
        connection.data_received(post(b"x" * 1000) * 2)
        for _ in range(2):
            answers.pop().respond(OK, b"a")
            connection.finish()

    assert transport.written == answered(b"a") * 2 * count


async def test_patience_with_one_who_does_not_read_is_not_renewed(wire):
    """Neither by what it sends nor by the end of its answer."""
    answers = []
    connection, _ = joined(wire, lambda client, _: answers.append(client))
    connection.data_received(post(b"1"))
    assert connection.deadline_s == inf
    connection.pause_writing()
    deadline_s = connection.deadline_s
    connection.data_received(post(b"2")[:-1])
    answers[0].respond(OK, b"1")
    answers[0].finish()
    connection.data_received(b"2")

    assert connection.deadline_s == deadline_s < inf
    assert len(answers) == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_an_answer_that_is_not_whole_breaks_the_connection(wire, begun):
    """Whoever serves may fail in ways of its own: the next answer must not look like the rest."""
    served = []

    def serve(client, request):
        served.append(request.body)
        if begun:
            client.start(OK, b"some")
        client.finish()

    connection, transport = joined(wire, serve)
    connection.data_received(post(b"1") + post(b"2"))

    assert transport.aborted
    assert served == [b"1"]


async def test_an_error_in_whoever_serves_leaves_the_line_in_order(wire):
    """The connection is broken off; nothing is served out of turn after it."""
    served = []

    def serve(client, request):
        served.append(request.body)
        raise ClientGone

    connection, transport = joined(wire, serve)
    with pytest.raises(ClientGone):
        connection.data_received(post(b"1") + post(b"2"))
    connection.connection_lost(None)
    connection.finish()

    assert transport.aborted
    assert served == [b"1"]


REQUESTS = st.lists(
    st.sampled_from(
        [
            post(b"abc"),
            post(),
            b"GET /v1/models?a=b HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\r\n" + post(b"\r\n\r\n", b"X-A: b", b"X-Empty:"),
            chunked(b"a", b"bcd" * 30, trailers=b"X-T: 1\r\n"),
            chunked(),
            post(b"up", b"Connection: Upgrade", b"Upgrade: h2c"),
            chunked(b"up", headers=b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
            post(b"old", b"Connection: keep-alive", version=b"1.0"),
        ]
    ),
    min_size=1,
    max_size=5,
)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def pieces(data, cuts):
    """The data in pieces, none of them empty."""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[a:b] for a, b in pairwise(edges)]


async def fed(wire, data, cuts):
    """What an Inbound makes of data in pieces: what was served, written, and how it ended."""
    served = []

    def serve(client, request):
        headers = [header for header in request.headers if header[0] != b"content-length"]
        served.append((request.method, request.target, headers, request.body))
        echo(client, request)

    connection, transport = joined(wire, serve)
    for piece in pieces(data, cuts):
        if not transport.closed:
            connection.data_received(piece)
    await turns()
    assert not connection.busy
    return served, transport, connection


@settings(max_examples=80, deadline=None)
@given(REQUESTS, CUTS)
@example([post(b"abc")] * 3, list(range(400)))
async def test_any_cut_of_requests_is_the_same_requests(wire, requests, cuts):
    """Where the network cuts is nobody's business."""
    data = b"".join(requests)
    served, transport, connection = await fed(wire, data, cuts)
    whole, other, _ = await fed(wire, data, [])

    assert len(served) == len(requests)
    assert served == whole
    assert transport.written == other.written
    assert connection.idle
    assert (transport.closed, transport.ended) == (False, False)


MUTATIONS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 3), st.binary(max_size=6)), max_size=4
)


def mutated(data, mutations):
    """The data with pieces replaced, removed or put in."""
    for at, length, new in mutations:
        data = data[:at] + new + data[at + length :]
    return data


@settings(max_examples=250, deadline=None)
@given(REQUESTS, MUTATIONS, CUTS)
@example([b"\0"], [], [])
async def test_anything_ends_in_answers_or_one_refusal(wire, requests, mutations, cuts):
    """Whatever comes: no exception, as many answers as requests were served, and at most one
    refusal, which is the last word; else the connection waits, with its patience running out."""
    served, transport, connection = await fed(wire, mutated(b"".join(requests), mutations), cuts)
    answers = transport.written.count(b"HTTP/1.1 200 OK\r\n")
    refusals = transport.written.count(b"\r\nx-request-id: ")

    assert answers >= len(served)  # an echoed body may hold the words of one
    assert refusals == transport.ended <= 1
    assert connection.deadline_s < inf
    connection.expire()
    assert transport.closed or transport.ended
    if not transport.closed:
        connection.expire()
        assert transport.closed
