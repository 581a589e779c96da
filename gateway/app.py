"""The composition root: builds every object, wires them, starts and stops them. Knows all of them.

The HTTP surface is a table of paths; the hot ones go to the exchange, the rest answer from state.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from uuid import uuid4

import msgspec

from gateway.certification import sealed
from gateway.config import Loaded
from gateway.control.health import Health
from gateway.control.histogram import Histogram
from gateway.control.probe import Probe
from gateway.control.replan import Policy, Replanner
from gateway.control.solver import Solver
from gateway.errors import GatewayError, MethodNotAllowed, NotFound, Unavailable
from gateway.history import demand_of
from gateway.proxy.answers import error_head
from gateway.proxy.exchange import PATHS, Exchange
from gateway.proxy.heads import field, status_line
from gateway.proxy.inbound import Bounds, Inbound, Request
from gateway.proxy.listener import Listener
from gateway.proxy.queue import Queue
from gateway.proxy.upstream import Upstream
from gateway.routing.backend import Backend, Fleet
from gateway.routing.lengths import Lengths
from gateway.routing.observation import Observation, Outcome
from gateway.routing.router import Router
from gateway.routing.table import compile_table
from gateway.routing.tally import Tally
from gateway.routing.tokens import Tokens
from gateway.telemetry.metrics import CONTENT_TYPE, Metrics
from planner import workload
from planner.model import Demand, Plan, Pool
from planner.report import plan_json

log = logging.getLogger("cuvee")

TICK_S = 0.2  # between two looks at what is overdue
JSON = "application/json"
Answer = tuple[int, str, bytes]  # status, content type, body


class App:
    """One gateway process; an async context manager that serves while it is open."""

    def __init__(self, loaded: Loaded, *, host: str | None = None, port: int | None = None) -> None:
        """host, port: instead of the configured ones; port 0 takes a free one."""
        config = loaded.config
        self._loaded = loaded
        self._settings = config.gateway
        self._started = int(time.time())
        self._leaving = self._draining = False
        self._reason = "the gateway started"
        self._fleet = Fleet({name: pool.backends for name, pool in config.pools.items()})
        self._tokens = Tokens({name: m.bytes_per_token for name, m in config.models.items()})
        self._lengths = Lengths()
        self._metrics = Metrics(self._fleet)
        self._tally = Tally()
        self._solver = Solver(limit_s=config.planner.solve_limit_s, certifier=sealed)
        self._stack = AsyncExitStack()
        self.host = host or self._settings.host
        self.port = self._settings.port if port is None else port

    async def __aenter__(self) -> "App":
        await self._stack.__aenter__()
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drains: not ready at once, still serving for a while so that balancers notice, then no
        new requests; running ones may finish, and everything stops."""
        self._leaving = True
        await asyncio.sleep(self._settings.drain_delay_s)
        self._draining = True
        await self._stack.aclose()

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._replanner.plan

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The planner's pools, in the order of every plan."""
        return self._loaded.pools

    @property
    def queue(self) -> Queue:
        """Where requests wait when everything is full."""
        return self._exchange.queue

    def lost(self, backend: Backend) -> None:
        """A backend no longer answers probes: nothing waits for its first byte any more."""
        self._exchange.lost(backend)

    async def _start(self) -> None:
        clock = asyncio.get_running_loop().time
        self._stack.enter_context(self._solver)
        upstream = await self._stack.enter_async_context(
            Upstream(connect_timeout_s=self._settings.connect_timeout_s)
        )
        probe = await self._stack.enter_async_context(Probe())
        self._histogram = self._new_histogram(clock())
        plan = await self._first_plan()
        self.router = Router(
            compile_table(plan, self.pools), self._fleet, max_load=self._settings.max_load
        )
        self._exchange = Exchange(
            router=self.router,
            tokens=self._tokens,
            lengths=self._lengths,
            upstream=upstream,
            settings=self._settings,
            arrived=self._tally.arrived,
            observe=self._observe,
            clock=clock,
        )
        self._replanner = self._new_replanner(plan)
        self._metrics.planned(plan)
        self._health = Health(
            self._fleet,
            partial(probe.answers, timeout_s=self._settings.health_timeout_s),
            looked=self.queue.wake,  # a backend may be back, or an engine have room again
            lost=self.lost,
        )
        await self._health.look()
        self._background(self._health.run(self._settings.health_interval_s))
        self._background(self._replanner.run(self._loaded.config.planner.interval_s, clock))
        await self._listen()

    async def _first_plan(self) -> Plan:
        """For the configured workload, or for no known demand: then all backends share it."""
        loaded = self._loaded
        if loaded.workload is None:
            unknown = Demand.even(loaded.space)
            return await self._solver.plan("assign", unknown, loaded.pools, self._running)
        trace = workload.read(loaded.workload)
        demand = demand_of(trace, loaded, lengths=self._lengths)
        self._histogram.remember(demand, trace.duration_s)
        objective = loaded.config.planner.objective
        plan = await self._solver.plan(
            objective, demand, loaded.pools, self._running, loaded.limits
        )
        return await self._solver.certify(plan, demand, loaded.pools)

    @property
    def _running(self) -> tuple[int, ...]:
        return tuple(len(self._fleet.pool(pool.name)) for pool in self.pools)

    def _new_histogram(self, now_s: float) -> Histogram:
        settings = self._loaded.config.planner
        return Histogram(
            self._loaded.space,
            window_s=settings.window_s,
            memory_s=settings.memory_s,
            dispersion=settings.dispersion,
            now_s=now_s,
        )

    def _new_replanner(self, plan: Plan) -> Replanner:
        settings = self._loaded.config.planner
        return Replanner(
            plan=plan,
            pools=self.pools,
            running=self._running,
            policy=Policy(
                objective=settings.objective,
                min_requests=settings.min_requests,
                min_saving=settings.min_saving,
                patience=settings.patience,
                limits=self._loaded.limits,
            ),
            histogram=self._histogram,
            solver=self._solver,
            publish=self._publish,
        )

    def _publish(self, plan: Plan, reason: str) -> None:
        """Puts a plan in force: one assignment; requests under way keep their leases."""
        self.router.table = compile_table(plan, self.pools)
        self._reason = reason
        self._metrics.planned(plan)
        self.queue.wake()
        backends = ", ".join(f"{n} {c}" for n, c in zip(plan.pools, plan.backends, strict=True))
        log.info(
            "plan %s in force: %s, $%.2f/h (%s)", plan.plan_id, backends, plan.usd_per_hour, reason
        )

    def _observe(self, observation: Observation) -> None:
        """Everything that learns from a request learns here, once."""
        self._tally.observed(observation)
        inputs, outputs = observation.input_tokens, observation.output_tokens
        if inputs is not None and not observation.exact_input:
            self._tokens.learn(
                observation.model, observation.route, observation.prompt_bytes, inputs
            )
        if observation.outcome is not Outcome.OK:
            return
        if outputs is not None and observation.route != "embeddings":
            self._lengths.learn(
                observation.model, observation.key, observation.route, observation.estimated_input,
                observation.max_tokens, outputs,
            )  # fmt: skip

    def _drain(self) -> None:
        """Hands what happened on to those who count."""
        sums = self._tally.drain()
        self._histogram.add(sums, asyncio.get_running_loop().time())
        self._metrics.add(sums)

    def _background(self, loop: Any) -> None:
        task = asyncio.get_running_loop().create_task(loop)
        self._stack.callback(task.cancel)

    async def _listen(self) -> None:
        settings = self._settings
        self._routes = {path: route for route, path in PATHS.items()}
        self._cold = self._answers()
        bounds = Bounds(body_bytes=settings.max_body_bytes)
        self._listener = Listener(bounds, self._serve)
        self.port = await self._listener.listen(self.host, self.port)
        self._background(self._ticking())  # first: it goes on while the listener drains
        self._stack.push_async_callback(self._listener.close, settings.drain_s)
        log.info("listening on http://%s:%d", self.host, self.port)

    async def _ticking(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._exchange.tick(clock())
                self._drain()
            except Exception:
                log.exception("a look at what is overdue failed")

    def _answers(self) -> dict[str, Callable[[], Answer]]:
        """What is answered from state, by path."""
        return {
            "/v1/models": self._models,
            "/health": self._ready,
            "/readyz": self._ready,
            "/livez": lambda: _json({"status": "alive"}),
            "/metrics": self._scrape,
            "/cuvee/plan": lambda: _json(plan_json(self.plan) | {"reason": self._reason}),
        } | {
            f"/v1/models/{name}": partial(self._one_model, name)
            for name in self._loaded.config.models
        }

    def _serve(self, client: Inbound, request: Request) -> None:
        """Serves one request of the data port."""
        route = self._routes.get(request.path)
        if route is not None and request.method == b"POST" and not self._draining:
            self._exchange.serve(client, request, route)
            return
        try:
            status, kind, body = self._answer(request, route)
            head = status_line(status) + f"content-type: {kind}\r\n".encode()
            client.respond(head, body)
        except GatewayError as error:
            head = error_head(error)
            if isinstance(error, MethodNotAllowed):
                head += f"allow: {error.allowed}\r\n".encode()
            said = field(request.headers, b"x-request-id") or uuid4().hex.encode()
            client.respond(head + b"x-request-id: %b\r\n" % said, error.body())
        finally:
            client.done()

    def _answer(self, request: Request, route: str | None) -> Answer:
        """What needs no backend. Raises GatewayError."""
        cold = self._cold.get(request.path)
        if route is None and cold is None:
            raise NotFound(f"Unknown path: {request.path}")
        if route is not None and request.method == b"POST":
            raise Unavailable("The gateway is shutting down.", retry_after_s=1.0)
        if cold is None or request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed(request.path, "POST" if cold is None else "GET")
        return cold()

    def _scrape(self) -> Answer:
        self._drain()
        return 200, CONTENT_TYPE, self._metrics.text()

    def _models(self) -> Answer:
        models = [self._described(name) for name in self._loaded.config.models]
        return _json({"object": "list", "data": models})

    def _one_model(self, name: str) -> Answer:
        return _json(self._described(name))

    def _described(self, name: str) -> dict[str, Any]:
        longest = max(p.profile.max_model_len for p in self.pools if p.model == name)
        return {
            "id": name,
            "object": "model",
            "created": self._started,
            "owned_by": "cuvee",
            "max_model_len": longest,
        }

    def _ready(self) -> Answer:
        """Ready while every model has a live backend and the gateway is not draining."""
        now_s = asyncio.get_running_loop().time()
        live = {p.name: sum(b.live(now_s) for b in self._fleet.pool(p.name)) for p in self.pools}
        served = {p.model for p in self.pools if live[p.name]}
        ready = served >= set(self._loaded.config.models) and not self._leaving
        status = "ready" if ready else "draining" if self._leaving else "no backend"
        body = {"status": status, "live": live, "plan_id": self.plan.plan_id}
        return _json(body, status=200 if ready else 503)


def _json(value: Any, *, status: int = 200) -> Answer:
    return status, JSON, msgspec.json.encode(value)
