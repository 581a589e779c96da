"""The server of the admin port, for operators, scrapers and balancers, and for the page.

Owns its paths and methods. The contents of the answers are handed in as functions.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping

from gateway.access.admin_access import AdminAccess
from gateway.admin.accept import prefers
from gateway.admin.assets import PREFIX, Assets
from gateway.admin.events import EventStreams
from gateway.errors import GatewayError, NotFound
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.headers import status_line
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.own_context import certificate_names
from gateway.proxy.http.request import ClientLimits, Request
from gateway.proxy.http.tls import TlsFiles

log = logging.getLogger("cuvee")

JSON = "application/json"
BODY_BYTES = 2 << 20  # limit of a request body: one that is explained may have a long prompt
CLOSE_S = 1.0  # answers that are being sent may finish for so long when the server closes

Answer = tuple[int, str, bytes]  # status, content type, body
Action = Callable[[bytes], Awaitable[Answer]]  # takes the body of the request


class AdminServer:
    """Answers GET by one table of paths and POST by another; an async context manager."""

    def __init__(
        self,
        answers: Mapping[str, Callable[[], Answer]],
        actions: Mapping[str, Action] | None = None,
        *,
        streams: Mapping[str, EventStreams] | None = None,
        host: str,
        port: int,
        listening: socket.socket | None = None,
    ) -> None:
        """answers, actions: a function for each path, for GET and for POST; `DELETE /path` for a
        DELETE, `/path type/subtype` for a GET of who would rather have that type. streams: by path,
        what is told as it happens. port: 0 takes a free one. listening: a socket that listens there
        already; `None`: one is opened."""
        self._answers = {path: one for path, one in answers.items() if " " not in path}
        self._others = {path: one for path, one in answers.items() if " " in path}
        self._actions = actions or {}
        self._streams = streams or {}
        self._assets = Assets()
        self._acting: set[asyncio.Task[None]] = set()
        self._listener = Listener(ClientLimits(body_bytes=BODY_BYTES), self._serve)
        self._listening = listening
        self._access = AdminAccess(None, None)
        self._secure = False
        self.host, self.port = host, port

    def __repr__(self) -> str:
        return f"<AdminServer {self.url}>"

    @property
    def url(self) -> str:
        """The base URL, for clients on this machine."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host
        scheme = "https" if self._secure else "http"
        return (
            f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        )

    def configure(self, access: AdminAccess, tls: TlsFiles | None) -> None:
        """Let in whom this lets in, from now on. tls: `None`: HTTP."""
        self._access, self._secure = access, tls is not None
        self._listener.secure(tls, every_client=False)

    async def __aenter__(self) -> "AdminServer":
        if self._listening is None:
            self.port = await self._listener.listen(self.host, self.port)
        else:
            self.port = self._listening.getsockname()[1]
            await self._listener.accept([self._listening])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end_streams()
        await self._listener.close(CLOSE_S)

    def leave(self) -> None:
        """Accept no more: another process serves the port."""
        self._listener.leave()
        self._listener.stop_accepting()
        self._end_streams()

    def _end_streams(self) -> None:
        for streams in self._streams.values():
            streams.close()

    def _serve(self, client: ClientConnection, request: Request) -> None:
        try:
            names = certificate_names(client.known("peercert"))
            self._access.require(request.method, request.path, request.fields, names)
        except GatewayError as error:
            client.respond_error(error)
            client.finish()
            return
        named = "DELETE " + request.path if request.method == b"DELETE" else request.path
        action = self._actions.get(named)
        if action is not None and request.method in (b"POST", b"DELETE"):
            self._begin(client, request, self._act(client, request, action))
            return
        if request.path == "/" or request.path.startswith(PREFIX):
            self._begin(client, request, self._assets.serve(client, request))
            return
        try:
            if request.path in self._streams:
                self._streams[request.path].serve(client, request)
                return
            _respond(client, self._answer(request))
        except Exception as error:
            _respond_error(client, request, error)
        client.finish()

    def _begin(
        self, client: ClientConnection, request: Request, answering: Awaitable[None]
    ) -> None:
        """Answer when it is time; other requests are served meanwhile."""

        async def answer() -> None:
            try:
                await answering
            except Exception as error:
                _respond_error(client, request, error)
            client.finish()

        task = asyncio.get_running_loop().create_task(answer())
        self._acting.add(task)
        task.add_done_callback(self._acting.discard)

    async def _act(self, client: ClientConnection, request: Request, action: Action) -> None:
        _respond(client, await action(request.body))

    def _answer(self, request: Request) -> Answer:
        answer = self._answers.get(request.path)
        if answer is None:
            if request.path in self._actions:
                request.require_method(b"POST")
            raise NotFound(f"Unknown path: {request.path}")
        request.require_method(b"GET")
        accept = request.fields.get(b"accept", b"").decode("latin-1")
        for named, other in self._others.items():
            path, _, kind = named.partition(" ")
            if path == request.path and prefers(accept, kind):
                return other()
        return answer()


def _respond(client: ClientConnection, answer: Answer) -> None:
    status, content_type, body = answer
    client.respond(status_line(status) + f"content-type: {content_type}\r\n".encode(), body)


def _respond_error(client: ClientConnection, request: Request, error: Exception) -> None:
    if not isinstance(error, GatewayError):
        log.error("%s could not be answered", request.path, exc_info=error)
        error = GatewayError("The gateway failed.")
    client.respond_error(error)
