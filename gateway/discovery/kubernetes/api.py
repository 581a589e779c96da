"""GET requests to the Kubernetes API: one answer, or a stream of lines. Knows no kind of object.

Each request has a connection of its own: a list every ten minutes and a watch every few are too
few to keep any open. What the API says is read with asyncio's streams and llhttp, because aiohttp,
which the official clients use, costs 0.12 s to import and delays streams of the same process.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httptools
import msgspec

from gateway.discovery.kubernetes.objects import StatusObject

# Where a pod finds the API and its own token: https://kubernetes.io/docs/tasks/run-application/
# access-api-from-pod/
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_S = 10.0
ANSWER_S = 30.0  # for a whole page of a list
PIECE = 1 << 16
MOST_BYTES = 64 << 20  # of an answer, or of one line of a stream
PORTS = {"http": 80, "https": 443}


class ApiFault(Exception):
    """The API did not answer with what was asked for."""


class ApiUnreachable(ApiFault):
    """No connection, or it broke, or no answer in time."""


class ApiRefusal(ApiFault):
    """The API said no. status: of HTTP. reason: its word for it, such as `Expired`.
    retry_after_s: when to try again, if it says so."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s


class ApiServer(NamedTuple):
    """Where the API is, and how to be known there. token_file: read for each request, because
    tokens of service accounts are replaced every hour. ca_file: `None`: what the system trusts."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None


def in_cluster(environment: Mapping[str, str], account: Path = ACCOUNT) -> ApiServer:
    """The API of the cluster that this process runs in. Raises ApiUnreachable outside of one."""
    host = environment.get("KUBERNETES_SERVICE_HOST")
    port = environment.get("KUBERNETES_SERVICE_PORT_HTTPS") or environment.get(
        "KUBERNETES_SERVICE_PORT", "443"
    )
    if not host:
        raise ApiUnreachable(
            "KUBERNETES_SERVICE_HOST is not set: outside of a cluster `api_server` must be given"
        )
    name = f"[{host}]" if ":" in host else host
    return ApiServer(f"https://{name}:{port}", account / "token", account / "ca.crt")


class ApiAnswer:
    """What llhttp reports of one response. over: the message is complete."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.begun = self.over = False
        self._pieces: list[bytes] = []

    def __repr__(self) -> str:
        return f"<ApiAnswer {'over' if self.over else 'begun' if self.begun else 'awaited'}>"

    def take(self) -> bytes:
        """What came of the body since the last call."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self.headers[name.decode("latin-1").casefold()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.begun = True

    def on_body(self, piece: bytes) -> None:
        """Called by the parser."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.over = True


class KubeApi:
    """Asks one API server."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        parts = urlsplit(server.url)
        self._host = parts.hostname or ""
        self._port = parts.port or PORTS[parts.scheme]
        self._authority = parts.netloc
        self._prefix = parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._tls: tuple[float, ssl.SSLContext] | None = None

    def __repr__(self) -> str:
        return f"<KubeApi {self.server.url}>"

    async def get(self, target: str) -> bytes:
        """The body of the answer to a GET. target: path and query. Raises ApiFault."""
        body = b""
        async with self._pieces(target, ANSWER_S) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > MOST_BYTES:
                    raise ApiUnreachable(f"an answer of more than {MOST_BYTES >> 20} MiB")
        return body

    async def lines(self, target: str, longest_s: float) -> AsyncGenerator[bytes, None]:
        """The lines of an answer that streams, until it ends or for `longest_s`; an empty one
        first, when the answer has begun. Raises ApiFault."""
        rest = b""
        async with self._pieces(target, longest_s) as pieces:
            async for piece in pieces:
                if not piece:
                    yield b""
                    continue
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    if line.strip():
                        yield line
                if len(rest) > MOST_BYTES:
                    raise ApiUnreachable(f"a line of more than {MOST_BYTES >> 20} MiB")
        if rest.strip():
            yield rest

    @asynccontextmanager
    async def _pieces(self, target: str, longest_s: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of a good answer, piece by piece."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                tls = await asyncio.to_thread(self._context) if self._secure else None
                token = await asyncio.to_thread(self._token)
                reader, writer = await asyncio.open_connection(self._host, self._port, ssl=tls)
            async with asyncio.timeout(longest_s):
                writer.write(self._head(target, token))
                yield self._body(reader)
        except TimeoutError:
            what = "no connection" if writer is None else "no end of the answer"
            limit_s = CONNECT_S if writer is None else longest_s
            raise ApiUnreachable(f"{self.server.url}: {what} within {limit_s:g} s") from None
        except (OSError, httptools.HttpParserError) as error:
            raise ApiUnreachable(f"{self.server.url}: {error or type(error).__name__}") from None
        finally:
            if writer is not None:
                writer.transport.abort()  # a closing TLS connection could wait for its peer

    async def _body(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """The body of an answer, after an empty piece when it has begun; raises ApiRefusal for one
        that is not 200."""
        answer, told = ApiAnswer(), False
        parser: Any = httptools.HttpResponseParser(answer)
        refused: bytes | None = None
        while not answer.over:
            data = await reader.read(PIECE)
            if not data:
                break
            parser.feed_data(data)
            piece = answer.take()
            if answer.begun and parser.get_status_code() != 200:
                refused = (refused or b"") + piece
            elif answer.begun:
                if not told:
                    told = True
                    yield b""
                if piece:
                    yield piece
        if refused is not None:
            raise _refusal(parser.get_status_code(), answer.headers, refused)
        framed = {"content-length", "transfer-encoding"} & set(answer.headers)
        if not answer.over and (framed or not answer.begun):
            raise ApiUnreachable(f"{self.server.url}: the connection broke")

    def _head(self, target: str, token: str | None) -> bytes:
        lines = [
            f"GET {self._prefix}{target} HTTP/1.1",
            f"host: {self._authority}",
            "accept: application/json",
            "user-agent: cuvee",
            "connection: close",
        ]
        if token:
            lines.append(f"authorization: Bearer {token}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _token(self) -> str | None:
        """The token as it is in its file now. Raises ApiUnreachable if it could be none."""
        file = self.server.token_file
        if file is None:
            return None
        token = file.read_text(encoding="latin-1").strip()
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ApiUnreachable(f"this file has no token: {file}")
        return token

    def _context(self) -> ssl.SSLContext:
        """How the server is trusted; made again when the file of its authorities changes."""
        file = self.server.ca_file
        changed_s = os.stat(file).st_mtime if file is not None else 0.0
        if self._tls is None or self._tls[0] != changed_s:
            context = ssl.create_default_context(cafile=file)
            # Python 3.13 asks for extensions that the authorities of most clusters do not have.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            self._tls = changed_s, context
        return self._tls[1]


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> ApiRefusal:
    """What an answer with an error says: a Status object, or whatever a proxy wrote."""
    try:
        said = msgspec.json.decode(body, type=StatusObject)
    except msgspec.DecodeError:
        said = StatusObject(message=body[:200].decode(errors="replace").strip())
    wait_s: float | None = None
    with suppress(ValueError):  # a date is as good as nothing
        wait_s = float(headers.get("retry-after", ""))
    return ApiRefusal(status, said.reason, said.message or f"status {status}", wait_s)
