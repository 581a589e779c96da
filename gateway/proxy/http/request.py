"""One whole request of a client, and what a client may take. Data; knows no connection."""

from dataclasses import dataclass
from typing import Protocol

from gateway.errors import MethodNotAllowed
from gateway.proxy.http.headers import Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """What one client may take. Times in seconds.

    head_s: until the head is whole. body_s: between two pieces of a body. idle_s: before a request.
    stalled_s: without the client reading any of its answer.
    """

    body_bytes: int
    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 75.0
    stalled_s: float = 60.0


class Request:
    """One whole request. target: path and query as sent. headers: not to be changed; the length may
    be missing, it is the body's. fields: the headers by name, the last of each."""

    __slots__ = ("body", "fields", "headers", "keep", "method", "modern", "passing", "target")

    def __init__(
        self,
        *,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes,
        keep: bool,
        modern: bool,
        fields: dict[bytes, bytes] | None = None,
        passing: bytes | None = None,
    ) -> None:
        """keep: whether the client wants the connection kept. modern: HTTP/1.1, it knows chunks.
        fields, and passing, the header lines that go on: where they are made already."""
        self.method = method
        self.target = target
        self.headers = headers
        self.fields = dict(headers) if fields is None else fields
        self.passing = passing
        self.body = body
        self.keep = keep
        self.modern = modern

    def __repr__(self) -> str:
        return f"<Request {self.method!r} {self.target!r}, {len(self.body)} bytes>"

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("latin-1")

    def only(self, method: bytes) -> None:
        """Raises MethodNotAllowed for any other method; HEAD is a GET."""
        asked = b"GET" if self.method == b"HEAD" else self.method
        if asked != method:
            raise MethodNotAllowed(self.path, method.decode())


class Pausable(Protocol):
    """Where an answer comes from: it is stopped while the client does not read."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class StreamWriter(Protocol):
    """Who a streamed answer goes to."""

    def start(self, head: bytes, first: bytes) -> None: ...

    def write(self, piece: bytes) -> None: ...


def origin_form(target: bytes) -> bytes:
    """Path and query of a target that names the host too, which servers must take as well
    (RFC 9112 §3.2.2)."""
    if target[:1] == b"/":
        return target
    _, found, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if found else target
