"""Requests to the Kubernetes API: one answer, or a stream of lines. Knows no kind of object."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.discovery.kubernetes.objects import StatusObject
from gateway.plain_http import IncomingAnswer, PlainHttp, PlainHttpFault

# Where a pod finds the API and its own token: https://kubernetes.io/docs/tasks/run-application/
# access-api-from-pod/
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ANSWER_S = 30.0  # for a whole page of a list
MOST_BYTES = 64 << 20  # of an answer, or of one line of a stream
MOST_REFUSAL_BYTES = 1 << 16
GOOD = (200, 201)


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


class KubeApi:
    """Asks one API server."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self._http = PlainHttp(server.url, server.ca_file)

    def __repr__(self) -> str:
        return f"<KubeApi {self.server.url}>"

    async def get(self, target: str) -> bytes:
        """The body of the answer to a GET. target: path and query. Raises ApiFault."""
        return await self.ask("GET", target)

    async def ask(self, method: str, target: str, body: bytes = b"", kind: str = "") -> bytes:
        """The body of the answer to a request. kind: content type of its body. Raises ApiFault."""
        found = b""
        async with self._pieces(method, target, body, kind, ANSWER_S) as pieces:
            async for piece in pieces:
                found += piece
                if len(found) > MOST_BYTES:
                    raise ApiUnreachable(f"an answer of more than {MOST_BYTES >> 20} MiB")
        return found

    async def lines(self, target: str, longest_s: float) -> AsyncGenerator[bytes, None]:
        """The lines of an answer that streams, until it ends or for `longest_s`; an empty one
        first, when the answer has begun. Raises ApiFault."""
        rest = b""
        async with self._pieces("GET", target, b"", "", longest_s) as pieces:
            yield b""
            async for piece in pieces:
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    if line.strip():
                        yield line
                if len(rest) > MOST_BYTES:
                    raise ApiUnreachable(f"a line of more than {MOST_BYTES >> 20} MiB")
        if rest.strip():
            yield rest

    @asynccontextmanager
    async def _pieces(
        self, method: str, target: str, body: bytes, kind: str, longest_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of a good answer, piece by piece. Raises ApiRefusal for another one."""
        try:
            headers = await asyncio.to_thread(self._headers, kind)
            async with self._http.answer(
                method, target, headers, body, longest_s=longest_s
            ) as answer:
                if answer.status not in GOOD:
                    raise _refusal(answer.status, answer.headers, await _said(answer))
                yield answer.pieces()
        except PlainHttpFault as error:
            raise ApiUnreachable(str(error)) from None
        except OSError as error:
            raise ApiUnreachable(f"{self.server.url}: {error}") from None

    def _headers(self, kind: str) -> list[tuple[str, str]]:
        """With the token as it is in its file now. Raises ApiUnreachable if it could be none."""
        headers = [("content-type", kind)] if kind else []
        file = self.server.token_file
        if file is None:
            return headers
        token = file.read_text(encoding="latin-1").strip()
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ApiUnreachable(f"this file has no token: {file}")
        return [*headers, ("authorization", f"Bearer {token}")] if token else headers


async def _said(answer: IncomingAnswer) -> bytes:
    """The body of an answer that says no, as far as it came."""
    found = b""
    with suppress(PlainHttpFault):
        async for piece in answer.pieces():
            found += piece
            if len(found) > MOST_REFUSAL_BYTES:
                break
    return found


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
