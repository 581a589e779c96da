"""What of a head passes on."""

import pytest

from gateway.errors import BadRequest, MethodNotAllowed, Saturated, Unavailable
from gateway.proxy.http.headers import (
    error_head,
    first_value,
    not_sent,
    reply_head,
    request_lines,
    status_line,
)

JSON = b"content-type: application/json\r\n"
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
    assert request_lines(CLIENTS, b"r1") == (
        b"content-type: application/json\r\ntraceparent: 00-1\r\nx-request-id: r1\r\n"
    )


def test_the_request_id_is_ours():
    """One id, whatever the client sent, and even if it says that its own ends here."""
    theirs = [(b"x-request-id", b"theirs"), (b"connection", b"x-request-id")]

    assert request_lines(theirs, b"r1") == b"x-request-id: r1\r\n"


def test_what_is_withheld_stays_behind():
    """Names in any case; those that are always dropped still are."""
    dropped = not_sent(("Cookie", "x-rank"))
    headers = [(b"cookie", b"a=b"), (b"x-rank", b"1"), (b"te", b"trailers"), (b"x", b"1")]

    assert request_lines(headers, b"r", None, dropped) == b"x: 1\r\nx-request-id: r\r\n"
    assert b"cookie: a=b" in request_lines(headers, b"r")


def test_the_gateways_own_names_pass_neither_way():
    """An engine cannot write a receipt, and a client cannot write to an engine in our name."""
    headers = [(b"x-cuvee-backend", b"spoof"), (b"x-cuvee", b"1"), (b"x-cuvee-slo-class", b"a")]

    assert request_lines(headers, b"r") == b"x-cuvee: 1\r\nx-request-id: r\r\n"
    assert reply_head(200, headers) == b"HTTP/1.1 200 OK\r\nx-cuvee: 1\r\n"


def test_an_encoding_of_the_body_is_announced():
    """The body passes on as it came, so what it is passes on too."""
    assert b"content-encoding: zstd\r\n" in request_lines([(b"content-encoding", b"zstd")], b"r")


def test_repeated_headers_stay_repeated():
    """No value is lost, and none is joined: cookies cannot be."""
    pairs = [(b"set-cookie", b"a=1"), (b"x", b"1"), (b"set-cookie", b"b=2")]

    assert reply_head(200, pairs) == (
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

    assert request_lines(headers, b"r") == b"x-c: 3\r\nx-request-id: r\r\n"


@pytest.mark.parametrize("connection", [b"close", b"Keep-Alive", b"CLOSE"])
def test_a_plain_connection_header_takes_nothing_with_it(connection):
    """`close` and `keep-alive` are about the connection only."""
    headers = [(b"connection", connection), (b"x-a", b"1")]

    assert reply_head(200, headers) == b"HTTP/1.1 200 OK\r\nx-a: 1\r\n"


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

    assert reply_head(307, headers) == (
        b"HTTP/1.1 307 Temporary Redirect\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    )


def test_any_status_has_a_line():
    """Engines and the proxies before them make up their own."""
    assert status_line(429) == b"HTTP/1.1 429 Too Many Requests\r\n"
    assert status_line(499) == b"HTTP/1.1 499 Unknown\r\n"


def test_first_value_is_the_first_of_its_name():
    """Or None."""
    headers = [(b"a", b"1"), (b"a", b"2")]

    assert (first_value(headers, b"a"), first_value(headers, b"b")) == (b"1", None)


def test_an_error_says_when_to_come_again():
    """In whole seconds, at least one; where it says nothing there is no header."""
    assert error_head(BadRequest("no")) == b"HTTP/1.1 400 Bad Request\r\n" + JSON
    assert error_head(Saturated("full", retry_after_s=0.2)).endswith(JSON + b"retry-after: 1\r\n")
    assert error_head(Unavailable("none", retry_after_s=2.4)).startswith(b"HTTP/1.1 503 ")


def test_an_error_names_the_method_that_is_allowed():
    """RFC 9110 §15.5.6 asks for it."""
    assert error_head(MethodNotAllowed("/v1/models", "GET")).endswith(JSON + b"allow: GET\r\n")
