"""The server of the admin port, for operators, scrapers and balancers.

Owns its paths and methods. The contents of the answers are handed in as functions.
"""

import logging
from collections.abc import Callable, Mapping

from gateway.errors import GatewayError, NotFound
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.headers import status_line
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.request import ClientLimits, Request

log = logging.getLogger("cuvee")

JSON = "application/json"
BODY_BYTES = 65536  # limit of a request body; no path here reads one
CLOSE_S = 1.0  # answers that are being sent may finish for so long when the server closes

Answer = tuple[int, str, bytes]  # status, content type, body


class AdminServer:
    """Answers GET requests by a table of paths; an async context manager."""

    def __init__(
        self, answers: Mapping[str, Callable[[], Answer]], *, host: str, port: int
    ) -> None:
        """answers: a function for each path. port: 0 takes a free one."""
        self._answers = answers
        self._listener = Listener(ClientLimits(body_bytes=BODY_BYTES), self._serve)
        self.host, self.port = host, port

    def __repr__(self) -> str:
        return f"<AdminServer {self.url}>"

    @property
    def url(self) -> str:
        """The base URL, for clients on this machine."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def __aenter__(self) -> "AdminServer":
        self.port = await self._listener.listen(self.host, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.close(CLOSE_S)

    def _serve(self, client: ClientConnection, request: Request) -> None:
        try:
            status, content_type, body = self._answer(request)
            head = status_line(status) + f"content-type: {content_type}\r\n".encode()
        except GatewayError as error:
            client.respond_error(error)
        except Exception:
            log.exception("%s could not be answered", request.path)
            client.respond_error(GatewayError("The gateway failed."))
        else:
            client.respond(head, body)
        client.finish()

    def _answer(self, request: Request) -> Answer:
        answer = self._answers.get(request.path)
        if answer is None:
            raise NotFound(f"Unknown path: {request.path}")
        request.require_method(b"GET")
        return answer()
