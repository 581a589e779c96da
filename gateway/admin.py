"""The admin port: what operators and scrapers ask, over aiohttp. Nothing here is hot.

Knows paths and shapes of answers; what they say is handed in.
"""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from gateway.errors import GatewayError, MethodNotAllowed, NotFound

JSON = "application/json"
Answer = tuple[int, str, bytes]  # status, content type, body


class Admin:
    """A server for a table of paths; an async context manager."""

    def __init__(
        self, answers: Mapping[str, Callable[[], Awaitable[Answer]]], *, host: str, port: int
    ) -> None:
        """port: 0 takes a free one."""
        self._answers = answers
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None))
        self.host, self.port = host, port

    def __repr__(self) -> str:
        return f"<Admin {self.url}>"

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def __aenter__(self) -> "Admin":
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        headers = {}
        try:
            status, kind, body = await self._answer(request)
        except GatewayError as error:
            status, kind, body = error.status, JSON, error.body()
            if isinstance(error, MethodNotAllowed):
                headers["Allow"] = error.allowed
        return web.Response(status=status, body=body, headers=headers | {"Content-Type": kind})

    async def _answer(self, request: web.BaseRequest) -> Answer:
        answer = self._answers.get(request.path)
        if answer is None:
            raise NotFound(f"Unknown path: {request.path}")
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(request.path, "GET")
        return await answer()
