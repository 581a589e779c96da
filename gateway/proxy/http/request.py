"""One complete request of a client, and the limits of a client. Data; knows no connection."""

import re
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import unquote

from gateway.errors import MethodNotAllowed
from gateway.proxy.http.cors import CrossOrigin
from gateway.proxy.http.headers import NOT_SENT, Headers
from gateway.proxy.http.upload import Upload

SLASHES: Final = re.compile("//+")
LONGEST_ID: Final = 256  # bytes of a client's x-request-id; a longer one is replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """How much a client may send and how long it may take.

    body_bytes: size of a request's body. head_s: seconds until the head is complete. body_s:
    seconds between two pieces of a body. idle_s: seconds without a request. stalled_s: seconds
    without the client reading any of its answer. connections: of all clients together; beyond
    them, the connection that was idle for longest is closed. not_sent: names of the headers that no
    backend gets. cross_origin: which pages of other origins may call; `None`: nobody asks.
    streamed: paths whose requests are served before all of a large body has come.
    """

    body_bytes: int
    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 75.0
    stalled_s: float = 60.0
    connections: int = 1 << 30
    not_sent: frozenset[bytes] = NOT_SENT
    cross_origin: CrossOrigin | None = None
    streamed: frozenset[bytes] = frozenset()


class Request:
    """One complete request.

    method: in capitals. target: path and query as sent. headers: names in lower case, in the order
    of the wire; never changed, and Content-Length may be missing, because the length is the
    body's. fields: the last value of each header by name. keep_alive: whether the client wants the
    connection kept. http11: whether the client speaks HTTP/1.1, so that an answer may be chunked.
    end_to_end: the header lines to forward, if they are known already. upload: what is still to
    come of the body; `None`: nothing.
    """

    __slots__ = (
        "body", "end_to_end", "fields", "headers", "http11", "keep_alive", "method", "target",
        "upload",
    )  # fmt: skip

    def __init__(
        self,
        *,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes,
        keep_alive: bool,
        http11: bool,
        fields: dict[bytes, bytes] | None = None,
        end_to_end: bytes | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.fields = dict(headers) if fields is None else fields
        self.end_to_end = end_to_end
        self.body = body
        self.keep_alive = keep_alive
        self.http11 = http11
        self.upload: Upload | None = None

    def __repr__(self) -> str:
        return (
            f"<Request {self.method!r} {self.path!r}, {len(self.body)} bytes>"  # queries hold keys
        )

    @property
    def client_id(self) -> bytes | None:
        """The x-request-id that the client chose; `None` if it chose none or too long a one."""
        chosen = self.fields.get(b"x-request-id")
        return chosen if chosen and len(chosen) <= LONGEST_ID else None

    @property
    def credential(self) -> bytes:
        """What tells callers apart: Anthropic's clients send their key under another name."""
        return self.fields.get(b"authorization") or self.fields.get(b"x-api-key", b"")

    @property
    def bare_target(self) -> bytes:
        """The target without its query, as it was sent."""
        return self.target.partition(b"?")[0]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.bare_target.decode("latin-1")

    @property
    def uploading(self) -> bool:
        """Whether a part of its body is still to come."""
        return self.upload is not None and self.upload.left > 0

    @property
    def repeatable(self) -> bool:
        """Whether its head may stand for that of another request on the same connection."""
        fields = self.fields
        plain = b"expect" not in fields and b"transfer-encoding" not in fields
        return plain and self.keep_alive and self.http11

    def require_method(self, method: bytes) -> None:
        """Raise MethodNotAllowed for any other method. HEAD counts as GET (RFC 9110 §9.3.2)."""
        asked = b"GET" if self.method == b"HEAD" else self.method
        if asked != method:
            raise MethodNotAllowed(self.path, method.decode())


class Pausable(Protocol):
    """The source of a streamed answer: it is paused while the client does not read."""

    def pause(self) -> None:
        """Stop reading from the source."""

    def resume(self) -> None:
        """Read from the source again."""


class StreamWriter(Protocol):
    """The destination of a streamed answer."""

    def start(self, head: bytes, first: bytes) -> None:
        """Write the head of the answer and the first piece of its body, which may be empty."""

    def write(self, piece: bytes) -> None:
        """Write another piece of the body."""


def origin_form(target: bytes) -> bytes:
    """The path and query of a target that names the host too, which servers must accept as well
    (RFC 9112 §3.2.2)."""
    if target[:1] == b"/":
        return target
    _, found, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if found else target


def canonical_path(target: bytes) -> str:
    """The path of a target as it is looked up: without its query, without slashes that double or
    end it, and with what was escaped. Raises nothing: what is no path is found nowhere."""
    path = unquote(target.partition(b"?")[0].decode(errors="replace"))  # some send UTF-8 as it is
    return SLASHES.sub("/", path).rstrip("/") or "/"
