"""Bytes of one client connection in, whole requests out. Does no I/O and knows no transport.

HTTP/1.1 by httptools (llhttp): both body framings, pipelining, limits, offers of an upgrade.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn

import httptools

from gateway.errors import BadRequest, GatewayError, HeadTooLarge, TooLarge
from gateway.proxy.http import fastpath
from gateway.proxy.http.headers import HEAD_BYTES, Headers
from gateway.proxy.http.request import Request, origin_form

PIECES: Final = 256  # of a body that are kept as they came; what is more is tiny and joined
MODERN: Final = ("1.1", "2.0")  # a client that says 2.0 where there is only 1.1 knows chunks


class RequestParser:
    """Parses what one client sends.

    requests: whole ones, in line. reading: whether a part of one has come. framed: whether the
    last one's head is whole. expecting: whether the client waits to be told to send the body.
    """

    def __init__(self, body_bytes: int, on_expect: Callable[[], None]) -> None:
        """body_bytes: limit of a body. on_expect: called when a client begins to wait."""
        self.requests: deque[Request | GatewayError] = deque()
        self.reading = self.framed = self.expecting = False
        self._body_bytes = body_bytes
        self._on_expect = on_expect
        self._parser = httptools.HttpRequestParser(self)
        self._head: fastpath.Head | None = None  # of the last ordinary request
        self._target = b""
        self._headers: Headers = []
        self._fields: dict[bytes, bytes] = {}
        self._pieces: list[bytes | bytearray] = []
        self._bytes = 0  # of the body
        self._read = self._loose = 0  # now; and since anything came of it
        self._fault: GatewayError | None = None
        self._modern = self._offered = False

    def __repr__(self) -> str:
        return f"<RequestParser, {len(self.requests)} requests>"

    def feed(self, data: bytes) -> None:
        """Takes what was read. Raises BadRequest, or one of its kinds, where it is no request."""
        if not (self.reading or self._loose):
            found = fastpath.request(data, self._head)
            if found is not None and len(found.body) <= self._body_bytes:
                self._take(found)
                return
        self._read = len(data)
        self._loose += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            raise self._fault or BadRequest(f"this is not HTTP/1.1: {error}") from error
        if self._loose > HEAD_BYTES:
            raise HeadTooLarge("the request's head is too large")

    def stop(self) -> None:
        """Drops what has come of a request: no more of it is parsed."""
        self.reading = self.expecting = False
        self._pieces, self._headers = [], []

    def _take(self, message: fastpath.Message) -> None:
        """An ordinary request, which needs no parser."""
        head = message.head
        self._head = head if head.kept else None
        self.requests.append(
            Request(
                method=b"POST",
                target=head.target,
                headers=head.headers,
                body=message.body,
                keep=True,
                modern=True,
                fields=head.fields,
                passing=head.passing,
            )
        )

    def _parse(self, data: bytes) -> None:
        """Gives bytes to llhttp. An Upgrade is not made (RFC 9110 §7.8 leaves that to us), but
        llhttp takes what follows for another protocol: so the head is read again without it."""
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                lines = [header for header in self._headers if header[0] != b"upgrade"]
                method, version = self._parser.get_method(), self._parser.get_http_version()
                head = b"%b %b HTTP/%b\r\n" % (method, self._target, version.encode())
                head += b"".join(b"%b: %b\r\n" % line for line in lines)
                self._parser = httptools.HttpRequestParser(self)
                self._parser.feed_data(head + b"\r\n")
            else:
                return

    # What llhttp calls, from inside feed_data.

    def on_message_begin(self) -> None:
        self.reading, self.framed, self.expecting = True, False, False
        self._target, self._headers, self._fields, self._pieces = b"", [], {}, []
        self._bytes = self._loose = 0

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.framed:  # trailers are dropped: nobody asked for them (RFC 9110 §6.5.1)
            name = name.lower()
            self._headers.append((name, value))
            self._fields[name] = value

    def on_headers_complete(self) -> None:
        if self._loose + self._read > HEAD_BYTES and self._size() > HEAD_BYTES:
            self._fail(HeadTooLarge("the request's head is too large"))
        self.framed, self._loose = True, 0
        parser, found = self._parser, self._fields
        self._offered = parser.should_upgrade()
        if self._offered:
            if parser.get_method() == b"CONNECT":
                self._fail(BadRequest("this is no proxy for CONNECT"))
            return  # to be read again
        length = found.get(b"content-length")
        if length is not None and int(length) > self._body_bytes:
            self._fail(self._too_large())
        modern = self._modern = parser.get_http_version() in MODERN
        coding = found.get(b"transfer-encoding")
        if coding is not None and (coding.strip().lower() != b"chunked" or not modern):
            self._fail(BadRequest("the only Transfer-Encoding known here is HTTP/1.1's chunked"))
        expect = found.get(b"expect")
        if modern and expect is not None and expect.strip().lower() == b"100-continue":
            self.expecting = True
            self._on_expect()

    def on_body(self, piece: bytes) -> None:
        self.expecting, self._loose = False, 0
        self._bytes += len(piece)
        if self._bytes > self._body_bytes:
            self._fail(self._too_large())
        pieces = self._pieces
        if len(pieces) < PIECES:
            pieces.append(piece)
        elif len(pieces) == PIECES:
            pieces.append(bytearray(piece))
        else:
            pieces[-1] += piece

    def on_message_complete(self) -> None:
        parser, pieces = self._parser, self._pieces
        if self._offered:
            return
        self.reading = self.expecting = False
        self._loose = 0
        self.requests.append(
            Request(
                method=parser.get_method(),
                target=origin_form(self._target),
                headers=self._headers,
                fields=self._fields,
                body=bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces),
                # Asked later, the parser says no.
                keep=parser.should_keep_alive(),
                modern=self._modern,
            )
        )
        self._pieces = []

    def _fail(self, error: GatewayError) -> NoReturn:
        """Stops llhttp, which does not hand on the errors of all its callbacks."""
        self._fault = error
        raise error

    def _size(self) -> int:
        """Of the head, in bytes."""
        lines = (len(name) + len(value) + 4 for name, value in self._headers)
        return len(self._target) + sum(lines)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body exceeds the limit of {self._body_bytes} bytes.")
