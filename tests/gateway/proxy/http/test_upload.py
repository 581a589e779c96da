"""The rest of a body on its way: in order, bounded in memory, and at the pace of who takes it."""

from gateway.errors import GatewayError, Overloaded, RequestTimeout
from gateway.proxy.http.backend import BackendConnection
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.fiber import Fiber
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.pool import ConnectionPool
from gateway.proxy.http.request import ClientLimits, Request
from gateway.proxy.http.request_parser import EARLY_BYTES
from gateway.proxy.http.upload import HELD_BYTES, Upload

LIMITS = ClientLimits(body_bytes=1 << 30, streamed=frozenset([b"/a"]))
SIZE = 1 << 22
HEAD = b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % SIZE


class Source:
    """A client that notes whether it is read."""

    reading = True

    def set_reading(self, wanted):
        self.reading = wanted


def upload(rest_bytes=SIZE, limit=1 << 40):
    made = Upload(rest_bytes, BodyBudget(limit))
    source = Source()
    made.begin(source)
    return made, source


def test_what_nobody_takes_is_held_up_to_a_bound():
    """Then the client is not read, until somebody takes it; and all comes in order."""
    rest, source = upload()
    pieces = [bytes([number]) * 50_000 for number in range(9)]
    taken: list[bytes] = []
    for piece in pieces[:6]:
        assert source.reading
        assert rest.take(piece) == b""
    assert not source.reading
    assert rest._budget.used > HELD_BYTES
    assert not rest.moved
    rest.pass_to(taken.append)
    assert source.reading
    for piece in pieces[6:]:
        rest.take(piece)

    assert taken == pieces
    assert (rest.moved, rest._budget.used, rest.left) == (True, 0, SIZE - 9 * 50_000)


def test_what_follows_the_body_is_given_back():
    rest, _ = upload(5)

    assert rest.take(b"12") == b""
    assert rest.take(b"345GET") == b"GET"
    assert rest.left == 0


def test_the_end_of_the_request_gives_its_memory_back():
    """And lets the client go on."""
    rest, source = upload()
    rest.take(bytes(HELD_BYTES + 1))
    rest.stop()
    assert not source.reading
    rest.end()
    rest.take(b"more")

    assert rest._budget.used == 4
    rest.end()
    assert rest._budget.used == 0


def test_all_of_it_can_be_awaited():
    """As long as there is memory for it."""
    rest, source = upload(2 * HELD_BYTES)
    found = []

    async def collect():
        found.append(await rest.whole())

    rest.take(bytes(HELD_BYTES - 1))
    fiber = Fiber()
    fiber.start(collect())
    rest.take(bytes(HELD_BYTES))
    assert (found, source.reading) == ([], True)
    rest.take(b"1")
    assert found == [bytes(2 * HELD_BYTES - 1) + b"1"]

    errors: list[Exception] = []
    rest, _ = upload(limit=10)
    rest.on_error = errors.append
    Fiber().start(rest.whole())
    rest.take(bytes(11))
    assert [type(error) for error in errors] == [Overloaded]


def test_a_backend_is_excused_until_it_had_time_with_all_of_it():
    """Not if it does not read."""
    rest, _ = upload(2)
    rest.pass_to(lambda _: None)
    assert rest.excuses
    rest.set_reading(False)
    assert not rest.excuses
    rest.set_reading(True)
    rest.take(b"12")
    assert rest.excuses
    assert not rest.excuses


class Served:
    """A client whose request is under way."""

    def __init__(self, wire):
        self.requests: list[Request] = []
        self.listener = Listener(LIMITS, lambda _, request: self.requests.append(request))
        self.client = ClientConnection(self.listener)
        self.wire = wire()
        self.client.connection_made(self.wire)
        self.client.data_received(HEAD)
        self.client.data_received(bytes(EARLY_BYTES))
        self.request = self.requests[0]
        self.upload = self.request.upload


async def test_a_backend_that_does_not_read_stops_the_client(wire):
    """Which goes on when the backend does; meanwhile it has no deadline."""
    served = Served(wire)
    client = served.client
    connection = BackendConnection(ConnectionPool("http://a", connect_timeout_s=1.0))
    backend = wire()
    connection.connection_made(backend)
    connection.send(b"head", served.request.body, served.upload)
    first_s = client.deadline_s
    assert first_s < client._loop.time() + LIMITS.body_s + 1.0
    client.data_received(b"more")
    assert backend.written == b"head" + bytes(EARLY_BYTES) + b"more"
    connection.pause_writing()
    assert served.wire.paused
    assert client.deadline_s > first_s + 1e6
    connection.resume_writing()
    assert not served.wire.paused
    assert client.deadline_s < first_s + 1e6
    connection.abort()
    client.abort()


async def test_a_client_that_sends_no_more_is_told(wire):
    """The handler ends, its answer is the last one, and what still comes is dropped."""
    served = Served(wire)
    client = served.client
    errors: list[GatewayError] = []
    assert served.upload is not None
    served.upload.on_error = errors.append
    client.expire()
    assert [type(error) for error in errors] == [RequestTimeout]
    client.respond_error(errors[0])
    client.finish()
    assert served.wire.written.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in served.wire.written
    assert served.wire.ended
    client.data_received(bytes(1 << 20))
    assert (len(served.requests), served.wire.closed) == (1, False)
    assert served.listener.budget.used == 0
    client.abort()


async def test_a_reply_before_the_end_leaves_no_connection_to_use_again(wire):
    """What the backend still gets would be its next request."""
    served = Served(wire)
    pool = ConnectionPool("http://a", connect_timeout_s=1.0)
    connection = BackendConnection(pool)
    backend = wire()
    connection.connection_made(backend)
    reply = connection.send(b"head", served.request.body, served.upload)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")

    assert reply.complete
    assert backend.closed
    assert not pool._idle
    served.client.abort()
