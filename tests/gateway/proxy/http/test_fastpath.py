"""Messages that are read without a parser: only such as a parser reads the same way."""

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.proxy.http import fastpath
from gateway.proxy.http.headers import HEAD_BYTES, returned, sent

POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
LINES = [
    b"host: a", b"Host:a", b"content-type: application/json", b"Authorization: Bearer k",
    b"connection: keep-alive", b"Connection: Keep-Alive", b"x-request-id: r1", b"accept: */*",
    b"x-empty:", b"x-tab: a\tb", b"x-latin: caf\xe9",
]  # fmt: skip
STREAM = [b"Content-Type: Text/Event-Stream; charset=utf-8", b"Transfer-Encoding: Chunked"]
ODD = [
    b"connection: close", b"connection: x-a", b"transfer-encoding: chunked", b"x", b": a",
    b"expect: 100-continue", b"upgrade: h2c", b"te: trailers", b"x-space : a", b" folded: a",
    b"x-trailing: a ",
    b"x-nul: \0", b"x-cr: a\rb", b"x-lf: a\nb", b"x-del: \x7f", b"content-length: 2",
    b"content-length: +2", b"content-length: 2, 2", b"content-length: ", b"x-\xe9: a",
    b"proxy-connection: keep-alive", b"keep-alive: timeout=5", b"trailer: x",
]  # fmt: skip


class Parsed:
    """What llhttp makes of some bytes."""

    def __init__(self, kind, data):
        self.headers, self.body, self.target, self.whole = [], b"", b"", 0
        self.parser = kind(self)
        self.parser.feed_data(data)

    def on_url(self, target):
        self.target += target

    def on_header(self, name, value):
        self.headers.append((name.lower(), value))

    def on_body(self, piece):
        self.body += piece

    def on_message_complete(self):
        self.whole += 1
        self.keep = self.parser.should_keep_alive()
        self.version = self.parser.get_http_version()


def framed(first, lines, body):
    head = b"".join(line + b"\r\n" for line in (*lines, b"content-length: %d" % len(body)))
    return first + head + b"\r\n" + body


def agrees(head, body, parsed):
    """The length is not among the headers: it is the body's."""
    assert (parsed.whole, parsed.keep, parsed.version) == (1, True, "1.1")
    assert body == parsed.body
    assert head.headers == [line for line in parsed.headers if line[0] != b"content-length"]
    assert head.fields == dict(head.headers)


def requested(data):
    """The request, checked against the parser; `None` where it is left to the parser. The same
    again on the same connection."""
    found = fastpath.request(data, None)
    if found is not None:
        parsed = Parsed(httptools.HttpRequestParser, data)
        agrees(found.head, found.body, parsed)
        assert (b"POST", found.head.target) == (parsed.parser.get_method(), parsed.target)
        assert sent(found.head.headers, b"r", found.head.passing) == sent(found.head.headers, b"r")
        again = fastpath.request(data, found.head)
        assert again is not None
        assert (again.head, again.body) == (found.head, found.body)
    return found


def replied(data):
    """The same of a reply."""
    found = fastpath.reply(data, None)
    if found is not None:
        head, body = found.head, found.body
        end = b"0\r\n\r\n" if head.chunked else body  # of a stream the rest is to come
        parsed = Parsed(httptools.HttpResponseParser, data[: len(data) - len(body)] + end)
        agrees(head, b"" if head.chunked else body, parsed)
        assert parsed.parser.get_status_code() == 200
        assert returned(200, head.headers, head.passing) == returned(200, head.headers)
        again = fastpath.reply(data, head)
        assert again is not None
        assert (again.head, again.body) == (head, body)
    return found


@pytest.mark.parametrize("twice", [False, True])
def test_what_everybody_writes_needs_no_parser(twice):
    """With every ordinary line, whether it was seen before or not."""
    body = b'{"model": "m"}'
    for _ in range(1 + twice):
        assert requested(framed(POST, LINES, body)).body == body
        assert replied(framed(OK, LINES, body)).body == body


@pytest.mark.parametrize("line", ODD)
def test_whatever_is_odd_is_for_the_parser(line):
    """In any place, and again after it was seen once."""
    for lines in ([line], [b"host: a", line], [line, b"host: a"]):
        assert requested(framed(POST, lines, b"{}")) is None
        assert replied(framed(OK, lines, b"{}")) is None


@pytest.mark.parametrize(
    "first",
    [
        b"GET /v1/models HTTP/1.1\r\n", b"POST /v1 HTTP/1.0\r\n", b"POST  /v1 HTTP/1.1\r\n",
        b"POST /v1  HTTP/1.1\r\n", b"POST http://a/v1 HTTP/1.1\r\n", b"POST /a b HTTP/1.1\r\n",
        b"POST /v1 HTTP/1.1 \r\n", b"POST /\xe9 HTTP/1.1\r\n", b"\r\nPOST / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\n", b"POST /v1\r\n", b"\r\n",
    ],
)  # fmt: skip
def test_other_first_lines_are_for_the_parser(first):
    """Other methods, versions and targets too."""
    assert requested(framed(first, [b"host: a"], b"{}")) is None


@pytest.mark.parametrize(
    "first",
    [b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 2000\r\n",
     b"HTTP/1.1 500 No\r\n", b"HTTP/1.1 200\n", b"HTTP/1.1 100 Continue\r\n"],
)  # fmt: skip
def test_other_replies_are_for_the_parser(first):
    """Failures are read with care, and there is time for it."""
    assert replied(framed(first, [], b"{}")) is None


@pytest.mark.parametrize("data", [b"", POST, framed(POST, [], b"{}")[:-1], POST + b"\r\n"])
def test_what_is_not_whole_is_for_the_parser(data):
    """Nor is more than one message: what follows is not looked at here."""
    assert requested(data) is None
    assert requested(framed(POST, [], b"{}") * 2) is None
    assert replied(framed(OK, [], b"{}") * 2) is None


def test_the_head_of_a_stream_needs_no_parser():
    """What has come of the stream is handed on, however often it was seen before."""
    for _ in range(3):
        found = replied(OK + b"\r\n".join(STREAM) + b"\r\n\r\n2\r\n")
        assert (found.head.chunked, found.body) == (True, b"2\r\n")


@pytest.mark.parametrize(
    "lines",
    [STREAM[:1], STREAM[1:], [*STREAM, STREAM[0]], [*STREAM, STREAM[1]],
     [*STREAM, b"content-length: 0"], [*STREAM, b"content-type: text/plain"],
     [STREAM[0], b"transfer-encoding: gzip, chunked"]],
)  # fmt: skip
def test_other_streams_are_for_the_parser(lines):
    """Events framed by a length, chunks that are no events, and whatever says it twice."""
    for _ in range(3):
        assert replied(OK + b"\r\n".join(lines) + b"\r\n\r\n") is None
    assert replied(framed(OK, STREAM[:1], b"{}")) is None


@pytest.mark.parametrize("named", [b"content-length: ", b"Content-Length:"])
@pytest.mark.parametrize("size", [0, 1, 9, 10, 4321])
def test_the_head_before_may_differ_in_its_length(named, size):
    """And in nothing else."""
    head = POST + b"x-length: 7\r\n" + named + b"7\r\nlast: 7\r\n\r\n"
    first = fastpath.request(head + b"x" * 7, None)
    assert first is not None
    last = first.head
    changed = head.replace(named + b"7", named + b"%d" % size)

    found = fastpath.request(changed + b"y" * size, last)
    assert found is not None
    assert (found.head, found.body) == (last, b"y" * size)
    for other in (
        changed.replace(b"x-length: 7", b"x-length: 8"), changed.replace(b"last: 7", b"last: 8"),
        changed.replace(named, named + b"0"), changed.replace(b"/v1/chat", b"/v2/chat"),
    ):  # fmt: skip
        found = fastpath.request(other + b"y" * size, last)
        assert found is not None
        assert found.head is not last
        assert found.body == b"y" * size
    for odd in (b"", b"+1", b" ", b"1" * fastpath.DIGITS + b"1", b"1, 1", b"0x1", b"\r\nx: 1"):
        assert fastpath.request(head.replace(named + b"7", named + odd) + b"x", last) is None
    for cut in (0, 20, len(changed) - 1, len(changed) + size + 1):
        assert fastpath.request((changed + b"y" * size + b"POST")[:cut], last) is None


def test_a_long_head_is_not_kept():
    """Ten thousand connections would each hold one."""
    for size, kept in ((0, True), (fastpath.KEPT_BYTES, False)):
        assert requested(framed(POST, [b"x: " + b"a" * size], b"")).head.kept is kept


def test_limits_are_for_the_parser():
    """It refuses what is beyond them."""
    assert requested(framed(POST, [b"x: " + b"a" * HEAD_BYTES], b"")) is None


def test_only_so_many_lines_are_remembered():
    """Neither without end, nor long ones."""
    reader = fastpath.Reader(replies=False)
    for number in range(fastpath.REMEMBERED + 9):
        reader.line(b"x-request-id: %d" % number)
        reader.line(b"x-long: %d" % number + b"a" * fastpath.LINE_BYTES)

    assert repr(reader) == "<Reader, 9 lines known>"


MESSAGES = st.builds(
    framed,
    st.sampled_from([POST, OK]),
    st.lists(st.sampled_from(LINES + ODD + STREAM), max_size=4),
    st.binary(max_size=8),
)


@settings(max_examples=400)
@given(MESSAGES, st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=2)), max_size=3))
@example(framed(POST, [b"host: a"], b"{}"), [])
def test_what_is_accepted_a_parser_reads_the_same_way(data, edits):
    """Whatever is changed in a message, at any place."""
    for place, piece in edits:
        data = data[: place % len(data)] + piece + data[place % len(data) + 1 :]
    requested(data)
    replied(data)
