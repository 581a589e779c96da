"""Messages as nearly everybody writes them, read without a parser; all others are for llhttp.

A whole message in one piece, HTTP/1.1, framed by one Content-Length, nothing about the connection
but that it is kept. Strict: what is accepted here, llhttp reads the same way (tests/gateway/
test_ordinary.py). Clients and engines say the same lines again and again, so a line is looked at
once and remembered.
"""

from typing import Final, TypeVar

from gateway.proxy.heads import HEAD_BYTES, HOP_BY_HOP, NOT_RETURNED, NOT_SENT, Headers
from gateway.proxy.request import Request

END: Final = b"\r\n\r\n"
DIGITS: Final = 15  # of a length; longer ones are odd
REMEMBERED: Final = 4096  # lines of one kind, then all are forgotten; the bytes of one:
LINE_BYTES: Final = 1024
ODD: Final = (HOP_BY_HOP | {b"expect", b"http2-settings"}) - {b"connection"}
# What a line may hold.
VISIBLE: Final = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100)) + b"\t"
TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
TARGET: Final = b"/-._~?=&%0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
HEX: Final = b"0123456789abcdefABCDEF"
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
    less than 0."""

    __slots__ = ("header", "length", "name", "passing", "value")

    def __init__(self, name: bytes, value: bytes, *, length: int, ends: bool) -> None:
        self.name = name
        self.value = value
        self.header = (name, value)
        self.length = length
        self.passing = b"" if ends else b"%b: %b\r\n" % (name, value)


class Lines:
    """The lines of one direction. dropped: names of headers that end here."""

    def __init__(self, dropped: frozenset[bytes]) -> None:
        self.known: dict[bytes, Line] = {}
        self._dropped = dropped

    def __repr__(self) -> str:
        return f"<Lines {len(self.known)} known>"

    def read(self, line: bytes) -> Line | None:
        """Reads a line that is not known; `None`: not an ordinary one."""
        name, colon, value = line.partition(b":")
        if not (name and colon) or name.translate(None, TOKEN) or value.translate(None, VISIBLE):
            return None
        name, value, length = name.lower(), value[value[:1] == b" " :], -1
        if value != value.strip(b" \t") or name in ODD:
            return None
        if name == b"connection" and value.lower() != b"keep-alive":
            return None
        if name == b"content-type" and value.lower().startswith(b"text/event-stream"):
            return None
        if name == b"content-length":
            if not value.isdigit() or len(value) > DIGITS:
                return None
            length = int(value)
        found = Line(name, value, length=length, ends=name in self._dropped)
        return _kept(self.known, line, found)


class Message:
    """A whole message. first: its first line. passing: the header lines that go on."""

    __slots__ = ("body", "fields", "first", "headers", "passing")

    def __init__(
        self,
        first: bytes,
        headers: Headers,
        fields: dict[bytes, bytes],
        passing: bytes,
        body: bytes,
    ) -> None:
        self.first = first
        self.headers = headers
        self.fields = fields
        self.passing = passing
        self.body = body


# What a line means depends on nothing else, so that all connections share what was read.
_OF_REQUESTS: Final = Lines(NOT_SENT)
_OF_REPLIES: Final = Lines(NOT_RETURNED)
_TARGETS: Final[dict[bytes, bytes]] = {}  # by first line
_SIZES: Final[dict[bytes, int]] = {}  # of chunks, by their digits
_PHRASES: Final[dict[bytes, bool]] = {}  # whether the first line of a reply is in order


def request(data: bytes, most_bytes: int) -> Request | None:
    """A POST; `None`: not an ordinary one. most_bytes: of a body."""
    if data[: len(POST)] != POST:
        return None
    found = _message(data, _OF_REQUESTS)
    if found is None or len(found.body) > most_bytes:
        return None
    target = _TARGETS.get(found.first) or _target(found.first)
    if target is None:
        return None
    return Request(
        method=b"POST",
        target=target,
        headers=found.headers,
        fields=found.fields,
        body=found.body,
        keep=True,
        modern=True,
        passing=found.passing,
    )


def reply(data: bytes) -> Message | None:
    """A 200 that is no stream; `None`: not an ordinary one."""
    if data[: len(OK)] != OK:
        return None
    found = _message(data, _OF_REPLIES)
    if found is None or not (_PHRASES.get(found.first) or _phrase(found.first)):
        return None
    return found


def chunk(data: bytes) -> bytes | None:
    """What one HTTP chunk holds that is whole; `None`: not just one, or the last of all."""
    if data[3:5] == b"\r\n":
        end = 3
    elif data[2:4] == b"\r\n":
        end = 2
    else:
        end = data.find(b"\r\n", 0, 12)
        if end < 0:
            return None
    size = _SIZES.get(data[:end])
    if size is None:
        size = _size(data[:end])
    if size <= 0 or len(data) != end + size + 4 or data[-2:] != b"\r\n":
        return None
    return data[end + 2 : -2]


def _size(digits: bytes) -> int:
    size = 0 if not digits or digits.translate(None, HEX) else int(digits, 16)
    return _kept(_SIZES, digits, size)


def _target(first: bytes) -> bytes | None:
    if not first.endswith(VERSION):
        return None
    target = first[len(POST) - 1 : -len(VERSION)]
    if target.translate(None, TARGET):
        return None
    return _kept(_TARGETS, first, target)


def _phrase(first: bytes) -> bool:
    return _kept(_PHRASES, first, not first.translate(None, VISIBLE))


def _message(data: bytes, lines: Lines) -> Message | None:
    end = data.find(END)
    if end < 0 or end > HEAD_BYTES:
        return None
    said, known = data[:end].split(b"\r\n"), lines.known
    headers: Headers = []
    fields: dict[bytes, bytes] = {}
    passing: list[bytes] = []
    length = -1
    for number in range(1, len(said)):
        line = known.get(said[number]) or lines.read(said[number])
        if line is None:
            return None
        if line.length >= 0:
            if length >= 0:
                return None
            length = line.length
        headers.append(line.header)
        fields[line.name] = line.value
        passing.append(line.passing)
    if length != len(data) - end - len(END):
        return None
    return Message(said[0], headers, fields, b"".join(passing), data[end + len(END) :])
