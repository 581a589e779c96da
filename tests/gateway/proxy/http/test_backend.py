"""One connection to a backend, by hand: no socket chooses what comes when."""

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import UpstreamError
from gateway.proxy.http.backend import BackendConnection
from gateway.proxy.http.pool import ConnectionPool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
CHUNKED = STREAM + b"Transfer-Encoding: chunked\r\n\r\n"


class Exchange:
    """One connection on a transport that does nothing, and the exchange on it.

    known: a reply that another connection to the same backend carried before.
    """

    def __init__(self, wire, known=b""):
        self.connection_pool = ConnectionPool("http://x", connect_timeout_s=1)
        if known:
            before = BackendConnection(self.connection_pool)
            before.connection_made(wire())
            before.send(b"head", b"body")
            before.data_received(known)
            before.abort()
            self.connection_pool.take(0.0)
        self.connection = BackendConnection(self.connection_pool)
        self.transport = wire()
        self.connection.connection_made(self.transport)
        self.reply = self.connection.send(b"head", b"body")
        self.body = b""

    def feed(self, data, cuts):
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        for a, b in pairwise(edges):
            if not self.transport.closed:
                self.connection.data_received(data[a:b])
            if self.reply.status and self.reply.sink is None:
                self.reply.stream_to(self._take)

    def _take(self, piece, chunks):
        self.body += piece

    def lose(self):
        """The backend is gone."""
        self.connection.connection_lost(None)

    @property
    def idle(self):
        return len(self.connection_pool._idle)


EVENTS = b"2\r\na\n\r\n" + b"A\r\n0123456789\r\n" * 2 + b"02\r\n\r\n\r\n0\r\n\r\n"
REPLIES = st.sampled_from(
    [
        OK,
        CLOSING,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        CHUNKED + b"1\r\na\r\n1f;x=y\r\n" + b"b" * 31 + b"\r\n0\r\n\r\n",
        CHUNKED + b"0\r\nX-Trailer: y\r\n\r\n",
        CHUNKED + EVENTS,
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + CHUNKED + b"2\r\n\r\n\r\n0\r\n\r\n",
        STREAM + b"Content-Length: 60\r\n\r\n" + b"data: x\n\n\n" * 6,
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nX-Empty:\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    ]
)
CUTS = st.lists(st.integers(0, 200), max_size=10)


@settings(max_examples=80, deadline=None)
@given(REPLIES, CUTS)
@example(OK, list(range(200)))
async def test_any_cut_of_a_reply_is_the_same_reply(wire, answer, cuts):
    """Where the network cuts is nobody's business."""
    found = []
    uncut: list[int] = []
    for where, known in ((cuts, b""), (uncut, b""), (cuts, answer), (uncut, answer)):
        exchange = Exchange(wire, known)
        exchange.feed(answer, where)
        idle = exchange.idle
        exchange.lose()
        reply = exchange.reply
        assert reply.complete
        assert idle == (not exchange.transport.closed and b"until" not in answer)
        headers = [header for header in reply.headers if header[0] != b"content-length"]
        found.append((reply.status, headers, reply.stream, exchange.body, idle))

    assert found == found[:1] * 4


MUTATIONS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=6)), max_size=4
)


@settings(max_examples=300, deadline=None)
@given(REPLIES, MUTATIONS, st.binary(max_size=20), CUTS, st.booleans())
async def test_any_reply_is_whole_or_an_error(wire, answer, mutations, extra, cuts, known):
    """Whatever comes: no exception, no hang once the connection is gone, and only a connection
    that carried a whole reply and nothing else is ever idle."""
    before = answer if known else b""
    for at, length, new in mutations:
        answer = answer[:at] + new + answer[at + length :]
    exchange = Exchange(wire, before)
    exchange.feed(answer + extra, cuts)
    reply, transport = exchange.reply, exchange.transport

    if exchange.idle:
        assert reply.complete
        usable = not transport.closed
        taken = exchange.connection_pool.take(0.0)
        assert (taken is exchange.connection) == usable
    assert transport.closed == bool(reply.error) or reply.complete
    exchange.lose()
    assert reply.complete != isinstance(reply.error, UpstreamError)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.binary(max_size=6)), max_size=2)
)
@example([])
async def test_chunks_are_what_the_parser_takes_them_for(wire, mutations):
    """Whole ones do without it; byte by byte they all go through it."""
    body = EVENTS
    for at, length, new in mutations:
        body = body[:at] + new + body[at + length :]
    found = []
    for cuts, known in (([len(CHUNKED)], b""), ([len(CHUNKED)], CHUNKED), (range(200), b"")):
        exchange = Exchange(wire, known)
        exchange.feed(CHUNKED + body, cuts)
        exchange.lose()
        found.append((exchange.reply.complete, exchange.reply.complete and exchange.body))

    assert found[0] == found[1] == found[2]


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200).filter(lambda noise: b"HTTP/" not in noise), CUTS)
async def test_noise_is_never_a_reply(wire, noise, cuts):
    """Bytes that are not HTTP break the connection and the exchange."""
    exchange = Exchange(wire)
    exchange.feed(noise, cuts)
    exchange.lose()

    assert isinstance(exchange.reply.error, UpstreamError)
    assert exchange.idle == 0


async def test_an_early_answer_does_not_free_the_connection(wire):
    """With a request still on its way, the next one would have to wait behind it."""
    exchange = Exchange(wire)
    exchange.transport.unsent = 1000
    exchange.feed(OK, [])

    assert exchange.reply.complete
    assert exchange.transport.closed
    assert exchange.idle == 0


async def test_a_paused_connection_is_not_handed_on_paused(wire):
    """A client that stalled with the end of its answer here already costs the next one nothing."""
    exchange = Exchange(wire)
    exchange.feed(CHUNKED + b"1\r\na\r\n", [])
    exchange.reply.pause()
    assert exchange.transport.paused
    exchange.connection.data_received(b"0\r\n\r\n")

    assert not exchange.transport.paused
    assert exchange.connection_pool.take(0.0) is exchange.connection


async def test_whoever_hears_the_last_piece_may_use_the_connection_at_once(wire):
    """It is free before anybody is told, also from inside the call that brings the piece."""
    exchange, second = Exchange(wire), []

    def took(piece, framed):
        connection = exchange.connection_pool.take(0.0)
        assert connection is not None
        second.append(connection.send(b"next", piece))

    exchange.feed(STREAM + b"Content-Length: 2\r\n\r\n", [])
    exchange.reply.sink = took
    exchange.connection.data_received(b"ok")
    exchange.connection.data_received(OK)

    assert exchange.reply.complete
    assert second[0].complete
    assert exchange.transport.written == b"headbodynextok"
