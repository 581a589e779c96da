"""The files of the page on the admin port, as they are sent. Must not know what the page shows.

The page is read from the package once, at the first request for it. Its other files have a name
that changes with their content, so that a browser never asks for them twice, and never mixes those
of two versions.
"""

import asyncio
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from gateway.errors import NotFound
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.headers import status_line
from gateway.proxy.http.request import Request

FOLDER = "page"
INDEX = "index.html"
VERSION = b"@VERSION@"  # in the index: stands for the digest of all files
PREFIX = "/page/"  # of the paths of all files but the index
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
DIGEST_DIGITS = 12
# Scripts, styles and data from this port only: what an engine or a client has put into a name can
# neither run nor tell anybody anything. No other site may show the page in a frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    f"content-security-policy: {POLICY}\r\n"
    "x-content-type-options: nosniff\r\n"
    "referrer-policy: no-referrer\r\n"
    "vary: accept-encoding\r\n"
).encode()
FOR_EVER = b"cache-control: public, max-age=31536000, immutable\r\n"
ASK_AGAIN = b"cache-control: no-cache\r\n"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. head: the header lines that go with it. packed: its body with gzip."""

    head: bytes
    body: bytes
    packed: bytes
    etag: bytes


class Assets:
    """All files of the page; read when the first is asked for, in a thread: to read and to pack
    them takes longer than a stream may wait."""

    def __init__(self) -> None:
        self._files: Mapping[str, Asset] = {}
        self._reading: asyncio.Task[Mapping[str, Asset]] | None = None

    def __repr__(self) -> str:
        return f"<Assets {', '.join(self._files) or 'not read'}>"

    async def serve(self, client: ClientConnection, request: Request) -> None:
        """Answer a GET of one file. Raises NotFound or MethodNotAllowed."""
        if not self._files:
            if self._reading is None:
                self._reading = asyncio.create_task(asyncio.to_thread(_read))
            self._files = await self._reading
        asset = self._files.get(request.path)
        if asset is None:
            raise NotFound(f"Unknown path: {request.path}")
        request.require_method(b"GET")
        fields = request.fields
        if asset.etag in fields.get(b"if-none-match", b""):
            client.respond(status_line(304) + asset.head, b"")
        elif b"gzip" in fields.get(b"accept-encoding", b""):
            head = status_line(200) + asset.head + b"content-encoding: gzip\r\n"
            client.respond(head, asset.packed)
        else:
            client.respond(status_line(200) + asset.head, asset.body)


def sizes() -> dict[str, tuple[int, int]]:
    """Bytes of each file, and with gzip, by its path."""
    return {path: (len(one.body), len(one.packed)) for path, one in _read().items()}


def _read() -> dict[str, Asset]:
    folder = files("gateway.admin").joinpath(FOLDER)
    found = {
        file.name: file.read_bytes()
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.rpartition(".")[2] in TYPES
    }
    digest = sha256()
    for name, body in found.items():
        digest.update(name.encode() + b"\0%d\0" % len(body) + body)
    version = digest.hexdigest()[:DIGEST_DIGITS]
    index = found.pop(INDEX).replace(VERSION, version.encode())
    made = {f"{PREFIX}{version}/{name}": _asset(name, body) for name, body in found.items()}
    return made | {"/": _asset(INDEX, index)}


def _asset(name: str, body: bytes) -> Asset:
    etag = b'"%b"' % sha256(body).hexdigest()[:DIGEST_DIGITS].encode()
    caching = ASK_AGAIN if name == INDEX else FOR_EVER
    kind = f"content-type: {TYPES[name.rpartition('.')[2]]}\r\n".encode()
    head = kind + b"etag: %b\r\n" % etag + caching + HEADERS
    return Asset(head=head, body=body, packed=gzip.compress(body, 9, mtime=0), etag=etag)
