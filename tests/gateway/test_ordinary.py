"""Messages that are read without a parser: only such as a parser reads the same way."""

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.proxy import ordinary
from gateway.proxy.heads import returned, sent

POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
LINES = [
    b"host: a", b"Host:a", b"content-type: application/json", b"Authorization: Bearer k",
    b"connection: keep-alive", b"Connection: Keep-Alive", b"x-request-id: r1", b"accept: */*",
    b"x-empty:", b"x-tab: a\tb", b"x-latin: caf\xe9",
]  # fmt: skip
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


def agrees(data, found, parsed):
    assert (parsed.whole, parsed.keep, parsed.version) == (1, True, "1.1")
    assert (found.headers, found.body) == (parsed.headers, parsed.body)
    assert found.fields == dict(parsed.headers)


def requested(data):
    """The request, checked against the parser; `None` where it is left to the parser."""
    found = ordinary.request(data, 1 << 20)
    if found is not None:
        parsed = Parsed(httptools.HttpRequestParser, data)
        agrees(data, found, parsed)
        assert (found.method, found.target) == (parsed.parser.get_method(), parsed.target)
        assert sent(found.headers, b"r", found.passing) == sent(found.headers, b"r")
        assert (found.keep, found.modern) == (True, True)
    return found


def replied(data):
    """The same of a reply."""
    found = ordinary.reply(data)
    if found is not None:
        parsed = Parsed(httptools.HttpResponseParser, data)
        agrees(data, found, parsed)
        assert parsed.parser.get_status_code() == 200
        assert returned(200, found.headers, found.passing) == returned(200, found.headers)
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


def test_a_stream_is_for_the_parser():
    """Whatever its framing."""
    assert replied(framed(OK, [b"Content-Type: Text/Event-Stream; charset=utf-8"], b"{}")) is None


def test_limits_are_for_the_parser():
    """It refuses what is beyond them."""
    assert ordinary.request(framed(POST, [], b"x" * 9), 8) is None
    assert ordinary.request(framed(POST, [b"x: " + b"a" * ordinary.HEAD_BYTES], b""), 8) is None


def test_only_so_many_lines_are_remembered():
    """Neither without end, nor long ones."""
    lines = ordinary.Lines(frozenset())
    for number in range(ordinary.REMEMBERED + 9):
        lines.read(b"x-request-id: %d" % number)
        lines.read(b"x-long: %d" % number + b"a" * ordinary.LINE_BYTES)

    assert repr(lines) == "<Lines 9 known>"


MESSAGES = st.builds(
    framed,
    st.sampled_from([POST, OK]),
    st.lists(st.sampled_from(LINES + ODD), max_size=4),
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


@pytest.mark.parametrize("size", [1, 9, 10, 15, 16, 255, 4096, 70000])
@pytest.mark.parametrize("form", [b"%x", b"%X", b"00%x"])
def test_one_whole_chunk_is_its_content(size, form):
    """Whatever its size, seen before or not."""
    piece = b"\r" * size
    for _ in range(2):
        assert ordinary.chunk(form % size + b"\r\n" + piece + b"\r\n") == piece


@pytest.mark.parametrize(
    "data",
    [
        b"", b"2\r\n", b"2\r\nab", b"2\r\nab\r", b"2\r\nab\n\r", b"2\r\nab\r\n1", b"2\r\nabc\r\n",
        b"0\r\n\r\n", b"2;a=b\r\nab\r\n", b" 2\r\nab\r\n", b"+2\r\nab\r\n", b"0x2\r\nab\r\n",
        b"-2\r\nab\r\n", b"1_0\r\n" + b"a" * 16 + b"\r\n", b"\r\nab\r\n", b"2\nab\r\n",
        b"g\r\n\r\n",
        b"2\r\nab\r\n" * 2, b"00000000000002\r\nab\r\n",
    ],
)  # fmt: skip
def test_anything_but_one_whole_chunk_is_for_the_parser(data):
    """The last of all too: only the parser knows what ends with it."""
    assert ordinary.chunk(data) is None
