"""One HTTP/1.1 request on a connection of its own, for the control plane: bounded in time and size.

Whoever orders, lists or watches asks too seldom to keep connections open. Answers are read with
asyncio's streams and llhttp, because aiohttp costs 0.12 s to import and delays streams of the same
process. Redirects are not followed, nothing is decoded. Knows no meaning of what it sends.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httptools

CONNECT_S = 10.0
PIECE = 1 << 16
PORTS = {"http": 80, "https": 443}


class PlainHttpFault(Exception):
    """No connection, or it broke, or no answer in time: one line with the server's URL."""


class PlainTlsFault(PlainHttpFault):
    """Something listens there, but TLS with it failed: its certificate is not trusted, say."""


class PlainAnswer(NamedTuple):
    """A whole answer. headers: by lower-case name. body: as it came. cut: it was longer."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: bool = False


class AnswerEvents:
    """What llhttp reports of one response. over: the message is complete."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.begun = self.over = False
        self.parser: Any = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []

    def __repr__(self) -> str:
        return f"<AnswerEvents {'over' if self.over else 'begun' if self.begun else 'awaited'}>"

    @property
    def status(self) -> int:
        """Of HTTP, once the answer has begun."""
        status: int = self.parser.get_status_code()
        return status

    def take(self) -> bytes:
        """What came of the body since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self.headers[name.decode("latin-1").casefold()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.begun = self.status >= 200

    def on_body(self, piece: bytes) -> None:
        """Called by the parser."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Called by the parser; also at the end of a 1xx, after which the answer itself comes."""
        self.over = self.begun
        if not self.begun:
            self.headers = {}


class IncomingAnswer:
    """An answer while it comes. status, headers: known after `begun`."""

    def __init__(self, url: str, reader: asyncio.StreamReader) -> None:
        self._url = url
        self._reader = reader
        self._events = AnswerEvents()
        self.status = 0
        self.headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<IncomingAnswer {self.status} of {self._url}>"

    async def begun(self) -> None:
        """Wait for the head."""
        while not self._events.begun:
            await self._read()
        self.status, self.headers = self._events.status, self._events.headers

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, as it comes. Raises PlainHttpFault if it breaks off."""
        events = self._events
        while True:
            if piece := events.take():
                yield piece
            if events.over or not await self._read():
                return

    async def _read(self) -> bool:
        """Take the next piece; false at the end of a body that ends with its connection."""
        data = await self._reader.read(PIECE)
        if data:
            self._events.parser.feed_data(data)
            return True
        framed = {"content-length", "transfer-encoding"} & set(self._events.headers)
        if framed or not self._events.begun:
            raise PlainHttpFault(f"{self._url}: the connection broke")
        return False


class PlainHttp:
    """Sends requests to one server, each on a connection of its own."""

    def __init__(
        self,
        url: str,
        ca_file: Path | None = None,
        *,
        certificate: tuple[str, str] | None = None,
        server_name: str | None = None,
    ) -> None:
        """url: without a path, or with one that all targets begin with. ca_file: authorities that
        the server is trusted by, read again when it changes; `None`: those of the system.
        certificate: files of the one that is shown to it, and of its key. server_name: that its own
        must be for; `None`: the host of the URL."""
        self.url = url
        self._ca_file, self._certificate, self._name = ca_file, certificate, server_name
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or PORTS[parts.scheme]
        self._authority = parts.netloc
        self._prefix = parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._tls: tuple[float, ssl.SSLContext] | None = None

    def __repr__(self) -> str:
        return f"<PlainHttp {self.url}>"

    async def whole(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        longest_s: float,
        most_bytes: int,
    ) -> PlainAnswer:
        """The answer to a request, cut after `most_bytes`. Raises PlainHttpFault."""
        found = b""
        async with self.answer(method, target, headers, body, longest_s=longest_s) as answer:
            async for piece in answer.pieces():
                found += piece
                if len(found) > most_bytes:
                    break
        cut = len(found) > most_bytes
        return PlainAnswer(answer.status, answer.headers, found[:most_bytes], cut)

    @asynccontextmanager
    async def answer(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        longest_s: float,
    ) -> AsyncIterator[IncomingAnswer]:
        """An answer that has begun. longest_s: until its end. Raises PlainHttpFault, inside too."""
        writer: asyncio.StreamWriter | None = None
        limit_s = min(CONNECT_S, longest_s)
        try:
            async with asyncio.timeout(limit_s):
                tls = await asyncio.to_thread(self._context) if self._secure else None
                name = None if tls is None else self._name or self._host
                reader, writer = await asyncio.open_connection(
                    self._host, self._port, ssl=tls, server_hostname=name
                )
            limit_s = longest_s
            async with asyncio.timeout(limit_s):
                writer.write(self._head(method, target, tuple(headers), body) + body)
                answer = IncomingAnswer(self.url, reader)
                await answer.begun()
                yield answer
        except TimeoutError:
            what = "no connection" if writer is None else "no end of the answer"
            raise PlainHttpFault(f"{self.url}: {what} within {limit_s:g} s") from None
        except ssl.SSLError as error:
            raise PlainTlsFault(f"{self.url}: {error}") from None
        except (OSError, httptools.HttpParserError) as error:
            raise PlainHttpFault(f"{self.url}: {error or type(error).__name__}") from None
        finally:
            if writer is not None:
                writer.transport.abort()  # a closing TLS connection could wait for its peer

    def _head(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> bytes:
        lines = [
            f"{method} {self._prefix}{target} HTTP/1.1",
            f"host: {self._authority}",
            "accept: application/json",
            "user-agent: cuvee",
            "connection: close",
            *(f"{name}: {value}" for name, value in headers),
        ]
        if body:
            lines.append(f"content-length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _context(self) -> ssl.SSLContext:
        """How the server is trusted; made again when the file of its authorities changes."""
        file = self._ca_file
        changed_s = os.stat(file).st_mtime if file is not None else 0.0
        if self._tls is None or self._tls[0] != changed_s:
            context = ssl.create_default_context(cafile=file)
            # Python 3.13 asks for extensions that the authorities of most clusters do not have.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if self._certificate is not None:
                context.load_cert_chain(*self._certificate)
            self._tls = changed_s, context
        return self._tls[1]
