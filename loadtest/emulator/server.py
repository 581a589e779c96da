"""One emulated backend: an HTTP server that speaks vLLM's API.

Owns the routes and the connections. `planner.engine.batching` says when a token exists,
`emulator.clock` sends it then, `emulator.replies` makes its bytes. Real time, never scaled.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Literal

from aiohttp import web
from aiohttp.http import HttpVersion11

from loadtest.emulator import faults, refusals, replies, requests
from loadtest.emulator.clock import EmulatedExchange, EngineClock
from loadtest.emulator.faults import Faults
from loadtest.emulator.framework import (
    HEADERS,
    JSON_HEADERS,
    SSE_HEADERS,
    Route,
    error_events,
    error_response,
    json_response,
    method_not_allowed,
    not_found,
    read_json_body,
    unauthorized,
    version,
)
from loadtest.emulator.kv_publisher import KvPublisher
from loadtest.emulator.metrics import VllmMetrics
from loadtest.emulator.other_metrics import PAGES
from loadtest.emulator.prefix_cache import BLOCK_TOKENS, PrefixCache
from loadtest.emulator.refusals import JsonObject, RequestRefused
from loadtest.emulator.requests import Api
from loadtest.emulator.served import EmulatedModel
from loadtest.emulator.slumber import Slumber
from loadtest.emulator.streams import whole_body
from loadtest.emulator.text_routes import text_routes
from planner.engine.batching import Engine
from planner.engine.profiles import Profile

KEEPALIVE_S = 5.0  # uvicorn's default: vLLM closes an idle connection after it
MAX_BODY_BYTES = 64 * 2**20
SHUTDOWN_S = 0.1  # connections are aborted by then; what is left is aiohttp's own bookkeeping
METRICS_HEADERS = {**HEADERS, "Content-Type": "text/plain; version=1.0.0; charset=utf-8"}
# vLLM makes a message from a chat, and leaves the chat's id.
ID_PREFIXES: dict[Api, str] = {
    "chat": "chatcmpl-", "text": "cmpl-", "embedding": "embd-", "response": "resp_",
    "message": "chatcmpl-",
}  # fmt: skip
OBJECTS: dict[Api, str] = {
    "chat": "chat.completion", "text": "text_completion", "embedding": "list",
    "response": "response", "message": "message",
}  # fmt: skip
GENERATIONS: tuple[tuple[str, Api], ...] = (
    ("/v1/chat/completions", "chat"), ("/v1/completions", "text"), ("/v1/responses", "response"),
    ("/v1/messages", "message"),
)  # fmt: skip
Task = Literal["generate", "embed", "both"]
# Events that the front end of a vLLM on one fast core makes in an iteration of ten milliseconds;
# the number is chosen, not measured.
EVENTS_PER_STEP = 64


class Emulator:
    """A vLLM server without a GPU: `port = await emulator.start()`, then `await emulator.stop()`.

    model: the name it serves; aliases: further ones. loras, image_tokens, tool_parser, force_usage:
    as in `EmulatedModel`. max_num_queued_reqs: with so many requests running or waiting it refuses
    more (vLLM's flag; `None`: an unbounded queue, vLLM's default). api_key: without it paths below
    /v1 get 401, as in vLLM. prefix_cache: whether the beginnings of earlier prompts are not
    computed again; tells_hits: whether the usage tells it. events_per_step: as in `EngineClock`.
    load_tracking: whether `/load` counts; vLLM's says 0 without its flag. task: what there is a
    path for; "both", which no vLLM has, is for those that want one engine for everything.
    sleep_mode: whether it can be put to sleep. engine: whose metrics it shows; those of "sglang"
    and "tgi", else vLLM's. kv_publisher: of its cache. All state lives in the instance.
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
        tells_hits: bool = True,
        aliases: Sequence[str] = (),
        loras: Sequence[str] = (),
        image_tokens: int | None = None,
        tool_parser: bool = False,
        force_usage: bool = False,
        events_per_step: int = EVENTS_PER_STEP,
        load_tracking: bool = False,
        task: Task = "generate",
        sleep_mode: bool = False,
        engine: str = "vllm",
        kv_publisher: KvPublisher | None = None,
    ) -> None:
        self.engine = Engine(profile)
        self.served = EmulatedModel(
            names=(model, *aliases),
            max_model_len=self.engine.longest,
            loras=tuple(loras),
            image_tokens=image_tokens,
            tool_parser=tool_parser,
            force_usage=force_usage,
            tells_hits=tells_hits,
        )
        self._cache = PrefixCache(profile.kv_capacity // BLOCK_TOKENS) if prefix_cache else None
        self._kv_publisher = kv_publisher
        if self._cache is not None:
            self._cache.listener = kv_publisher
        self._slumber = Slumber()
        self.metrics = VllmMetrics(
            self.engine, self.served, profile.kv_capacity, self._cache, self._slumber
        )
        self._page = PAGES[engine](self.metrics).page if engine in PAGES else self.metrics.page
        self._task, self._sleep_mode = task, sleep_mode
        self.model = model
        self._events_per_step = events_per_step
        self._load_tracking = load_tracking
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
        self._clock = EngineClock(self.engine, self.metrics, self._events_per_step)
        self.metrics.adapters = self._clock.adapters
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
        if self._kv_publisher is not None:
            self._kv_publisher.start(host)
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
        if self._kv_publisher is not None:
            self._kv_publisher.stop()
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._guard])
        for method, path, route in (
            *(("POST", path, self._generation(api)) for path, api in self._paths()),
            *(("POST", path, route) for path, route in text_routes(self.served)),
            ("GET", "/v1/models", self._models),
            ("GET", "/health", self._health),
            ("GET", "/ping", self._health),
            ("GET", "/load", self._load),
            ("GET", "/version", version),
            ("GET", "/metrics", self._metrics),
            *(self._sleep_routes() if self._sleep_mode else ()),
        ):
            resource = app.router.add_resource(path)
            resource.add_route(method, route)
            resource.add_route("*", method_not_allowed(method))
        app.router.add_route("*", "/{tail:.*}", not_found)
        return app

    def _paths(self) -> Iterator[tuple[str, Api]]:
        """What the model can do: vLLM has no route for the rest."""
        if self._task != "embed":
            yield from GENERATIONS
        if self._task != "generate":
            yield "/v1/embeddings", "embedding"

    def _sleep_routes(self) -> Iterator[tuple[str, str, Route]]:
        yield "POST", "/sleep", self._sleep
        yield "POST", "/wake_up", self._wake_up
        yield "GET", "/is_sleeping", self._is_sleeping

    @web.middleware
    async def _guard(self, request: web.Request, handler: Route) -> web.StreamResponse:
        """Let requests with the key pass, and those to paths that need none."""
        known = self._authorization in (None, request.headers.get("Authorization"))
        if known or not request.path.startswith("/v1"):
            return await handler(request)
        return unauthorized()

    def _generation(self, api: Api) -> Route:
        async def generate(request: web.Request) -> web.StreamResponse:
            hit = self._faults.hits(next(self._numbers))
            fault = self._faults if hit else faults.NONE
            try:
                exchange = await self._read(request, api, fault)
            except RequestRefused as refused:
                return error_response(refused, api)
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
        generation = requests.read_request(raw, api, self.served, self._cache)
        self._check_room()  # before the head: a stream is refused as a whole answer is
        object_type = OBJECTS[api] + (".chunk" if api == "chat" and generation.stream else "")
        # vLLM puts the client's x-request-id into the body's id; the response header needs a flag
        # (--enable-request-id-headers) that is off by default.
        number = request.headers.get("x-request-id") or secrets.token_hex(8)
        head: JsonObject = {
            "id": f"{ID_PREFIXES[api]}{number}",
            "object": object_type,
            "created": int(time.time()),
            "model": generation.model,
        }
        return EmulatedExchange(generation, head, fault, transport, self._loop.create_future())

    def _check_room(self) -> None:
        """Refuse at the admission limit: vLLM counts running and waiting requests."""
        queued = self.engine.running + self.metrics.waiting
        if self._max_queued is not None and queued >= self._max_queued:
            self.metrics.rejected += 1
            raise refusals.overloaded()

    async def _front_end(self) -> None:
        """Wait as long as the engine's front end takes, all of it before the first token, and until
        the engine is awake."""
        if self.engine.delay_s:
            await asyncio.sleep(self.engine.delay_s)
        await self._slumber.over()

    async def _unary(self, exchange: EmulatedExchange) -> web.StreamResponse:
        try:
            await self._front_end()
            self._clock.submit(exchange)
            await exchange.done
        except RequestRefused as refused:
            return error_response(refused, exchange.generation.api)
        finally:
            self._clock.abort(exchange)
        body = whole_body(exchange.generation, exchange.head)
        return web.Response(body=body, headers=JSON_HEADERS)

    async def _stream(self, request: web.Request, exchange: EmulatedExchange) -> web.StreamResponse:
        response = web.StreamResponse(headers=SSE_HEADERS)
        await response.prepare(request)  # vLLM sends the head before the first token
        try:
            await self._front_end()
            self._clock.submit(exchange, chunked=request.version >= HttpVersion11)
            await exchange.done
        except RequestRefused as refused:  # the engine broke
            for event in error_events(refused, exchange.generation.api):
                await response.write(event)
        finally:
            self._clock.abort(exchange)
        await response.write_eof()
        return response

    async def _models(self, _: web.Request) -> web.Response:
        body = replies.models_body(self.served, int(time.time()))
        return web.Response(body=body, headers=JSON_HEADERS)

    async def _health(self, _: web.Request) -> web.Response:
        ready = self._loop.time() >= self._ready_s
        return web.Response(status=200 if ready else 503, headers=HEADERS)

    async def _metrics(self, _: web.Request) -> web.Response:
        self._clock.advance()  # gauges are read from the engine: bring it up to now first
        return web.Response(body=self._page(), headers=METRICS_HEADERS)

    async def _sleep(self, request: web.Request) -> web.Response:
        """Fall asleep; what is under way ends, or by `mode=wait` is finished first."""
        if request.query.get("mode", "abort") == "abort":
            self._clock.give_up()
        while self._clock.exchanges:
            await asyncio.wait([exchange.done for exchange in self._clock.exchanges])
        self._slumber.begin(2 if request.query.get("level") == "2" else 1)
        if self._cache is not None:
            self._cache.clear()
        return web.Response(headers=HEADERS)

    async def _wake_up(self, request: web.Request) -> web.Response:
        self._slumber.wake(request.query.getall("tags", []))
        return web.Response(headers=HEADERS)

    async def _is_sleeping(self, _: web.Request) -> web.Response:
        return json_response(200, {"is_sleeping": self._slumber.level is not None})

    async def _load(self, _: web.Request) -> web.Response:
        load = self.engine.running + self.metrics.waiting if self._load_tracking else 0
        return json_response(200, {"server_load": load})
