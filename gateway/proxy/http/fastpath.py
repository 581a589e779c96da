"""Messages as nearly everybody writes them, read without a parser; all others are for llhttp.

HTTP/1.1 with nothing about the connection but that it is kept: a whole message in one piece, framed
by one Content-Length, or the head of a stream of events in chunks, and whole chunks. Strict: what
is accepted here, llhttp reads the same way (`test_fastpath.py`). Clients and engines say the same
again and again: a head is compared with the one before it on its connection, which differs in its
Content-Length at most, and a line is looked at once and remembered.
"""

from typing import Final, TypeVar

from gateway.proxy.http.headers import HEAD_BYTES, HOP_BY_HOP, NOT_RETURNED, NOT_SENT, Headers

END: Final = b"\r\n\r\n"
DIGITS: Final = 15  # of a length; longer ones are odd
REMEMBERED: Final = 4096  # lines of one kind, then all are forgotten; the bytes of one:
LINE_BYTES: Final = 1024
KEPT_BYTES: Final = 4096  # of the head that a connection remembers
ODD: Final = (HOP_BY_HOP | {b"expect", b"http2-settings"}) - {b"connection"}
# What a line may hold.
VISIBLE: Final = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)) + b"\t"
TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
TARGET: Final = b"/-._~?=&%0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
DECIMAL: Final = b"0123456789"
POST: Final = b"POST /"
VERSION: Final = b" HTTP/1.1"
OK: Final = b"HTTP/1.1 200 "

T = TypeVar("T")


def _kept(memory: dict[bytes, T], line: bytes, read: T) -> T:
    """Remembers what a line was read as."""
    if len(line) <= LINE_BYTES:
        if len(memory) >= REMEMBERED:
            memory.clear()
        memory[line] = read
    return read


class Line:
    """One header line. passing: as it goes on, empty if it ends here. length: that it tells, or
    less than 0. chunked, events: whether it says so of the body. typed: whether of its type."""

    __slots__ = ("chunked", "events", "header", "length", "passing", "typed")

    def __init__(
        self, name: bytes, value: bytes, *, length: int, chunked: bool, ends: bool
    ) -> None:
        self.header = (name, value)
        self.length = length
        self.chunked = chunked
        self.typed = name == b"content-type"
        self.events = self.typed and value.lower().startswith(b"text/event-stream")
        self.passing = b"" if ends else b"%b: %b\r\n" % (name, value)


class Head:
    """What a head says but for its length. Shared by all messages that have it: not to be changed.

    before, after: its bytes but for the number of its length. kept: whether a connection may keep
    it, a short one. target: of a request. passing: the header lines that go on. chunked: a stream
    of events follows.
    """

    __slots__ = ("after", "before", "chunked", "fields", "headers", "kept", "passing", "target")

    def __init__(
        self, before: bytes, after: bytes, target: bytes, lines: list[Line], *, chunked: bool
    ) -> None:
        self.before = before
        self.after = after
        self.kept = len(before) + len(after) <= KEPT_BYTES
        self.target = target
        self.headers: Headers = [line.header for line in lines]
        self.fields = dict(self.headers)
        self.passing = b"".join([line.passing for line in lines])
        self.chunked = chunked

    def body(self, data: bytes) -> int:
        """Where the body of a whole message begins that has this head; less than 0 if it has not,
        or is not whole."""
        before, after = self.before, self.after
        at = len(before)
        if data[:at] != before:
            return -1
        if self.chunked:
            return at
        end = data.find(b"\r", at, at + DIGITS)
        if end < 0:
            return -1
        start = end + len(after)
        if data[end:start] != after or data[at:end] != b"%d" % (len(data) - start):
            return -1
        return start


class Message:
    """A whole message, or the head of a stream with what has come of it."""

    __slots__ = ("body", "head")

    def __init__(self, head: Head, body: bytes) -> None:
        self.head = head
        self.body = body


class Reader:
    """Reads the messages of one direction. replies: or requests."""

    def __init__(self, *, replies: bool) -> None:
        self.lines: dict[bytes, Line] = {}
        self._replies = replies
        self._dropped = NOT_RETURNED if replies else NOT_SENT

    def __repr__(self) -> str:
        return f"<Reader, {len(self.lines)} lines known>"

    def read(self, data: bytes, last: Head | None) -> Message | None:
        """A message; `None`: not an ordinary one. last: the head before it on its connection."""
        if last is not None:
            start = last.body(data)
            if start > 0:
                return Message(last, data[start:])
        end = data.find(END)
        if end < 0 or end > HEAD_BYTES:
            return None
        head = self._head(data, end)
        return None if head is None else Message(head, data[end + len(END) :])

    def line(self, line: bytes) -> Line | None:
        """Reads a line that is not known; `None`: not an ordinary one."""
        name, colon, value = line.partition(b":")
        if not (name and colon) or name.translate(None, TOKEN) or value.translate(None, VISIBLE):
            return None
        name, value, length = name.lower(), value[value[:1] == b" " :], -1
        low = value.lower()
        chunked = self._replies and name == b"transfer-encoding" and low == b"chunked"
        if value != value.strip(b" \t") or (name in ODD and not chunked):
            return None
        if name == b"connection" and low != b"keep-alive":
            return None
        if name == b"content-length":
            if not value.isdigit() or len(value) > DIGITS:
                return None
            length = int(value)
        found = Line(name, value, length=length, chunked=chunked, ends=name in self._dropped)
        return _kept(self.lines, line, found)

    def _head(self, data: bytes, end: int) -> Head | None:
        """A head, line by line. end: where it does."""
        said = data[:end].split(b"\r\n")
        target = _phrase(said[0]) if self._replies else _target(said[0])
        if target is None:
            return None
        lines: list[Line] = []
        at, after, length = len(said[0]), 0, -1
        chunked = events = typed = False
        for number in range(1, len(said)):
            line = self.lines.get(said[number]) or self.line(said[number])
            if line is None:
                return None
            at += 2 + len(said[number])
            if line.length < 0:
                lines.append(line)
            elif length >= 0:
                return None
            else:
                after, length = at, line.length
            if (chunked and line.chunked) or (typed and line.typed):
                return None
            chunked, typed = chunked or line.chunked, typed or line.typed
            events = events or line.events
        start = end + len(END)
        if length >= 0 and not chunked and not events and length == len(data) - start:
            before = data[:after].rstrip(DECIMAL)
            return Head(before, data[after:start], target, lines, chunked=False)
        if length < 0 and chunked and events:
            return Head(data[:start], b"", target, lines, chunked=True)
        return None


# What is said means the same on every connection.
_REQUESTS: Final = Reader(replies=False)
_REPLIES: Final = Reader(replies=True)


def request(data: bytes, last: Head | None) -> Message | None:
    """A POST; `None`: not an ordinary one. last: the head before it on its connection."""
    return _REQUESTS.read(data, last) if data[: len(POST)] == POST else None


def reply(data: bytes, last: Head | None) -> Message | None:
    """A 200; `None`: not an ordinary one. last: the head before it on its connection."""
    return _REPLIES.read(data, last) if data[: len(OK)] == OK else None


def _target(first: bytes) -> bytes | None:
    """Of a request, by its first line."""
    if not first.endswith(VERSION):
        return None
    target = first[len(POST) - 1 : -len(VERSION)]
    return None if target.translate(None, TARGET) else target


def _phrase(first: bytes) -> bytes | None:
    """Nothing, if the first line of a reply is in order."""
    return None if first.translate(None, VISIBLE) else b""
