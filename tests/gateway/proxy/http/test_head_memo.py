"""Heads that are recognised without a parser: a message means the same with the memo as without."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError, TooLarge
from gateway.proxy.http.backend import BackendConnection
from gateway.proxy.http.body_budget import BodyBudget
from gateway.proxy.http.head_memo import DIGITS, EAGER, KEPT_BYTES, RARELY, HeadMemo
from gateway.proxy.http.headers import NOT_SENT, not_sent, reply_head, request_lines
from gateway.proxy.http.phase import Phase
from gateway.proxy.http.pool import ConnectionPool
from gateway.proxy.http.request import ClientLimits, Request
from gateway.proxy.http.request_parser import RequestParser

POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
LINES = [
    b"host: a", b"Host:a", b"content-type: application/json", b"Authorization: Bearer k",
    b"connection: keep-alive", b"Connection: Keep-Alive", b"x-request-id: r1", b"accept: */*",
    b"x-empty:", b"x-tab: a\tb", b"x-latin: caf\xe9", b"x-trailing: a ", b"connection: x-a",
    b"cookie: a=b", b"X-Cuvee-Backend: b", b"te: trailers", b"trailer: x",
    b"keep-alive: timeout=5", b"proxy-connection: keep-alive",
]  # fmt: skip
STREAM = [b"Content-Type: Text/Event-Stream; charset=utf-8", b"Transfer-Encoding: Chunked"]
# Heads after which more is to be done than to take a body, or that no parser accepts.
ODD = [
    b"connection: close", b"transfer-encoding: chunked", b"x", b": a", b"expect: 100-continue",
    b"x-space : a", b" folded: a", b"x-nul: \0", b"x-cr: a\rb", b"x-lf: a\nb",
    b"content-length: 2", b"content-length: +2", b"content-length: 2, 2", b"content-length: ",
    b"x-\xe9: a", b"transfer-encoding: gzip, chunked", b"transfer-encoding: identity",
]  # fmt: skip


def framed(first, lines, body):
    """A message; a request names a host unless a line does."""
    if first[:4] != b"HTTP" and not any(line.lower().startswith(b"host:") for line in lines):
        lines = [b"host: a", *lines]
    head = b"".join(line + b"\r\n" for line in (*lines, b"content-length: %d" % len(body)))
    return first + head + b"\r\n" + body


WITHHELD = not_sent(["Cookie"])


def parser(limit=1 << 20):
    limits = ClientLimits(body_bytes=limit, not_sent=WITHHELD)
    return RequestParser(limits, BodyBudget(), lambda: None)


def read(requests, *pieces):
    """What a parser makes of some bytes: its requests, or the status of its error; and the phase
    after them. The length is not compared: it is the body's."""
    found: list[Any] = []
    try:
        for piece in pieces:
            requests.feed(piece)
    except GatewayError as error:
        found.append(error.status)
    while requests.requests:
        request = requests.requests.popleft()
        assert isinstance(request, Request)
        lines = request_lines(request.headers, b"r", request.end_to_end, WITHHELD)
        assert lines == request_lines(request.headers, b"r", None, WITHHELD)
        assert b"\r\ncookie:" not in b"\r\n" + lines  # in a value it may be
        assert b"x-cuvee-" not in lines
        headers = [header for header in request.headers if header[0] != b"content-length"]
        fields = {k: v for k, v in request.fields.items() if k != b"content-length"}
        assert fields == dict(headers)
        found.append(
            (request.method, request.target, headers, request.body, request.keep_alive,
             request.http11)
        )  # fmt: skip
    return found, requests.phase


class Client:
    """Two parsers of one client's bytes: what comes in two pieces is never recognised."""

    def __init__(self):
        self.requests, self._plain = parser(), parser()

    def same(self, data):
        """Both make the same of them; whether the next bytes can be a new request."""
        found = read(self.requests, data)
        assert found == read(self._plain, data[:1], data[1:])
        kept = all(not isinstance(one, int) and one[4] for one in found[0])
        return found[1] is Phase.IDLE and kept

    @property
    def known(self):
        assert self._plain._memo.known is None
        return self.requests._memo.known


def recognised(requests, data):
    """Whether a request was made without llhttp."""
    requests.feed(data)
    request = requests.requests.popleft()
    assert isinstance(request, Request)
    return request.end_to_end is not None


class Backend:
    """A pool of connections that tests feed by hand."""

    def __init__(self, wire):
        self.pool = ConnectionPool("http://x", connect_timeout_s=1)
        self._wire = wire

    def reply(self, data):
        """A reply on a new connection."""
        connection = BackendConnection(self.pool)
        connection.connection_made(self._wire())
        reply = connection.send(b"head", b"body")
        connection.data_received(data)
        return reply

    def read(self, data):
        """What is made of a reply."""
        idle = len(self.pool._idle)
        reply = self.reply(data)
        head = reply_head(reply.status, reply.headers, reply.end_to_end)
        assert head == reply_head(reply.status, reply.headers)
        headers = [header for header in reply.headers if header[0] != b"content-length"]
        return (
            reply.status, headers, reply.body, reply.stream, reply.complete,
            reply.error is not None, len(self.pool._idle) - idle,
        )  # fmt: skip

    def recognised(self, data):
        return self.reply(data).end_to_end is not None


@pytest.mark.parametrize("line", LINES)
async def test_a_head_that_repeats_needs_no_parser(wire, line):
    """From its second time on, whatever stands in it, and with a body of any length."""
    requests, backend = parser(), Backend(wire)
    seen = [
        (
            recognised(requests, framed(POST, [line], b"x" * size)),
            backend.recognised(framed(OK, [line], b"x" * size)),
        )
        for size in (1, 0, 30, 1234)
    ]

    assert seen == [(False, False)] + [(True, True)] * 3


@pytest.mark.parametrize("line", ODD)
async def test_a_head_that_asks_for_more_is_for_the_parser(wire, line):
    """Or is none: in any place, again and again, and after an ordinary one."""
    ordinary = [b"host: a"]
    for lines in ([line], [*ordinary, line], [line, *ordinary]):
        client, backend = Client(), Backend(wire)
        for _ in range(3):
            if not client.same(framed(POST, ordinary, b"{}")):
                break
            if not client.same(framed(POST, lines, b"{}")):
                break
        assert client.known is not None
        assert b"\r\n%b\r\n" % line not in client.known.before
        for _ in range(3):
            backend.reply(framed(OK, ordinary, b"{}"))
            data = framed(OK, lines, b"{}")
            assert backend.read(data) == Backend(wire).read(data)
        assert backend.pool.memo.known is not None
        means_nothing = line == b"expect: 100-continue"  # in a reply
        known = backend.pool.memo.known.before
        assert (b"\r\n%b\r\n" % line in known) == means_nothing


@pytest.mark.parametrize(
    "first",
    [
        b"GET /v1/models HTTP/1.1\r\n", b"PUT /v1 HTTP/1.1\r\n", b"POST http://a/v1 HTTP/1.1\r\n",
        b"POST /a?b=%20 HTTP/1.1\r\n", b"HEAD / HTTP/1.1\r\n",
    ],
)  # fmt: skip
def test_any_method_and_target_may_repeat(first):
    """They are a part of the head."""
    client, data = Client(), framed(first, [b"host: a"], b"{}")

    assert client.same(data)
    assert client.same(data)
    assert recognised(client.requests, data)


@pytest.mark.parametrize(
    "first",
    [
        b"POST /v1 HTTP/1.0\r\n", b"\r\nPOST / HTTP/1.1\r\n", b"POST / HTTP/1.1\n", b"POST /v1\r\n",
        b"\r\n", b"\r\n\r\nPOST / HTTP/1.1\r\n",
    ],
)  # fmt: skip
def test_other_first_lines_are_read_as_ever(first):
    """By the parser, again and again."""
    client = Client()
    client.same(framed(POST, [b"host: a"], b"{}"))
    for _ in range(3):
        if not client.same(framed(first, [b"host: a"], b"{}")):
            break


@pytest.mark.parametrize(
    "first",
    [b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 500 No\r\n",
     b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
     b"HTTP/1.1 100 Continue\r\ncontent-length: 40\r\n\r\nHTTP/1.1 200 OK\r\n"],
)  # fmt: skip
async def test_other_replies_are_for_the_parser(wire, first):
    """Failures are read with care, and there is time for it."""
    backend, data = Backend(wire), framed(first, [], b"{}")
    for _ in range(3):
        assert backend.read(data) == Backend(wire).read(data)

    assert backend.pool.memo.known is None


async def test_only_one_whole_message_is_kept(wire):
    """What comes in two pieces, or with the next one, may be cut anywhere."""
    whole = framed(POST, [b"host: a"], b"{}")
    for data in (whole * 2, whole + b"\r\n", whole + whole[:9]):
        requests = parser()
        requests.feed(data)
        assert requests._memo.known is None
    requests = parser()
    for cut in range(1, len(whole)):
        requests.feed(whole[:cut])
        requests.feed(whole[cut:])
        assert requests._memo.known is None
    backend, whole = Backend(wire), framed(OK, [], b"{}")
    for data in (whole * 2, whole + b"\r\n", whole[:-1]):
        backend.reply(data)
        assert backend.pool.memo.known is None


async def test_the_head_of_a_stream_is_recognised_too(wire):
    """On any connection of its backend; what has come of the stream is handed on."""
    backend = Backend(wire)
    head = OK + b"\r\n".join(STREAM) + b"\r\n\r\n"
    for number in range(3):
        reply = backend.reply(head + b"2\r\n\n\n\r\n" * number)
        assert (reply.stream, reply.body) == (True, b"\n\n" * number)
        assert (reply.end_to_end is not None) == (number > 0)


@pytest.mark.parametrize(
    "lines",
    [STREAM[:1], STREAM[1:], [*STREAM, STREAM[1]], [*STREAM, b"content-length: 0"],
     [STREAM[0], b"transfer-encoding: gzip, chunked"], [*STREAM, b"connection: close"],
     [STREAM[0], b"content-length: 2"]],
)  # fmt: skip
async def test_other_streams_are_for_the_parser(wire, lines):
    """Events framed by a length or by the end, chunks that are no events, and whatever says it
    twice."""
    data = OK + b"\r\n".join(lines) + b"\r\n\r\n" + b"2\r\n\n\n\r\n" * (STREAM[1] in lines)
    data += b"\n\n" * (lines[-1] == b"content-length: 2")
    backend = Backend(wire)
    for _ in range(3):
        assert backend.read(data) == Backend(wire).read(data)

    assert backend.pool.memo.known is None


@pytest.mark.parametrize("named", [b"content-length: ", b"Content-Length:"])
@pytest.mark.parametrize("size", [0, 1, 9, 10, 4321])
def test_the_head_before_may_differ_in_its_length(named, size):
    """And in nothing else."""
    head = POST + b"host: a\r\nx-length: 7\r\n" + named + b"7\r\nlast: 7\r\n\r\n"
    requests = parser()
    requests.feed(head + b"x" * 7)
    known = requests._memo.known
    assert known is not None
    changed = head.replace(named + b"7", named + b"%d" % size)

    assert known.body_at(changed + b"y" * size) == len(changed)
    for other in (
        changed.replace(b"x-length: 7", b"x-length: 8"), changed.replace(b"last: 7", b"last: 8"),
        changed.replace(named, named + b"0"), changed.replace(b"/v1/chat", b"/v2/chat"),
    ):  # fmt: skip
        assert known.body_at(other + b"y" * size) == -1
    for odd in (b"", b"+1", b" ", b"1" * DIGITS + b"1", b"1, 1", b"0x1", b"01", b"\r\nx: 1"):
        assert known.body_at(head.replace(named + b"7", named + odd) + b"x") == -1
    for cut in (0, 20, len(changed) - 1, len(changed) + size + 1):
        assert known.body_at((changed + b"y" * size + b"POST")[:cut]) == -1


async def test_a_long_head_is_not_kept(wire):
    """Ten thousand connections would each hold one."""
    long = b"x: " + b"a" * KEPT_BYTES
    for lines, kept in (([], True), ([long], False)):
        requests, backend, streams = parser(), Backend(wire), Backend(wire)
        requests.feed(framed(POST, lines, b"{}"))
        backend.reply(framed(OK, lines, b"{}"))
        streams.reply(OK + b"\r\n".join([*lines, *STREAM]) + b"\r\n\r\n")
        found = [memo.known is not None for memo in (
            requests._memo, backend.pool.memo, streams.pool.memo
        )]  # fmt: skip
        assert found == [kept] * 3


def test_the_limit_of_a_body_holds_for_a_known_head():
    """With the same error."""
    requests = parser(limit=10)
    requests.feed(framed(POST, [], b"x" * 10))
    with pytest.raises(TooLarge):
        requests.feed(framed(POST, [], b"x" * 11))


def test_heads_that_always_differ_are_seldom_kept():
    """And one that stays is recognised again soon."""
    requests, kept = parser(), []
    for number in range(100):
        requests.feed(framed(POST, [b"traceparent: %d" % number], b"{}"))
        assert requests._memo.known is not None
        kept.append(b" %d\r" % number in requests._memo.known.before)
    requests.requests.clear()
    stays = [recognised(requests, framed(POST, [], b"{}")) for _ in range(3 * RARELY)]

    assert sum(kept) < EAGER + 2 + 100 / RARELY
    assert stays.index(True) <= RARELY + 1
    assert all(stays[stays.index(True) :])


def test_a_memo_shows_no_secret():
    """For debugging: how long the head is, and nothing that stands in it."""
    memo = HeadMemo(NOT_SENT)
    head = b"GET /?key=secret HTTP/1.1\r\nauthorization: secret\r\ncontent-length: 0\r\n\r\n"
    memo.keep_message(head, [(b"authorization", b"secret"), (b"content-length", b"0")])

    assert memo.known is not None
    assert repr(memo) == f"<HeadMemo of {len(head) - 1} bytes>"


HEADS = st.lists(st.sampled_from(LINES + ODD + STREAM), max_size=4)
EDITS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 2), st.binary(max_size=3)), max_size=3
)


def edited(data, edits):
    for place, length, piece in edits:
        place %= len(data) + 1
        data = data[:place] + piece + data[place + length :]
    return data


@settings(max_examples=600, deadline=None)
@given(st.sampled_from([POST, b"\r\n" + POST]), HEADS, st.binary(max_size=8), EDITS, EDITS)
@example(POST, [b"host: a"], b"{}", [], [])
def test_a_request_means_the_same_with_the_memo_as_without(first, lines, body, once, then):
    """Whatever came before it, and whatever is changed in either, at any place."""
    client = Client()
    before = edited(framed(first, lines, body), once)
    after = edited(before, then)
    for data in (before, before, after, before, after):
        if not client.same(data):
            break


@settings(max_examples=600, deadline=None)
@given(HEADS, st.binary(max_size=8), EDITS, EDITS, st.booleans())
@example(STREAM, b"", [], [], True)
async def test_a_reply_means_the_same_with_the_memo_as_without(
    wire, lines, body, once, then, stream
):
    """Whole ones and streams."""
    backend = Backend(wire)
    data = framed(OK, lines, body)
    if stream:
        data = OK + b"\r\n".join([*lines, *STREAM]) + b"\r\n\r\n2\r\n\n\n\r\n"
    before = edited(data, once)
    after = edited(before, then)
    for data in (before, before, after, before, after):
        assert backend.read(data) == Backend(wire).read(data)
