"""Connections to backends: one exchange out, a reply in. Knows no route, no lease and no client.

aiohttp's client stands here in this first form; nothing above this file knows that.
"""

import asyncio
from collections.abc import Iterable, Mapping
from types import SimpleNamespace, TracebackType

import aiohttp

from gateway.errors import ConnectFailed, UpstreamError

# RFC 9110 §7.6.1, with the obsolete ones that old proxies still send. Content-Length and Host are
# made anew; Expect was answered and a Content-Encoding undone by our server; a compressed stream
# could not be read for its tokens.
HOP_BY_HOP = frozenset(
    (
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade",
    )
)  # fmt: skip
NOT_FORWARDED = HOP_BY_HOP | {
    "host",
    "content-length",
    "expect",
    "content-encoding",
    "accept-encoding",
}
KEEP_ALIVE_S = 4.0  # vLLM (uvicorn) closes idle connections after 5 s


class Reply:
    """A backend's answer whose head is here. Closed on every path; reading it whole frees it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.stream = response.content_type == "text/event-stream"

    @property
    def headers(self) -> list[tuple[str, str]]:
        """End-to-end headers; the body's length and framing are the sender's business."""
        named = {
            token.strip().lower()
            for value in self._response.headers.getall("Connection", ())
            for token in value.split(",")
        }
        dropped = HOP_BY_HOP | named | {"content-length", "date", "server"}
        return [(k, v) for k, v in self._response.headers.items() if k.lower() not in dropped]

    async def read(self) -> bytes:
        """The whole body. Raises UpstreamError if it is cut."""
        try:
            return await self._response.read()
        except aiohttp.ClientError as error:
            raise UpstreamError(f"The backend's reply was cut: {error}") from error

    async def chunk(self) -> bytes:
        """The next bytes as they came; empty at the end. Raises UpstreamError if it is cut."""
        try:
            return await self._response.content.readany()
        except aiohttp.ClientError as error:
            raise UpstreamError(f"The backend's stream was cut: {error}") from error

    def close(self) -> None:
        """Frees the connection; closes it if bytes are still to come: engines then abort."""
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()


class Upstream:
    """Keep-alive connections to all backends; an async context manager."""

    def __init__(self, *, connect_timeout_s: float) -> None:
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Upstream":
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_reused)
        self._session = aiohttp.ClientSession(
            connector=connector,
            trace_configs=[trace],
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            read_bufsize=2**18,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Posts a body and waits for the head of the reply.

        A connection that the backend closed while it was idle is replaced once, invisibly. Raises
        ConnectFailed if nothing could be sent, UpstreamError if the connection broke before the
        head.
        """
        sent = _Sent()
        try:
            return await self._post(url, headers, body, sent)
        except ConnectFailed:
            raise
        except UpstreamError:
            if not sent.reused:
                raise
            return await self._post(url, headers, body, _Sent())

    async def _post(
        self, url: str, headers: Mapping[str, str], body: bytes, sent: "_Sent"
    ) -> Reply:
        assert self._session is not None
        try:
            return Reply(
                await self._session.post(
                    url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=sent
                )
            )
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
            raise ConnectFailed(f"The backend cannot be reached: {error}") from error
        except aiohttp.ClientError as error:
            raise UpstreamError(f"The backend broke off: {error}") from error

    async def probe(self, url: str, timeout_s: float) -> bool:
        """Whether a GET of `url` answers 200 in time."""
        assert self._session is not None
        try:
            async with asyncio.timeout(timeout_s), self._session.get(url) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


class _Sent:
    """Whether a request left on a connection that had served another before."""

    reused = False


async def _reused(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    if context.trace_request_ctx is not None:  # probes have none
        context.trace_request_ctx.reused = True


def request_headers(
    headers: Iterable[tuple[str, str]], *, connection: str, request_id: str
) -> dict[str, str]:
    """The client's end-to-end headers, with the request id.

    connection: the client's Connection header, whose tokens name further hop-by-hop headers.
    """
    named = {token.strip().lower() for token in connection.split(",")} if connection else set()
    dropped = NOT_FORWARDED | named | {"x-request-id"}
    kept: dict[str, str] = {}
    for name, value in headers:
        if name.lower() not in dropped:  # a repeated field is a list: RFC 9110 §5.3
            kept[name] = f"{kept[name]}, {value}" if name in kept else value
    kept["x-request-id"] = request_id
    return kept
