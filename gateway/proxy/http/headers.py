"""The heads of requests and replies as bytes: what passes on, what is said anew. No I/O.

Owns which headers are end-to-end and how a head is written. Names and values come from a parser
that lets no line break through.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

Headers = list[tuple[bytes, bytes]]  # names in lower case, in the order of the wire

HEAD_BYTES: Final = 32 * 1024  # of first line and headers together; nginx allows as much
# RFC 9110 §7.6.1, with the obsolete ones that old proxies still send.
HOP_BY_HOP: Final = frozenset(
    (
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip
# Length, host and id are said anew; Expect was answered; a compressed reply could not be read for
# its tokens; http2-settings belongs to an upgrade that is not made.
NOT_SENT: Final = HOP_BY_HOP | {
    b"accept-encoding", b"content-length", b"expect", b"host", b"http2-settings", b"x-request-id",
}  # fmt: skip
NOT_RETURNED: Final = HOP_BY_HOP | {b"content-length", b"date", b"server", b"x-request-id"}
PLAIN: Final = (b"keep-alive", b"close")  # what Connection says when it names no further headers
STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def field(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a header; name in lower case."""
    for key, value in headers:
        if key == name:
            return value
    return None


def sent(headers: Headers, request_id: bytes, passing: bytes | None = None) -> bytes:
    """The header lines of a client's request that go to a backend, with the request's id.

    passing: those of the client, where they are made already.
    """
    lines = _lines(headers, NOT_SENT) if passing is None else passing
    return b"%bx-request-id: %b\r\n" % (lines, request_id)


def returned(status: int, headers: Headers, passing: bytes | None = None) -> bytes:
    """The status line and the header lines of a backend's reply that go to the client.

    passing: the header lines, where they are made already.
    """
    return status_line(status) + (_lines(headers, NOT_RETURNED) if passing is None else passing)


def status_line(status: int) -> bytes:
    """The first line of a reply, its end included."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


def written(headers: Iterable[tuple[str, str]]) -> bytes:
    """Header lines of our own."""
    return b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in headers)


def _lines(headers: Headers, dropped: frozenset[bytes]) -> bytes:
    lines: list[bytes] = []
    for name, value in headers:
        if name not in dropped:
            lines += (name, b": ", value, b"\r\n")
        elif name == b"connection" and value.lower() not in PLAIN:
            rest = [header for header in headers if header[0] != name]
            return _lines(rest, dropped | _named(headers))
    return b"".join(lines)


def _named(headers: Headers) -> set[bytes]:
    """The headers that Connection says end here; it may be repeated, which makes it one list."""
    listed = b",".join(value for name, value in headers if name == b"connection")
    return {token.strip().lower() for token in listed.split(b",")}
