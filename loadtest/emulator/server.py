"""One emulated backend: an HTTP server that speaks vLLM's API.

Owns the routes and the connections. `planner.engine.batching` says when a token exists,
`emulator.clock` sends it then, `emulator.replies` makes its bytes. Real time, never scaled.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from aiohttp.http import HttpVersion11

from loadtest.emulator import faults, refusals, replies, requests
from loadtest.emulator.clock import EmulatedExchange, EngineClock
from loadtest.emulator.faults import Faults
from loadtest.emulator.metrics import VllmMetrics
from loadtest.emulator.prefix_cache import BLOCK_TOKENS, PrefixCache
from loadtest.emulator.refusals import JsonObject, RequestRefused
from loadtest.emulator.requests import Api
from planner.engine.batching import Engine
from planner.engine.profiles import Profile

KEEPALIVE_S = 5.0  # uvicorn's default: vLLM closes an idle connection after it
MAX_BODY_BYTES = 64 * 2**20
SHUTDOWN_S = 0.1  # connections are aborted by then; what is left is aiohttp's own bookkeeping
HEADERS = {"Server": "uvicorn", "Vary": "Origin"}
JSON_HEADERS = {**HEADERS, "Content-Type": "application/json"}
SSE_HEADERS = {**HEADERS, "Content-Type": "text/event-stream; charset=utf-8"}
METRICS_HEADERS = {**HEADERS, "Content-Type": "text/plain; version=1.0.0; charset=utf-8"}
ID_PREFIXES = {"chat": "chatcmpl", "text": "cmpl", "embedding": "embd"}
OBJECTS = {"chat": "chat.completion", "text": "text_completion", "embedding": "list"}

Route = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Emulator:
    """A vLLM server without a GPU: `port = await emulator.start()`, then `await emulator.stop()`.

    model: the name it serves. max_num_queued_reqs: with so many requests running or waiting it
    refuses more (vLLM's flag; `None`: an unbounded queue, vLLM's default). api_key: without it
    paths below /v1 get 401, as in vLLM. prefix_cache: whether the beginnings of earlier prompts are
    not computed again, and told in the usage. All state lives in the instance, so several emulators
    share a process.
    """

    def __init__(
        self,
        profile: Profile,
        model: str,
        *,
        faults: Faults = faults.NONE,
        max_num_queued_reqs: int | None = None,
        api_key: str | None = None,
        prefix_cache: bool = False,
    ) -> None:
        self.engine = Engine(profile)
        self._cache = PrefixCache(profile.kv_capacity // BLOCK_TOKENS) if prefix_cache else None
        self.metrics = VllmMetrics(self.engine, model, profile.kv_capacity, self._cache)
        self.model = model
        self.port = 0
        self._faults = faults
        self._max_queued = max_num_queued_reqs
        self._authorization = None if api_key is None else f"Bearer {api_key}"
        self._numbers = itertools.count(1)
        self._ready_s = 0.0
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop
        self._clock: EngineClock
        self._runner: web.AppRunner
        self._listener: asyncio.Server

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port. Raises OSError if the address cannot be bound."""
        self._loop = asyncio.get_running_loop()
        self._clock = EngineClock(self.engine, self.metrics)
        self._ready_s = self._loop.time() + self._faults.start_delay_s
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            handler_cancellation=True,  # a closed connection aborts its request, as in vLLM
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=SHUTDOWN_S,
        )
        await self._runner.setup()
        assert self._runner.server is not None
        # A listener of our own, not aiohttp's TCPSite: `crash` must close it at once.
        self._listener = await self._loop.create_server(self._runner.server, host, port)
        self.port = int(self._listener.sockets[0].getsockname()[1])
        return self.port

    async def stop(self) -> None:
        """Close the listener and every connection, and wait for aiohttp to clean up."""
        self.crash()
        await self._runner.cleanup()

    async def terminate(self) -> None:
        """Do what SIGTERM does by `Faults.on_term`; returns when no request is under way."""
        way = self._faults.on_term
        if way == "drain":
            self._stopping = True
            while self._clock.exchanges:
                await asyncio.wait([exchange.done for exchange in self._clock.exchanges])
        elif way == "hang":
            self._listener.close()
            self._clock.close()
            await self._loop.create_future()
        elif way == "abort":
            self._listener.close()
            self._stopping = True
            self._clock.give_up()
            await asyncio.sleep(SHUTDOWN_S)  # for the answers to be written

    def crash(self) -> None:
        """Die as a killed process does: listener and connections are gone at once."""
        self._listener.close()
        self._clock.close()
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guard])
        for method, path, route in (
            ("POST", "/v1/chat/completions", self._generation("chat")),
            ("POST", "/v1/completions", self._generation("text")),
            ("POST", "/v1/embeddings", self._generation("embedding")),
            ("POST", "/tokenize", self._tokenize),
            ("GET", "/v1/models", self._models),
            ("GET", "/health", self._health),
            ("GET", "/ping", self._health),
            ("GET", "/version", version),
            ("GET", "/metrics", self._metrics),
        ):
            resource = app.router.add_resource(path)
            resource.add_route(method, route)
            resource.add_route("*", method_not_allowed(method))
        app.router.add_route("*", "/{tail:.*}", not_found)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Route) -> web.StreamResponse:
        """Let requests with the key pass, and those to paths that need none."""
        known = self._authorization in (None, request.headers.get("Authorization"))
        if known or not request.path.startswith("/v1"):
            return await handler(request)
        return json_response(401, {"error": "Unauthorized"})

    def _generation(self, api: Api) -> Route:
        async def generate(request: web.Request) -> web.StreamResponse:
            hit = self._faults.hits(next(self._numbers))
            fault = self._faults if hit else faults.NONE
            try:
                exchange = await self._read(request, api, fault)
            except RequestRefused as refused:
                return error_response(refused)
            if exchange is None:
                return web.Response()
            if exchange.generation.stream:
                return await self._stream(request, exchange)
            return await self._unary(exchange)

        return generate

    async def _read(self, request: web.Request, api: Api, fault: Faults) -> EmulatedExchange | None:
        """The exchange that a request opens; `None` if its connection is closed, or dies here."""
        raw = await read_json_body(request)
        transport = request.transport
        if transport is None or fault.die_before_headers:
            if transport is not None:
                transport.close()
            return None
        if fault.status == 500 or self._stopping:
            raise refusals.engine_dead()
        if fault.status == 503 or self._loop.time() < self._ready_s:
            raise refusals.overloaded()
        generation = requests.read_request(
            raw, api, model=self.model, max_model_len=self.engine.longest, cache=self._cache
        )
        object_type = OBJECTS[api] + (".chunk" if api == "chat" and generation.stream else "")
        # vLLM puts the client's x-request-id into the body's id; the response header needs a flag
        # (--enable-request-id-headers) that is off by default.
        number = request.headers.get("x-request-id") or secrets.token_hex(8)
        head: JsonObject = {
            "id": f"{ID_PREFIXES[api]}-{number}",
            "object": object_type,
            "created": int(time.time()),
            "model": self.model,
        }
        return EmulatedExchange(generation, head, fault, transport, self._loop.create_future())

    @property
    def _full(self) -> bool:
        """Whether the admission limit is reached: vLLM counts running and waiting requests."""
        queued = self.engine.running + self.engine.waiting
        return self._max_queued is not None and queued >= self._max_queued

    async def _front_end(self) -> None:
        """Wait as long as the engine's front end takes, all of it before the first token."""
        if self.engine.delay_s:
            await asyncio.sleep(self.engine.delay_s)

    async def _unary(self, exchange: EmulatedExchange) -> web.StreamResponse:
        if self._full:
            return error_response(refusals.overloaded())
        await self._front_end()
        self._clock.submit(exchange)
        try:
            await exchange.done
        except RequestRefused as refused:
            return error_response(refused)
        finally:
            self._clock.abort(exchange)
        body = replies.unary_body(exchange.generation, exchange.head)
        return web.Response(body=body, headers=JSON_HEADERS)

    async def _stream(self, request: web.Request, exchange: EmulatedExchange) -> web.StreamResponse:
        response = web.StreamResponse(headers=SSE_HEADERS)
        await response.prepare(request)  # vLLM sends the head before the first token,
        if self._full:  # so it can refuse a stream only inside a 200, by an error event
            await response.write(replies.error_event(refusals.overloaded()))
            await response.write_eof(replies.DONE)
            return response
        await self._front_end()
        self._clock.submit(exchange, chunked=request.version >= HttpVersion11)
        try:
            await exchange.done
        except RequestRefused as refused:
            await response.write(replies.error_event(refused))
            await response.write(replies.DONE)
        finally:
            self._clock.abort(exchange)
        await response.write_eof()
        return response

    async def _models(self, _: web.Request) -> web.Response:
        body = replies.models_body(self.model, self.engine.longest, int(time.time()))
        return web.Response(body=body, headers=JSON_HEADERS)

    async def _health(self, _: web.Request) -> web.Response:
        ready = self._loop.time() >= self._ready_s
        return web.Response(status=200 if ready else 503, headers=HEADERS)

    async def _metrics(self, _: web.Request) -> web.Response:
        self._clock.advance()  # gauges are read from the engine: bring it up to now first
        return web.Response(body=self.metrics.page(), headers=METRICS_HEADERS)

    async def _tokenize(self, request: web.Request) -> web.Response:
        try:
            body = requests.decode_body(await read_json_body(request))
            return json_response(
                200, requests.tokenize_answer(body, self.model, self.engine.longest)
            )
        except RequestRefused as refused:
            return error_response(refused)


def json_response(status: int, value: object, **headers: str) -> web.Response:
    """A JSON answer with vLLM's headers."""
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, headers=JSON_HEADERS | headers)


def error_response(refused: RequestRefused) -> web.Response:
    """A refusal as an HTTP answer."""
    return json_response(refused.status, refused.body)


async def read_json_body(request: web.Request) -> bytes:
    """The body. Raises RequestRefused unless it is declared as JSON."""
    if request.content_type != "application/json":  # absent: aiohttp says application/octet-stream
        raise refusals.not_json()
    return await request.read()


async def version(_: web.Request) -> web.Response:
    return json_response(200, {"version": replies.VERSION})


async def not_found(_: web.Request) -> web.Response:
    return json_response(404, {"detail": "Not Found"})


def method_not_allowed(allowed: str) -> Route:
    """The answer to every method of a path but the allowed one."""

    async def refuse(_: web.Request) -> web.Response:
        return json_response(405, {"detail": "Method Not Allowed"}, Allow=allowed)

    return refuse
