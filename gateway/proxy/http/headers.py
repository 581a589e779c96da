"""Header lines as bytes: which ones are forwarded and which ones the gateway writes. No I/O.

Names and values come from llhttp, which rejects line breaks in them.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from gateway.errors import (
    GatewayError,
    KeyRefused,
    LimitReached,
    MethodNotAllowed,
    UnsupportedCoding,
)

Headers = list[tuple[bytes, bytes]]  # names in lower case, in the order of the wire

HEAD_BYTES: Final = 32 * 1024  # limit of first line and headers together; nginx allows as much
# RFC 9110 §7.6.1: these headers concern one connection and must not be forwarded. With the obsolete
# ones that old proxies still send.
HOP_BY_HOP: Final = frozenset(
    (
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip
# By which clients identify themselves: to the gateway, and to engines of pools that want it.
CREDENTIALS: Final = (b"authorization", b"x-api-key", b"api-key")
# Not forwarded to a backend. The gateway writes length, host and request id itself and has answered
# Expect; it could not read the usage in a compressed reply; http2-settings belongs to an upgrade
# that the gateway does not make; credentials are sent where the pool says so.
NOT_SENT: Final = HOP_BY_HOP | {
    b"accept-encoding", b"content-length", b"expect", b"host", b"http2-settings", b"x-request-id",
    *CREDENTIALS,
}  # fmt: skip
# Not forwarded to a client. The gateway writes length, date, server and request id itself, or not
# at all; and which pages may call it, nobody else can say.
NOT_RETURNED: Final = HOP_BY_HOP | {
    b"access-control-allow-credentials", b"access-control-allow-headers",
    b"access-control-allow-methods", b"access-control-allow-origin",
    b"access-control-expose-headers", b"access-control-max-age", b"content-length", b"date",
    b"server", b"x-request-id",
}  # fmt: skip
# How the names of the gateway's own headers begin. A client's say nothing to an engine, and an
# engine's would look like the receipt.
PREFIX: Final = b"x-cuvee-"
PREFIX_MARK: Final = 99  # its third byte, c; to look at one byte costs less than to take a slice
BARE_OPTIONS: Final = (b"keep-alive", b"close")  # values of Connection that name no other header
STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def first_value(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first header with this name, which is in lower case; else `None`."""
    for key, value in headers:
        if key == name:
            return value
    return None


def head_size(target: bytes, headers: Headers) -> int:
    """The bytes of a head that was read."""
    return len(target) + sum([len(name) + len(value) + 4 for name, value in headers])


def head_without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """The head of a request that offers an upgrade, as if it did not."""
    lines = [b"%b: %b\r\n" % header for header in headers if header[0] != b"upgrade"]
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version.encode(), b"".join(lines))


def not_sent(withheld: Iterable[str]) -> frozenset[bytes]:
    """Names of the headers that no backend gets. withheld: those besides `NOT_SENT`."""
    return NOT_SENT | {name.lower().encode() for name in withheld}


def request_lines(
    headers: Headers,
    request_id: bytes,
    end_to_end: bytes | None = None,
    dropped: frozenset[bytes] = NOT_SENT,
) -> bytes:
    """The header lines of a client's request for a backend, with the request's id.

    end_to_end: the lines to forward, if they are known already. dropped: names of the headers that
    are not forwarded.
    """
    lines = end_to_end_lines(headers, dropped) if end_to_end is None else end_to_end
    return b"%bx-request-id: %b\r\n" % (lines, request_id)


def credential_lines(headers: Headers) -> bytes:
    """The header lines by which a client identifies itself."""
    return b"".join(
        [b"%b: %b\r\n" % (name, value) for name, value in headers if name in CREDENTIALS]
    )


def reply_head(status: int, headers: Headers, end_to_end: bytes | None = None) -> bytes:
    """The status line and the header lines of a backend's reply for the client.

    end_to_end: the lines to forward, if they are known already.
    """
    lines = end_to_end_lines(headers, NOT_RETURNED) if end_to_end is None else end_to_end
    return status_line(status) + lines


def status_line(status: int) -> bytes:
    """The first line of a reply, with its line break."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


def error_head(error: GatewayError) -> bytes:
    """Status line and header lines of an answer whose body is the error object."""
    head = status_line(error.status) + b"content-type: application/json\r\n"
    if error.retry_after_s is not None:
        head += b"retry-after: %d\r\n" % max(1, round(error.retry_after_s))
    if isinstance(error, MethodNotAllowed):
        head += f"allow: {error.allowed}\r\n".encode()
    elif isinstance(error, UnsupportedCoding):
        head += f"accept-encoding: {error.accepted}\r\n".encode()
    elif isinstance(error, KeyRefused):
        head += f"www-authenticate: {error.scheme}\r\n".encode()
    elif isinstance(error, LimitReached) and error.hopeless:
        head += b"x-should-retry: false\r\n"  # OpenAI's SDKs would try again otherwise
    return head


def end_to_end_lines(headers: Headers, dropped: frozenset[bytes]) -> bytes:
    """The header lines to forward: all but those named in `dropped`, the gateway's own, and those
    that Connection names as concerning this connection only (RFC 9110 §7.6.1)."""
    lines: list[bytes] = []
    for name, value in headers:
        if name not in dropped:
            if len(name) < len(PREFIX) or name[2] != PREFIX_MARK or not name.startswith(PREFIX):
                lines += (name, b": ", value, b"\r\n")
        elif name == b"connection" and value.lower() not in BARE_OPTIONS:
            rest = [header for header in headers if header[0] != name]
            return end_to_end_lines(rest, dropped | _named_by_connection(headers))
    return b"".join(lines)


def _named_by_connection(headers: Headers) -> set[bytes]:
    """The names listed in Connection, which may be repeated: the values then make one list (RFC
    9110 §5.3)."""
    listed = b",".join(value for name, value in headers if name == b"connection")
    return {token.strip().lower() for token in listed.split(b",")}
