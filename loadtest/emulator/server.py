"""One emulated backend: an HTTP server that speaks vLLM's API.

Owns the routes and the connections. When a token exists is `planner.engine.batching`'s business,
that it is sent then `emulator.clock`'s, what its bytes are `emulator.replies`'s. Real time, never
scaled.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from aiohttp.http import HttpVersion11

from loadtest.emulator import faults, replies, requests
from loadtest.emulator.clock import EmulatedExchange, EngineClock
from loadtest.emulator.faults import Faults
from loadtest.emulator.metrics import VllmMetrics
from loadtest.emulator.requests import Body, Kind, RequestRefused
from planner.engine.batching import Engine
from planner.engine.profiles import Profile

KEEPALIVE_S = 5.0  # uvicorn's default: idle connections are closed
LARGEST_BODY = 64 * 2**20
PLAIN = {"Server": "uvicorn", "Vary": "Origin"}
JSON = {**PLAIN, "Content-Type": "application/json"}
SSE = {**PLAIN, "Content-Type": "text/event-stream; charset=utf-8"}
METRICS = {**PLAIN, "Content-Type": "text/plain; version=1.0.0; charset=utf-8"}
IDS = {"chat": "chatcmpl", "text": "cmpl", "embedding": "embd"}
OBJECTS = {"chat": "chat.completion", "text": "text_completion", "embedding": "list"}

Route = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Emulator:
    """A vLLM server without a GPU: `port = await emulator.start()`, then `await emulator.stop()`.

    model: the name it serves. max_num_queued_reqs: with so many requests running or waiting it
    refuses more (vLLM's flag; `None`: an unbounded queue). All state lives in the instance.
    """

    def __init__(
        self,
        profile: Profile,
        model: str,
        *,
        faults: Faults = faults.NONE,
        max_num_queued_reqs: int | None = None,
    ) -> None:
        self.engine = Engine(profile)
        self.metrics = VllmMetrics(self.engine, model, profile.kv_capacity)
        self.model = model
        self.port = 0
        self._faults = faults
        self._most = max_num_queued_reqs
        self._numbers = itertools.count(1)
        self._ready_s = 0.0
        self._loop: asyncio.AbstractEventLoop
        self._clock: EngineClock
        self._runner: web.AppRunner
        self._listener: asyncio.Server

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listens; returns the port. Raises OSError where it cannot."""
        self._loop = asyncio.get_running_loop()
        self._clock = EngineClock(self.engine, self.metrics)
        self._ready_s = self._loop.time() + self._faults.start_delay_s
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            handler_cancellation=True,  # a closed connection aborts its request
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=0.1,
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._listener = await self._loop.create_server(self._runner.server, host, port)
        self.port = int(self._listener.sockets[0].getsockname()[1])
        return self.port

    async def stop(self) -> None:
        """Closes the listener and every connection, and leaves nothing behind."""
        self.crash()
        await self._runner.cleanup()

    def crash(self) -> None:
        """Dies as a killed process does: listener and connections are gone at once."""
        self._listener.close()
        self._clock.close()
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=LARGEST_BODY)
        for method, path, route in (
            ("POST", "/v1/chat/completions", self._generation("chat")),
            ("POST", "/v1/completions", self._generation("text")),
            ("POST", "/v1/embeddings", self._generation("embedding")),
            ("POST", "/tokenize", self._tokenize),
            ("GET", "/v1/models", self._models),
            ("GET", "/health", self._health),
            ("GET", "/ping", self._health),
            ("GET", "/version", version),
            ("GET", "/metrics", self._page),
        ):
            resource = app.router.add_resource(path)
            resource.add_route(method, route)
            resource.add_route("*", misused(method))
        app.router.add_route("*", "/{tail:.*}", missing)
        return app

    def _generation(self, kind: Kind) -> Route:
        async def generate(request: web.Request) -> web.StreamResponse:
            hit = self._faults.hits(next(self._numbers))
            fault = self._faults if hit else faults.NONE
            try:
                exchange = await self._read(request, kind, fault)
            except RequestRefused as refused:
                return refusal(refused)
            if exchange is None:
                return web.Response()
            return await (self._stream if exchange.generation.stream else self._unary)(
                request, exchange
            )

        return generate

    async def _read(
        self, request: web.Request, kind: Kind, fault: Faults
    ) -> EmulatedExchange | None:
        """The exchange that a request opens; `None` for a connection without a future."""
        raw = await payload(request)
        transport = request.transport
        if transport is None or fault.die_before_headers:
            if transport is not None:
                transport.close()
            return None
        if fault.status == 500:
            raise requests.broken()
        if fault.status == 503 or self._loop.time() < self._ready_s:
            raise requests.busy()
        generation = requests.read_request(raw, kind, model=self.model, longest=self.engine.longest)
        name = OBJECTS[kind] + (".chunk" if kind == "chat" and generation.stream else "")
        number = request.headers.get("x-request-id") or secrets.token_hex(8)
        head: Body = {"id": f"{IDS[kind]}-{number}", "object": name, "created": int(time.time())}
        head["model"] = self.model
        return EmulatedExchange(generation, head, fault, transport, self._loop.create_future())

    @property
    def _full(self) -> bool:
        queued = self.engine.running + self.engine.waiting
        return self._most is not None and queued >= self._most

    async def _unary(self, _: web.Request, exchange: EmulatedExchange) -> web.StreamResponse:
        if self._full:
            return refusal(requests.busy())
        self._clock.submit(exchange)
        try:
            await exchange.done
        except RequestRefused as refused:
            return refusal(refused)
        finally:
            self._clock.drop(exchange)
        return web.Response(body=replies.answer(exchange.generation, exchange.head), headers=JSON)

    async def _stream(self, request: web.Request, exchange: EmulatedExchange) -> web.StreamResponse:
        response = web.StreamResponse(headers=SSE)
        await response.prepare(request)  # vLLM sends the head before the first token
        if self._full:  # and says only then that it is too busy
            await response.write(replies.error_event(requests.busy()))
            await response.write_eof(replies.DONE)
            return response
        self._clock.submit(exchange, chunked=request.version >= HttpVersion11)
        try:
            await exchange.done
        except RequestRefused as refused:
            await response.write(replies.error_event(refused))
            await response.write(replies.DONE)
        finally:
            self._clock.drop(exchange)
        await response.write_eof()
        return response

    async def _models(self, _: web.Request) -> web.Response:
        body = replies.models(self.model, self.engine.longest, int(time.time()))
        return web.Response(body=body, headers=JSON)

    async def _health(self, _: web.Request) -> web.Response:
        ready = self._loop.time() >= self._ready_s
        return web.Response(status=200 if ready else 503, headers=PLAIN)

    async def _page(self, _: web.Request) -> web.Response:
        self._clock.settle()
        return web.Response(body=self.metrics.page(), headers=METRICS)

    async def _tokenize(self, request: web.Request) -> web.Response:
        try:
            body = requests.decode(await payload(request))
            return respond(200, requests.tokenized(body, self.model, self.engine.longest))
        except RequestRefused as refused:
            return refusal(refused)


def respond(status: int, value: object, **headers: str) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), headers=JSON | headers)


def refusal(refused: RequestRefused) -> web.Response:
    return respond(refused.status, refused.body)


async def payload(request: web.Request) -> bytes:
    """The body, which has to be declared as JSON."""
    if request.content_type != "application/json" or "Content-Type" not in request.headers:
        raise requests.unsupported()
    return await request.read()


async def version(_: web.Request) -> web.Response:
    return respond(200, {"version": replies.VERSION})


async def missing(_: web.Request) -> web.Response:
    return respond(404, {"detail": "Not Found"})


def misused(method: str) -> Route:
    """The answer to any method but the right one."""

    async def refuse(_: web.Request) -> web.Response:
        return respond(405, {"detail": "Method Not Allowed"}, Allow=method)

    return refuse
