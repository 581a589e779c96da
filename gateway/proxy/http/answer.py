"""The bytes of an answer: its framing and its Connection header; and how a message is written."""

import asyncio
from typing import Final
from uuid import uuid4

from gateway.errors import GatewayError
from gateway.proxy.http.headers import error_head
from gateway.proxy.http.request import ClientLimits, Request

NO_CONTENT: Final = b"HTTP/1.1 204 "
COPIED_BYTES: Final = 65536  # a shorter body is copied behind its head: one system call, not two


def send(transport: asyncio.Transport, head: bytes, body: bytes) -> None:
    """Write a whole message."""
    if len(body) < COPIED_BYTES:
        transport.write(head + body)
    else:
        transport.writelines((head, body))


def send_whole(
    transport: asyncio.Transport, head: bytes, body: bytes, request: Request, *, keep: bool
) -> None:
    """Write a complete answer. head, keep: as of `whole_head`."""
    whole = whole_head(head, len(body), request, keep=keep)
    if request.method == b"HEAD" or head.startswith(NO_CONTENT):
        transport.write(whole)
    else:
        send(transport, whole, body)


def for_page(head: bytes, request: Request, limits: ClientLimits) -> bytes:
    """The head of an answer with what a browser wants to read in it, where that is configured."""
    pages = limits.cross_origin
    return head if pages is None else head + pages.lines(request.method, request.fields)


def whole_head(head: bytes, size: int, request: Request, *, keep: bool) -> bytes:
    """The head of a complete answer. head: status line and headers, without length and connection.
    size: of the body, in bytes. keep: whether the connection is kept."""
    connection = connection_line(request, keep=keep)
    if head.startswith(NO_CONTENT):
        return b"%b%b\r\n" % (head, connection)  # RFC 9110 §8.6 forbids a length here
    return b"%bcontent-length: %d\r\n%b\r\n" % (head, size, connection)


def stream_start(head: bytes, first: bytes, request: Request, *, keep: bool) -> bytes:
    """The head of a streamed answer, and its first piece, which may be empty."""
    lines = connection_line(request, keep=keep)
    if request.http11:
        lines += b"transfer-encoding: chunked\r\n"
        # An empty chunk would end the answer.
        first = b"%x\r\n%b\r\n" % (len(first), first) if first else b""
    return b"%b%b\r\n%b" % (head, lines, first)


def last_answer(error: GatewayError) -> bytes:
    """An error as the answer to what is no request; the connection ends after it."""
    body, request_id = error.body(), uuid4().hex.encode()
    head = error_head(error) + b"x-request-id: %b\r\n" % request_id
    return b"%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (head, len(body), body)


def connection_line(request: Request, *, keep: bool) -> bytes:
    """The Connection header of an answer. HTTP/1.1 keeps a connection unless told otherwise,
    HTTP/1.0 closes it (RFC 9112 §9.3)."""
    if not keep:
        return b"connection: close\r\n"
    return b"" if request.http11 else b"connection: keep-alive\r\n"
