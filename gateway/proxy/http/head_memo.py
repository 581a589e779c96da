"""The last head of a client, or of all replies of a backend, kept to recognise the next one without
a parser. No I/O.

Clients and engines send the same head again and again, and only the number in Content-Length
differs. llhttp reads such a head once; while it repeats, byte for byte, a comparison takes the
place of the parser. There is no grammar here: what a head means is what llhttp found in it, so the
two can never disagree about where a message ends.
"""

from typing import Final

from gateway.proxy.http.headers import Headers, end_to_end_lines
from gateway.proxy.http.request import Request

BLANK_LINE: Final = b"\r\n\r\n"
LENGTH_LINE: Final = b"\r\ncontent-length:"  # in a head in lower case
DIGITS: Final = 15  # of a length that is recognised; a longer one is left to llhttp
# Longest head that is kept: each of ten thousand client connections may keep one.
KEPT_BYTES: Final = 4096
# After this many misses in a row only every RARELY-th head is kept, so that a client whose heads
# always differ (tracing headers) does not pay for a memory that it never uses.
EAGER: Final = 2
RARELY: Final = 16


NOT_KNOWN: Final = (-1, 0)
WHOLE: Final = -1


class KnownHead:
    """A head that llhttp has read, and what llhttp found in it; never changed.

    before, after: the bytes of the head around the number in Content-Length. stream: whether the
    head has no length and a chunked event stream follows; `before` is then the whole head.
    headers, fields: without Content-Length. end_to_end: the header lines to forward. method,
    target: of a request.
    """

    __slots__ = (
        "after", "before", "end_to_end", "fields", "headers", "method", "stream", "target",
    )  # fmt: skip

    def __init__(
        self,
        before: bytes,
        after: bytes,
        headers: Headers,
        dropped: frozenset[bytes],
        *,
        method: bytes = b"",
        target: bytes = b"",
        stream: bool = False,
    ) -> None:
        """dropped: names of the headers that are not forwarded."""
        self.before = before
        self.after = after
        self.headers = headers
        self.fields = dict(headers)
        self.end_to_end = end_to_end_lines(headers, dropped)
        self.method = method
        self.target = target
        self.stream = stream

    def request(self, body: bytes) -> Request:
        """Another request with this head."""
        return Request(
            method=self.method,
            target=self.target,
            headers=self.headers,
            body=body,
            keep_alive=True,
            http11=True,
            fields=self.fields,
            end_to_end=self.end_to_end,
        )

    def body_at(self, data: bytes) -> int:
        """The offset of the body in `data` if `data` is one complete message with this head, or
        begins with this head where a stream follows; else -1."""
        before, after = self.before, self.after
        at = len(before)
        if data[:at] != before:
            return -1
        if self.stream:
            return at
        end = data.find(b"\r", at, at + DIGITS)
        if end < 0:
            return -1
        start = end + len(after)
        # Only the plain form of a number is recognised; every other form is left to llhttp.
        if data[end:start] != after or data[at:end] != b"%d" % (len(data) - start):
            return -1
        return start

    def opening(self, data: bytes) -> tuple[int, int]:
        """The offset of the body in `data`, and its whole size, if `data` is a part of one message
        with this head that has all of the head; else -1 and 0."""
        before, after = self.before, self.after
        at = len(before)
        end = -1 if self.stream or data[:at] != before else data.find(b"\r", at, at + DIGITS)
        if end < 0:
            return NOT_KNOWN
        start, number = end + len(after), data[at:end]
        if data[end:start] != after or not number.isdigit() or number[:1] == b"0":
            return NOT_KNOWN
        size = int(number)
        return (start, size) if size > len(data) - start else NOT_KNOWN


class HeadMemo:
    """Keeps the last head that can be recognised: of one client, or of all replies of a backend.

    known: that head; `None` before the first.
    """

    __slots__ = ("_dropped", "_misses", "known")

    def __init__(self, dropped: frozenset[bytes]) -> None:
        """dropped: names of the headers that are not forwarded."""
        self.known: KnownHead | None = None
        self._dropped = dropped
        self._misses = 0

    def __repr__(self) -> str:
        size = 0 if self.known is None else len(self.known.before) + len(self.known.after)
        return f"<HeadMemo of {size} bytes>"  # not the head itself: it may hold a secret

    def body_at(self, data: bytes) -> int:
        """Like `KnownHead.body_at`, of the known head; -1 too if none is known."""
        known = self.known
        start = -1 if known is None else known.body_at(data)
        self._misses = 0 if start >= 0 else self._misses + 1
        return start

    def opening(self, data: bytes) -> tuple[int, int]:
        """Like `KnownHead.opening`, of the known head, after `body_at` has found nothing."""
        known = self.known
        found = NOT_KNOWN if known is None else known.opening(data)
        if found[0] >= 0:
            self._misses = 0
        return found

    @property
    def worth_keeping(self) -> bool:
        """Whether the message that was just missed is worth keeping."""
        return self._misses <= EAGER or self._misses % RARELY == 0

    def keep_message(
        self,
        data: bytes,
        headers: Headers,
        size: int = WHOLE,
        *,
        method: bytes = b"",
        target: bytes = b"",
    ) -> None:
        """Keep the head of a message if it can be recognised again.

        data: the bytes that llhttp has read as the beginning of this message, its head and perhaps
        its body. headers: what llhttp found. size: of the body; default: that of the rest of
        `data`. The message must allow another one on its connection.
        """
        end = data.find(BLANK_LINE) + len(BLANK_LINE)
        if end > KEPT_BYTES:
            return
        head = data[:end].lower()
        at = head.find(LENGTH_LINE)
        if at < 0 or head.find(LENGTH_LINE, at + 1) >= 0:
            return
        at += len(LENGTH_LINE)
        if head[at : at + 1] == b" ":
            at += 1
        number = b"%d" % (len(data) - end if size < 0 else size)
        after = at + len(number)
        if head[at : after + 2] != number + b"\r\n":
            return
        # Only one length, and llhttp read the same one.
        lengths = [value for name, value in headers if name == b"content-length"]
        if lengths != [number]:
            return
        others = [header for header in headers if header[0] != b"content-length"]
        self.known = KnownHead(
            data[:at], data[after:end], others, self._dropped, method=method, target=target
        )

    def keep_stream(self, data: bytes, headers: Headers) -> None:
        """Keep the head of a chunked event stream, with which `data` begins."""
        end = data.find(BLANK_LINE) + len(BLANK_LINE)
        if len(BLANK_LINE) <= end <= KEPT_BYTES:
            self.known = KnownHead(data[:end], b"", headers, self._dropped, stream=True)
