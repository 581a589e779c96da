"""One emulated backend: an HTTP server that speaks vLLM's API.

Owns the routes and the connections. `planner.engine.batching` says when a token exists,
`emulator.clock` sends it then, `emulator.replies` makes its bytes. Real time, never scaled.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Sequence

from aiohttp import web
from aiohttp.http import HttpVersion11

from loadtest.emulator import dialects, faults, prompts, refusals, replies, requests, tokenizer
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
    version,
)
from loadtest.emulator.metrics import VllmMetrics
from loadtest.emulator.prefix_cache import BLOCK_TOKENS, PrefixCache
from loadtest.emulator.refusals import JsonObject, RequestRefused
from loadtest.emulator.requests import Api
from loadtest.emulator.served import EmulatedModel
from loadtest.emulator.streams import whole_body
from loadtest.emulator.words import WORDS
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
# Events that the front end of a vLLM on one fast core makes in an iteration of ten milliseconds;
# the number is chosen, not measured.
EVENTS_PER_STEP = 64


class Emulator:
    """A vLLM server without a GPU: `port = await emulator.start()`, then `await emulator.stop()`.

    model: the name it serves; aliases: further ones. loras, image_tokens, tool_parser,
    force_usage: as in `EmulatedModel`. max_num_queued_reqs: with so many requests running or
    waiting it refuses more (vLLM's flag; `None`: an unbounded queue, vLLM's default). api_key:
    without it paths below /v1 get 401, as in vLLM. prefix_cache: whether the beginnings of earlier
    prompts are not computed again, and told in the usage. events_per_step: as in `EngineClock`.
    load_tracking: whether `/load` counts; vLLM's says 0 without its flag. All state lives in the
    instance, so several emulators share a process.
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
        aliases: Sequence[str] = (),
        loras: Sequence[str] = (),
        image_tokens: int | None = None,
        tool_parser: bool = False,
        force_usage: bool = False,
        events_per_step: int = EVENTS_PER_STEP,
        load_tracking: bool = False,
    ) -> None:
        self.engine = Engine(profile)
        self.served = EmulatedModel(
            names=(model, *aliases),
            max_model_len=self.engine.longest,
            loras=tuple(loras),
            image_tokens=image_tokens,
            tool_parser=tool_parser,
            force_usage=force_usage,
        )
        self._cache = PrefixCache(profile.kv_capacity // BLOCK_TOKENS) if prefix_cache else None
        self.metrics = VllmMetrics(self.engine, self.served, profile.kv_capacity, self._cache)
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
            ("POST", "/v1/responses", self._generation("response")),
            ("POST", "/v1/messages", self._generation("message")),
            ("POST", "/v1/messages/count_tokens", self._about(self._count_tokens)),
            ("POST", "/tokenize", self._about(self._tokenize)),
            ("POST", "/detokenize", self._about(self._detokenize)),
            ("GET", "/v1/models", self._models),
            ("GET", "/health", self._health),
            ("GET", "/ping", self._health),
            ("GET", "/load", self._load),
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
        queued = self.engine.running + self.engine.waiting
        if self._max_queued is not None and queued >= self._max_queued:
            self.metrics.rejected += 1
            raise refusals.overloaded()

    async def _front_end(self) -> None:
        """Wait as long as the engine's front end takes, all of it before the first token."""
        if self.engine.delay_s:
            await asyncio.sleep(self.engine.delay_s)

    async def _unary(self, exchange: EmulatedExchange) -> web.StreamResponse:
        try:
            self._check_room()
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
        await response.prepare(request)  # vLLM sends the head before the first token,
        try:
            self._check_room()  # so it can refuse a stream only inside a 200, by an error event
            await self._front_end()
            self._clock.submit(exchange, chunked=request.version >= HttpVersion11)
            await exchange.done
        except RequestRefused as refused:
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
        return web.Response(body=self.metrics.page(), headers=METRICS_HEADERS)

    async def _load(self, _: web.Request) -> web.Response:
        load = self.engine.running + self.engine.waiting if self._load_tracking else 0
        return json_response(200, {"server_load": load})

    def _tokenize(self, body: JsonObject) -> JsonObject:
        return tokenizer.tokenize_answer(body, self.served)

    def _detokenize(self, body: JsonObject) -> JsonObject:
        return tokenizer.detokenize_answer(body, self.served, tuple(map(str.strip, WORDS)))

    def _count_tokens(self, body: JsonObject) -> JsonObject:
        chat = dialects.counted_chat(body)
        (tokens,) = prompts.chat_prompt(chat, self.served)
        self.served.answering(chat)
        count = len(tokens)
        return {"input_tokens": count, "context_management": {"original_input_tokens": count}}

    def _about(self, answer: Callable[[JsonObject], JsonObject]) -> Route:
        """A path that says something of a text and generates nothing."""

        async def say(request: web.Request) -> web.Response:
            api: Api = "message" if request.path.startswith("/v1/messages") else "text"
            try:
                body = requests.decode_body(await read_json_body(request))
                return json_response(200, answer(body))
            except RequestRefused as refused:
                return error_response(refused, api)

        return say
