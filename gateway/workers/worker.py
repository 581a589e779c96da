"""The data plane of one process: everything that a request meets, and the tick.

Owns living state that is one process's own: its leases, breakers, learned lengths, queue and sums.
Knows no plan but as a table, and nobody who makes one.
"""

import asyncio
import logging
from collections import deque
from contextlib import AsyncExitStack
from math import ceil
from typing import Any, Final

import msgspec

from gateway.config.load import Loaded
from gateway.proxy.exchange import PATHS, Exchange
from gateway.proxy.http.client import ClientConnection
from gateway.proxy.http.listener import Listener
from gateway.proxy.http.pool import ConnectionPools
from gateway.proxy.http.request import ClientLimits, Request
from gateway.proxy.queue import Queue
from gateway.routing.backend import Backend, Fleet
from gateway.routing.estimator import Estimator
from gateway.routing.observation import Observation
from gateway.routing.peers import LoadView
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable
from gateway.telemetry.stats import Stats
from gateway.telemetry.stats_schema import StatsDelta
from gateway.workers.local import LocalEndpoints, readiness

log = logging.getLogger("cuvee")

TOGETHER: Final = 32  # requests that are learned from at once, which costs half of one by one
RECENT = 64  # requests that ended last, kept for whoever learns from a sample
TICK_S = 0.2  # between two looks at what is overdue
POLL_S = 0.05  # between two looks whether another worker's lease has made room for a queued request


def fleet_of(loaded: Loaded) -> Fleet:
    """The configured backends, none of them in use."""
    return Fleet({name: pool.backends for name, pool in loaded.config.pools.items()})


class Worker:
    """Serves the data port; an async context manager. recent: the requests that ended last."""

    def __init__(
        self,
        loaded: Loaded,
        table: RoutingTable,
        *,
        fleet: Fleet,
        estimator: Estimator,
        host: str,
        port: int,
        admin: str,
        load_view: LoadView | None = None,
    ) -> None:
        """port: 0 takes a free one. admin: base URL of the supervisor. seat: at the board, if other
        workers share the port."""
        self._loaded = loaded
        self._settings = settings = loaded.config.gateway
        self._estimator = estimator
        self._stats = Stats()
        self._connection_pools = ConnectionPools(connect_timeout_s=settings.connect_timeout_s)
        self._load_view = load_view
        self._clock = asyncio.get_running_loop().time
        self._routes = {path.encode(): route for route, path in PATHS.items()}
        self._leaving = self._closed = False
        self._ended: list[Observation] = []
        self._stack = AsyncExitStack()
        self.router = Router(table, fleet, max_load=settings.max_load, load_view=load_view)
        self._exchange = self._new_exchange()
        self._local_endpoints = LocalEndpoints(
            loaded, ready=self._ready, connection_pools=self._connection_pools, admin=admin
        )
        self.recent: deque[Observation] = deque(maxlen=RECENT)
        self.host, self.port = host, port

    def __repr__(self) -> str:
        return f"<Worker on {self.host}:{self.port}, {self.router!r}>"

    async def __aenter__(self) -> "Worker":
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._connection_pools)
            self._background(stack, self._ticking())  # first: it goes on while the listener drains
            if self._load_view is not None:
                self._background(stack, self._polling())
            await self._listen(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Takes no new requests, lets running ones finish, and stops."""
        self._leaving = self._closed = True
        await self._stack.aclose()

    @property
    def table(self) -> RoutingTable:
        """What is in force. Assigned: requests under way keep their leases."""
        return self.router.table

    @table.setter
    def table(self, table: RoutingTable) -> None:
        self.router.table = table
        self.queue.wake()

    @property
    def queue(self) -> Queue:
        """Where requests wait when everything is full."""
        return self._exchange.queue

    def drain(self) -> StatsDelta:
        """What happened since the last call."""
        self._learn()
        return self._stats.drain()

    def leave(self) -> None:
        """Not ready any more, but still serving, so that balancers notice."""
        self._leaving = True

    def looked(self) -> None:
        """All backends were probed: one may be back, or an engine have room again."""
        self.queue.wake()

    def lost(self, backend: Backend) -> None:
        """A backend no longer answers probes: nothing waits for its first byte any more."""
        self._exchange.timeouts.lost(backend)

    def _new_exchange(self) -> Exchange:
        part = ceil(self._settings.queue_requests / self._settings.workers)
        return Exchange(
            router=self.router,
            tokens=self._estimator.tokens,
            lengths=self._estimator.lengths,
            connection_pools=self._connection_pools,
            settings=msgspec.structs.replace(self._settings, queue_requests=part),
            arrived=self._stats.arrived,
            observe=self._observe,
            clock=self._clock,
        )

    async def _listen(self, stack: AsyncExitStack) -> None:
        limits = ClientLimits(body_bytes=self._settings.max_body_bytes)
        listener = Listener(limits, self._serve, shared=self._load_view is not None)
        self.port = await listener.listen(self.host, self.port)
        stack.push_async_callback(listener.close, self._settings.drain_s)

    def _background(self, stack: AsyncExitStack, loop: Any) -> None:
        stack.callback(asyncio.get_running_loop().create_task(loop).cancel)

    def _serve(self, client: ClientConnection, request: Request) -> None:
        """Serves one request of the data port."""
        route = self._routes.get(request.target.partition(b"?")[0])
        if route is not None and request.method == b"POST" and not self._closed:
            self._exchange.serve(client, request, route)
        else:
            self._local_endpoints.serve(client, request)

    def _observe(self, observation: Observation) -> None:
        """A request ended. It is learned from soon, together with others."""
        self._ended.append(observation)
        if len(self._ended) >= TOGETHER:
            self._learn()

    def _learn(self) -> None:
        """Everything that learns from a request learns here, once; sums are of every one."""
        ended, self._ended = self._ended, []
        for observation in ended:
            try:
                self._stats.observed(observation)
                if self._estimator.sample(observation):
                    self.recent.append(observation)
            except Exception:  # none is lost for another one
                log.exception("%r could not be learned from", observation)

    async def _ticking(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._learn()
                self._estimator.refill()
                self._exchange.timeouts.tick(self._clock())
                if self._load_view is not None:
                    self._load_view.refresh(self._clock())
            except Exception:
                log.exception("a look at what is overdue failed")

    async def _polling(self) -> None:
        """Other workers' leases end without a word: only asking again tells."""
        while True:
            await asyncio.sleep(POLL_S)
            self.queue.wake()

    def _ready(self) -> tuple[int, dict[str, Any]]:
        fleet, plan_id, now_s = self.router.fleet, self.table.plan_id, self._clock()
        if self._load_view is not None:
            self._load_view.refresh(now_s)
        return readiness(self._loaded, fleet, plan_id, now_s, leaving=self._leaving)
