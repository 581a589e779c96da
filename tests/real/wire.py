"""One request on a socket of its own, and the answer as it came: head, chunks, body."""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT_S = 120.0  # the first structured answer of a real engine compiles its grammar


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said. headers: names in lower case, in their order. chunks: those of the
    chunked coding; `None`: the body was not chunked."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    chunks: tuple[bytes, ...] | None

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known == name), None)

    @property
    def events(self) -> list[tuple[str | None, str]]:
        """The name and the data of each server-sent event."""
        found = []
        for block in self.body.decode().split("\n\n"):
            fields: dict[str, str] = {}
            for line in block.splitlines():
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
            if "data" in fields:
                found.append((fields.get("event"), fields["data"]))
        return found

    @property
    def streamed(self) -> bool:
        return (self.header("content-type") or "").startswith("text/event-stream")


def ask(
    url: str,
    path: str,
    body: object = None,
    *,
    method: str = "POST",
    headers: Mapping[str, str | None] | None = None,
) -> Answer:
    """Send one request and read its answer to the end.

    body: bytes as they are, else what becomes JSON. headers: further ones; `None` takes one away.
    Raises OSError and ValueError where the answer is none.
    """
    with request(url, path, body, method=method, headers=headers) as connection:
        return read(connection)


def request(
    url: str,
    path: str,
    body: object = None,
    *,
    method: str = "POST",
    headers: Mapping[str, str | None] | None = None,
) -> socket.socket:
    """Send one request on a connection of its own, which the caller reads and closes."""
    parts = urlsplit(url)
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    fields: dict[str, str | None] = {"host": parts.netloc, "connection": "close"}
    if method != "GET":
        fields |= {"content-type": "application/json", "content-length": str(len(raw))}
    fields |= headers or {}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    head = "\r\n".join([f"{method} {parts.path.rstrip('/')}{path} HTTP/1.1", *lines, "", ""])
    connection = socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT_S)
    connection.sendall(head.encode() + raw)
    return connection


def read(connection: socket.socket) -> Answer:
    """The answer on a connection, to its end."""
    stream = connection.makefile("rb")
    status = int(stream.readline().split()[1])
    headers: list[tuple[str, str]] = []
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(":")
        headers.append((name.lower(), value.strip()))
    known = dict(headers)
    if known.get("transfer-encoding") != "chunked":
        length = known.get("content-length")
        body = stream.read() if length is None else stream.read(int(length))
        return Answer(status, tuple(headers), body, None)
    chunks: list[bytes] = []
    while size := int(stream.readline(), 16):
        chunks.append(stream.read(size))
        stream.readline()
    return Answer(status, tuple(headers), b"".join(chunks), tuple(chunks))
