"""A stream on its way from backend to client."""

import pytest

from gateway.proxy.http.backend import BackendConnection
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.pool import ConnectionPool
from gateway.proxy.http.reply import HELD_BYTES
from gateway.proxy.http.request import ClientLimits, Request
from gateway.proxy.relay import Relay
from gateway.proxy.sse import StreamMeter

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ROLE = b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
WORD = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
LAST = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def chunk(piece):
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class Server:
    """One client's server; requests are the test's."""

    def __init__(self):
        self.limits, self.closing = ClientLimits(body_bytes=1000), False
        self.connections = set()
        self.budget = BodyBudget()

    def make_room(self, newest):
        raise AssertionError

    def refused(self, error):
        pass

    def serve(self, client, request):
        pass


class Way:
    """A backend's connection, a relay, and a client's connection, without a network."""

    def __init__(self, wire):
        self.now_s = 0.0
        self.firsts: list[float] = []
        self.backend = BackendConnection(ConnectionPool("http://x", connect_timeout_s=1))
        self.upstream = wire()
        self.backend.connection_made(self.upstream)
        self.reply = self.backend.send(b"head", b"")
        self.client = ClientConnection(Server())
        self.sent = wire()
        self.client.connection_made(self.sent)
        self.client.data_received(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.backend.data_received(HEAD)
        self.relay = Relay(
            self.reply, self.client, lambda: self.now_s, StreamMeter(), self.firsts.append
        )
        self.client.source = self.reply

    def come(self, piece, at_s=0.0):
        self.now_s = at_s
        self.backend.data_received(chunk(piece))

    def open(self):
        """As the exchange does once it has seen the first event."""
        self.client.start(b"HTTP/1.1 200 OK\r\n", self.relay.open())
        self.sent.written = b""

    @property
    def paused(self):
        return self.upstream.paused


@pytest.fixture
async def way(wire):
    return Way(wire)


async def test_nothing_reaches_the_client_before_it_is_opened(way):
    """Until then another backend can still answer instead; then all that was held comes first."""
    way.come(ROLE)
    way.come(WORD)

    assert way.sent.written == b""
    assert way.relay.open() == ROLE + WORD


async def test_once_open_events_pass_in_the_call_that_brings_them(way):
    """Whole ones, however the backend cut them."""
    way.come(ROLE)
    way.open()
    way.come(WORD[:7])
    before = way.sent.written
    way.come(WORD[7:] + LAST + DONE)

    assert (before, way.sent.written) == (b"", chunk(WORD + LAST + DONE))


async def test_the_first_token_is_told_once_and_when_it_came(way):
    """A role is none."""
    way.come(ROLE, at_s=1.0)
    way.come(WORD, at_s=2.0)
    way.come(WORD, at_s=3.0)

    assert way.firsts == [2.0]
    assert way.relay.last_s == 3.0


async def test_a_comment_is_a_sign_of_life_and_no_event(way):
    """It is held like the rest, as the role is, but nobody is woken for it."""
    woken = []

    async def waiting():
        await way.reply.next_change()
        woken.append(True)

    Fiber().start(waiting())
    way.come(b": ping\n\n", at_s=4.0)
    way.come(ROLE)
    before = list(woken)
    way.come(WORD)

    assert (before, woken) == ([], [True])
    assert way.relay.last_s == 0.0
    assert way.relay.open() == b": ping\n\n" + ROLE + WORD


async def test_comments_without_end_are_not_held_without_end(way):
    """The backend waits then, until its time for a first event is up."""
    while len(way.relay._ready) <= HELD_BYTES:
        assert not way.paused
        way.come(b": " + b"x" * 100_000 + b"\n\n")

    assert way.paused


async def test_a_client_that_does_not_read_pauses_its_backend(way):
    """And only while it does not; the time it takes is its own and not the backend's silence."""
    way.come(ROLE)
    way.open()
    way.client.pause_writing()
    stalled = (way.paused, way.relay.stalled)
    way.client.resume_writing()

    assert stalled == (True, True)
    assert (way.paused, way.relay.stalled) == (False, False)


async def test_a_client_that_stalls_at_the_very_end_pauses_nobody(way):
    """The connection may be another client's by then."""
    way.come(ROLE + DONE)
    way.open()
    way.backend.data_received(b"0\r\n\r\n")
    way.client.pause_writing()

    assert way.reply.complete
    assert not way.paused


async def test_requests_show_what_they_are():
    """For logs: no body and no key, also none in a query."""
    request = Request(
        method=b"POST", target=b"/v1/x?key=secret",
        headers=[(b"authorization", b"secret")], body=b"words",
        keep_alive=True, http11=True,
    )  # fmt: skip

    assert repr(request) == "<Request b'POST' '/v1/x', 5 bytes>"
    assert request.path == "/v1/x"
