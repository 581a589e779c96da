"""One emulated backend: an HTTP server that speaks vLLM's API, and the command that runs it.

Owns the routes and the connections. When a token exists is `planner.engine`'s business, that it is
sent then `loadtest.pacer`'s, what its bytes are `loadtest.wire`'s. Real time, never scaled.
"""

import asyncio
import dataclasses
import itertools
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import click
import msgspec
import uvloop
from aiohttp import web
from aiohttp.http import HttpVersion11

from loadtest import asks, faults, wire
from loadtest.asks import Body, Kind, Refused
from loadtest.faults import Faults
from loadtest.pacer import Exchange, Pacer
from loadtest.vllm_metrics import VllmMetrics
from planner.engine import Engine
from planner.errors import PlannerError
from planner.hardware import ENGINES, GPUS, MODELS
from planner.profiles import Profile, ProfileFile, build
from planner.profiles import read as read_profile

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
        self._pacer: Pacer
        self._runner: web.AppRunner
        self._listener: asyncio.Server

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listens; returns the port. Raises OSError where it cannot."""
        self._loop = asyncio.get_running_loop()
        self._pacer = Pacer(self.engine, self.metrics)
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
        self._pacer.close()
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
            except Refused as refused:
                return refusal(refused)
            if exchange is None:
                return web.Response()
            return await (self._stream if exchange.ask.stream else self._unary)(request, exchange)

        return generate

    async def _read(self, request: web.Request, kind: Kind, fault: Faults) -> Exchange | None:
        """The exchange that a request opens; `None` for a connection without a future."""
        raw = await payload(request)
        transport = request.transport
        if transport is None or fault.die_before_headers:
            if transport is not None:
                transport.close()
            return None
        if fault.status == 500:
            raise asks.broken()
        if fault.status == 503 or self._loop.time() < self._ready_s:
            raise asks.busy()
        ask = asks.read(raw, kind, model=self.model, longest=self.engine.longest)
        name = OBJECTS[kind] + (".chunk" if kind == "chat" and ask.stream else "")
        number = request.headers.get("x-request-id") or secrets.token_hex(8)
        head: Body = {"id": f"{IDS[kind]}-{number}", "object": name, "created": int(time.time())}
        head["model"] = self.model
        return Exchange(ask, head, fault, transport, self._loop.create_future())

    @property
    def _full(self) -> bool:
        queued = self.engine.running + self.engine.waiting
        return self._most is not None and queued >= self._most

    async def _unary(self, _: web.Request, exchange: Exchange) -> web.StreamResponse:
        if self._full:
            return refusal(asks.busy())
        self._pacer.submit(exchange)
        try:
            await exchange.done
        except Refused as refused:
            return refusal(refused)
        finally:
            self._pacer.drop(exchange)
        return web.Response(body=wire.answer(exchange.ask, exchange.head), headers=JSON)

    async def _stream(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        response = web.StreamResponse(headers=SSE)
        await response.prepare(request)  # vLLM sends the head before the first token
        if self._full:  # and says only then that it is too busy
            await response.write(wire.error_event(asks.busy()))
            await response.write_eof(wire.DONE)
            return response
        self._pacer.submit(exchange, chunked=request.version >= HttpVersion11)
        try:
            await exchange.done
        except Refused as refused:
            await response.write(wire.error_event(refused))
            await response.write(wire.DONE)
        finally:
            self._pacer.drop(exchange)
        await response.write_eof()
        return response

    async def _models(self, _: web.Request) -> web.Response:
        body = wire.models(self.model, self.engine.longest, int(time.time()))
        return web.Response(body=body, headers=JSON)

    async def _health(self, _: web.Request) -> web.Response:
        ready = self._loop.time() >= self._ready_s
        return web.Response(status=200 if ready else 503, headers=PLAIN)

    async def _page(self, _: web.Request) -> web.Response:
        self._pacer.settle()
        return web.Response(body=self.metrics.page(), headers=METRICS)

    async def _tokenize(self, request: web.Request) -> web.Response:
        try:
            body = asks.decode(await payload(request))
            return respond(200, asks.tokenized(body, self.model, self.engine.longest))
        except Refused as refused:
            return refusal(refused)


def respond(status: int, value: object, **headers: str) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), headers=JSON | headers)


def refusal(refused: Refused) -> web.Response:
    return respond(refused.status, refused.body)


async def payload(request: web.Request) -> bytes:
    """The body, which has to be declared as JSON."""
    if request.content_type != "application/json" or "Content-Type" not in request.headers:
        raise asks.unsupported()
    return await request.read()


async def version(_: web.Request) -> web.Response:
    return respond(200, {"version": wire.VERSION})


async def missing(_: web.Request) -> web.Response:
    return respond(404, {"detail": "Not Found"})


def misused(method: str) -> Route:
    """The answer to any method but the right one."""

    async def refuse(_: web.Request) -> web.Response:
        return respond(405, {"detail": "Method Not Allowed"}, Allow=method)

    return refuse


async def serve(emulator: Emulator, host: str, port: int) -> None:
    """Runs until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await emulator.start(host, port)
    click.echo(f"{emulator.model} on http://{host}:{emulator.port}")
    await stopped.wait()
    await emulator.stop()


def whole(least: int) -> click.IntRange:
    return click.IntRange(min=least)


@click.command()
@click.option("--model", type=click.Choice(tuple(MODELS)), help="Model to emulate.")
@click.option("--gpu", type=click.Choice(tuple(GPUS)), help="GPU type to emulate.")
@click.option(
    "--profile",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Profile file, instead of --model, --gpu and the engine's limits.",
)
@click.option("--engine", type=click.Choice(tuple(ENGINES)), help="Host costs and defaults of.")
@click.option("--dtype", type=click.Choice(("fp16", "bf16", "fp8")), help="Weights and KV.")
@click.option("--tensor-parallel-size", type=whole(1), help="GPUs per engine.")
@click.option("--max-num-seqs", type=whole(1), help="Most requests in the batch.")
@click.option("--max-num-batched-tokens", type=whole(1), help="Tokens per iteration.")
@click.option("--max-model-len", type=whole(2), help="Longest context, prompt and output.")
@click.option("--max-num-queued-reqs", type=whole(0), help="Refuse (503) beyond so many requests.")
@click.option("--served-model-name", help="Name in the API.  [default: the model's]")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, help="0: any free one; it is printed.")
@click.option("--start-delay", "start_delay_s", default=0.0, help="Fault: seconds until ready.")
@click.option("--every", default=1, help="Faults hit every N-th request.", show_default=True)
@click.option("--status", type=click.Choice(("500", "503")), help="Fault: answer with an error.")
@click.option("--die-before-headers", is_flag=True, help="Fault: close without an answer.")
@click.option("--die-after", type=whole(0), help="Fault: close after N tokens.")
@click.option("--stall-after", type=whole(0), help="Fault: go silent after N tokens, stay open.")
@click.option("--error-after", type=whole(0), help="Fault: error event after N tokens.")
@click.option("--trickle", is_flag=True, help="Fault: streams one byte at a time.")
def emulate(
    host: str,
    port: int,
    path: Path | None,
    served_model_name: str | None,
    max_num_queued_reqs: int | None,
    **options: Any,
) -> None:
    """Runs one emulated vLLM backend: the real API at the pace of the engine model, without a GPU.

    \b
    cuvee emulate --model Llama-3-8B --gpu H100 --port 8001
    curl localhost:8001/v1/completions -H 'content-type: application/json' -d
      '{"prompt": "hello", "max_tokens": 9, "stream": true}'

    Tokens are words. A request says with "vllm_xargs": {"output_tokens": N} after how many tokens
    the model stops by itself; otherwise that follows from the body. Prefix caching, sampling
    parameters, tools and n > 1 are not emulated.
    """
    names = {field.name for field in dataclasses.fields(Faults)} - {"status"}
    fault = {name: options.pop(name) for name in names}
    status: Literal[500, 503] | None = {"500": 500, "503": 503, None: None}[options.pop("status")]
    try:
        shape, name = described(path, options)
        emulator = Emulator(
            shape,
            served_model_name or name,
            faults=Faults(status=status, **fault),
            max_num_queued_reqs=max_num_queued_reqs,
        )
        uvloop.run(serve(emulator, host, port))
    except (PlannerError, OSError) as error:
        raise click.ClickException(str(error)) from error


def described(path: Path | None, options: Body) -> tuple[Profile, str]:
    """The profile and the model's name, from a profile file or from single options."""
    given = {name: value for name, value in options.items() if value is not None}
    if path is not None:
        if given:
            raise click.UsageError(f"--profile excludes {', '.join(sorted(given))}")
        profile = read_profile(path)
        return profile, profile.roofline.model.name
    if "model" not in given or "gpu" not in given:
        raise click.UsageError("give --model and --gpu, or --profile")
    profile = build(ProfileFile(format="cuvee-profile/1", origin="analytic", **given))
    return profile, profile.roofline.model.name
