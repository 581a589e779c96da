"""What of a head passes on."""

import pytest

from gateway.proxy.http.headers import field, returned, sent, status_line, written

CLIENTS = [
    (b"host", b"gateway"),
    (b"authorization", b"Bearer k"),
    (b"content-type", b"application/json"),
    (b"content-length", b"5"),
    (b"connection", b"keep-alive, X-Hop"),
    (b"x-hop", b"1"),
    (b"keep-alive", b"timeout=5"),
    (b"transfer-encoding", b"chunked"),
    (b"te", b"trailers"),
    (b"trailer", b"x-sum"),
    (b"upgrade", b"h2c"),
    (b"http2-settings", b"AAM"),
    (b"expect", b"100-continue"),
    (b"accept-encoding", b"gzip"),
    (b"proxy-authorization", b"secret"),
    (b"proxy-connection", b"keep-alive"),
    (b"traceparent", b"00-1"),
]


def test_request_headers_are_end_to_end():
    """Hop-by-hop headers, the ones that Connection names, and what is said anew stay behind."""
    assert sent(CLIENTS, b"r1") == (
        b"authorization: Bearer k\r\ncontent-type: application/json\r\ntraceparent: 00-1\r\n"
        b"x-request-id: r1\r\n"
    )


def test_the_request_id_is_ours():
    """One id, whatever the client sent, and even if it says that its own ends here."""
    theirs = [(b"x-request-id", b"theirs"), (b"connection", b"x-request-id")]

    assert sent(theirs, b"r1") == b"x-request-id: r1\r\n"


def test_an_encoding_of_the_body_is_announced():
    """The body passes on as it came, so what it is passes on too."""
    assert b"content-encoding: zstd\r\n" in sent([(b"content-encoding", b"zstd")], b"r")


def test_repeated_headers_stay_repeated():
    """No value is lost, and none is joined: cookies cannot be."""
    pairs = [(b"set-cookie", b"a=1"), (b"x", b"1"), (b"set-cookie", b"b=2")]

    assert returned(200, pairs) == (
        b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nx: 1\r\nset-cookie: b=2\r\n"
    )


@pytest.mark.parametrize(
    "connection",
    [
        [b"X-A, x-b"],
        [b"x-a", b"x-b"],
        [b"keep-alive", b"X-A ,\tx-B"],
        [b"close", b"x-a", b"keep-alive, x-b"],
        [b",x-a,,x-b,"],
    ],
    ids=str,
)
def test_connection_names_further_headers(connection):
    """In any case and spacing, and spread over any number of Connection headers."""
    headers = [(b"connection", value) for value in connection]
    headers = [(b"x-a", b"1"), *headers, (b"x-b", b"2"), (b"x-c", b"3")]

    assert sent(headers, b"r") == b"x-c: 3\r\nx-request-id: r\r\n"


@pytest.mark.parametrize("connection", [b"close", b"Keep-Alive", b"CLOSE"])
def test_a_plain_connection_header_takes_nothing_with_it(connection):
    """`close` and `keep-alive` are about the connection only."""
    headers = [(b"connection", connection), (b"x-a", b"1")]

    assert returned(200, headers) == b"HTTP/1.1 200 OK\r\nx-a: 1\r\n"


def test_reply_headers_are_end_to_end():
    """Framing, hop-by-hop headers and the engine's own name and id stay behind."""
    headers = [
        (b"content-length", b"2"),
        (b"content-type", b"application/json"),
        (b"connection", b"keep-alive, X-Hop"),
        (b"x-hop", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"server", b"uvicorn"),
        (b"date", b"now"),
        (b"x-request-id", b"engine"),
        (b"retry-after", b"1"),
    ]

    assert returned(307, headers) == (
        b"HTTP/1.1 307 Temporary Redirect\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    )


def test_any_status_has_a_line():
    """Engines and the proxies before them make up their own."""
    assert status_line(429) == b"HTTP/1.1 429 Too Many Requests\r\n"
    assert status_line(499) == b"HTTP/1.1 499 Unknown\r\n"


def test_field_is_the_first_of_its_name():
    """Or None."""
    headers = [(b"a", b"1"), (b"a", b"2")]

    assert (field(headers, b"a"), field(headers, b"b")) == (b"1", None)


def test_our_own_lines():
    """Text becomes header lines."""
    assert written({"allow": "POST", "x": "é"}.items()) == b"allow: POST\r\nx: \xe9\r\n"
